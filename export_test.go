package semaphore

// OpenHandles returns how many handles this process has open.
func OpenHandles() int {
	return len(openHandles(func(*Semaphore) bool { return true }))
}

// MaxName returns the length of the longest name.
func MaxName() int { return maxName() }

// NameUnit is what it is counted in.
func NameUnit() string {
	_, unit := nameLength("")
	return unit
}
