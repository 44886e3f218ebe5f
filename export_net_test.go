//go:build linux || windows

package semaphore

// SetSafetyNet turns the safety net on or off, and returns what it was before.
func SetSafetyNet(on bool) (before bool) { return !netOff.Swap(!on) }

// Rescued returns how many waiters the net has saved.
func Rescued() int { return int(rescued.Load()) }
