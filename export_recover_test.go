//go:build unix && !aix && !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package semaphore

import "github.com/procsem/semaphore/internal/permits"

// SetPortable makes new recoverable semaphores have a lock file for each slot, and
// waiters poll.
func SetPortable(on bool) {
	fileLocksOnly.Store(on)
	recoverPolls.Store(on)
}

// Table returns the table of a recoverable semaphore.
func Table(s *Semaphore) *permits.Table { return s.back.(*recoverable).table }

// RecoverPolls says whether waiters of the recoverable engine poll.
func RecoverPolls() bool { return (*recoverable)(nil).polls() }
