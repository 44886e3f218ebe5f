//go:build unix && !aix && !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package semaphore

import "github.com/procsem/semaphore/internal/filelock"

// Portable makes new recoverable semaphores have a lock file for each slot, and
// waiters poll.
func Portable() (restore func()) {
	locks, polls := filelock.SetNoByteLocks(true), recoverPolls.Swap(true)
	return func() {
		filelock.SetNoByteLocks(locks)
		recoverPolls.Store(polls)
	}
}
