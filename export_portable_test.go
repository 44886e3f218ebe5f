//go:build unix && !aix && !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package semaphore

// SetPortable makes new recoverable semaphores have a lock file for each slot, and
// waiters poll.
func SetPortable(on bool) {
	fileLocksOnly.Store(on)
	recoverPolls.Store(on)
}
