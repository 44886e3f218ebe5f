//go:build unix

package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/filelock"
)

// Lock takes the lock under which semaphores of whatever kind are created: that of the
// directory itself, which leaves no file behind and goes when its holder dies. Those who
// create in different directories don't exclude each other, and don't see each other's files
// either. chosen is as for Dir.
func Lock(chosen string) (unlock func(), err error) {
	dir, err := Dir(chosen)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return func() {}, nil // no file of ours can be there or come there
	}
	if err != nil {
		return nil, fmt.Errorf("semaphore directory: %w", err)
	}
	locked, err := engine.Retry(Patience, 50*time.Microsecond, 5*time.Millisecond, func() (bool, error) { return filelock.TryLock(f) })
	if errors.Is(err, syscall.EBADF) {
		locked, err = true, nil // where locks are fcntl's (AIX), a directory can't have one
	}
	if !locked && err == nil {
		err = fmt.Errorf("another process has held the lock of %s for %v; is one stopped while opening a semaphore? (fuser -v %s)", dir, Patience, dir)
	}
	if err != nil {
		filelock.Close(f)
		return nil, err
	}
	return func() { filelock.Close(f) }, nil
}
