//go:build ((unix && !aix && !filelock_fcntl) || windows) && !mips && !mipsle && (!arm || arm.7)

package semaphore

import "github.com/procsem/semaphore/internal/permits"

// Table returns the table of a recoverable semaphore.
func Table(s *Semaphore) *permits.Table { return s.back.(*recoverable).table }
