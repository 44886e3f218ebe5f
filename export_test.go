package semaphore

// Waiting returns how many goroutines are in the handle's queue.
func Waiting(s *Semaphore) int { return s.queue.Len() }

// Inside returns how many calls on the handle are in progress, its server
// among them.
func Inside(s *Semaphore) int { return int(s.life.Load() &^ closedBit) }

// OpenHandles returns how many handles this process has open.
func OpenHandles() int {
	return len(openHandles(func(*Semaphore) bool { return true }))
}

// MaxName returns the length of the longest name.
func MaxName() int { return maxName }

// NameUnit is what it is counted in.
func NameUnit() string {
	_, unit := nameLength("")
	return unit
}

// SetMaxName changes it.
func SetMaxName(n int) { maxName = n }
