//go:build linux || windows

package semaphore

// SetSafetyNet turns the safety net on or off.
func SetSafetyNet(on bool) { netOff.Store(!on) }

// Rescued returns how many waiters the net has saved.
func Rescued() int { return int(rescued.Load()) }
