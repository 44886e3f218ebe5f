package recoverable

import (
	"os"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/permits"
)

// On Windows the locks that tell which owners live are LockFileEx's on bytes beyond the
// file's end. The kernel drops them when the process ends, before it says that it has;
// after a TerminateProcess some time may pass before that (LockFileEx).

func chooseLocks(*os.File) (permits.Locks, error) { return permits.RangeLocks, nil }

func newLocks(head *permits.Head, f *os.File, path string) (slotLocks, error) {
	if head.Locks() != permits.RangeLocks {
		return nil, engine.Because(engine.ErrUnsupported, "%s was not made by a program for Windows", path)
	}
	return newByteLocks(head, f), nil
}

func duplicateLock(*os.File) (*os.File, error) {
	return nil, engine.Because(engine.ErrUnsupported, "on Windows a lock ends with the process that took it, whichever other process has its handle")
}
