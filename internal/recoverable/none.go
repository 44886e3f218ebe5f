//go:build (!windows && (!unix || aix || filelock_fcntl)) || mips || mipsle || (arm && !arm.7)

// Package recoverable is the engine of semaphores whose permits have owners. This system
// lacks what it needs, and so has no such engine.
package recoverable
