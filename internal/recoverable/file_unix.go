//go:build unix && !aix && !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package recoverable

import (
	"errors"
	"os"
	"syscall"

	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/store"
)

// reopen opens the same file once more.
func reopen(f *os.File, path string) (*os.File, error) {
	again, err := store.OpenRegular(path)
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		return nil, err
	}
	if err == nil {
		a, errA := again.Stat()
		b, errB := f.Stat()
		if errA == nil && errB == nil && os.SameFile(a, b) {
			return again, nil
		}
		again.Close()
	}
	return reopenUnnamed(f) // the name is gone, or another's
}

// unlink removes the name, and the lock files of the dead.
func unlink(name string) error {
	path, err := pathOf(name)
	if err != nil {
		return err
	}
	f, openErr := store.OpenRegular(path)
	if err := store.Remove(path); err != nil || openErr != nil {
		if f != nil {
			f.Close()
		}
		return err
	}
	defer f.Close()
	head, err := readHead(f)
	if err != nil || head.Locks() != permits.FileLocks {
		return nil // a damaged file does not say which lock files are its own
	}
	// A claimer has the claim before it has the slot's file. One that claims after us
	// finds that the name is gone. The file of a dead owner that still holds, or is
	// counted as a waiter, stays: those that have the semaphore open need it to see
	// that the owner is dead.
	locks := &fileLocks{stem: lockStem(head, path)}
	if locked, err := locks.lockClaim(f); !locked || err != nil {
		return nil // the files of dead owners stay
	}
	defer filelock.Unlock(f)
	for s := range head.Slots() + 1 { // a claimer may have died before it was counted
		alive, err := locks.alive(s)
		if err != nil || alive {
			continue // a living owner removes its own
		}
		if table, err := permits.Read(f); err == nil && !table.HoldsOrWaits(s) {
			os.Remove(locks.path(s))
		}
	}
	return nil
}
