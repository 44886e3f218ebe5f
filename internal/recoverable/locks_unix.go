//go:build unix && !aix && !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package recoverable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/store"
)

// The locks that tell which owners live: open-file-description locks on a byte for each
// slot, or where there are none flocks of a file for each slot. The creator of the
// semaphore's file decides; the header says which.

// chooseLocks says which locks a new file's handles have.
func chooseLocks(f *os.File) (permits.Locks, error) {
	_, err := filelock.ByteLocked(f, permits.ClaimByte, 1)
	if errors.Is(err, errors.ErrUnsupported) {
		return permits.FileLocks, nil
	}
	return permits.ByteLocks, err
}

func newLocks(head *permits.Head, f *os.File, path string) (slotLocks, error) {
	switch head.Locks() {
	case permits.RangeLocks:
		return nil, engine.Because(engine.ErrUnsupported, "%s was made by a program for Windows", path)
	case permits.ByteLocks:
		if _, err := filelock.ByteLocked(f, permits.ClaimByte, 1); err != nil {
			return nil, fmt.Errorf("%s needs open-file-description locks: %w", path, err)
		}
		return &byteLocks{f: f, slot: -1}, nil
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return &fileLocks{stem: lockStem(head, path), mode: info.Mode().Perm()}, nil
}

// byteLocks are locks of the handle's own description of the semaphore's file.
type byteLocks struct {
	f    *os.File
	slot int // -1: none
}

func (l *byteLocks) lock(slot int) (bool, error) {
	locked, err := filelock.TryLockByte(l.f, permits.SlotByte+int64(slot))
	if locked {
		l.slot = slot
	}
	return locked, err
}

func (l *byteLocks) unlock() error {
	if l.slot < 0 {
		return nil
	}
	return filelock.UnlockByte(l.f, permits.SlotByte+int64(l.slot))
}

// alive must not be asked of the own slot: the kernel never reports locks of the
// description that asks.
func (l *byteLocks) alive(slot int) (bool, error) {
	return filelock.ByteLocked(l.f, permits.SlotByte+int64(slot), 1)
}

func (l *byteLocks) anyAlive(int, func(int) bool) (bool, error) {
	return filelock.ByteLocked(l.f, permits.SlotByte, permits.MaxSlots)
}

func (l *byteLocks) duplicate() (*os.File, error) { return store.Duplicate(l.f, l.f.Name()) }

func (l *byteLocks) lockClaim(f *os.File) (bool, error) {
	return filelock.TryLockByte(f, permits.ClaimByte)
}

// unlockClaim unlocks, and does not only close: a process that was forked meanwhile
// has the descriptor too.
func (l *byteLocks) unlockClaim(f *os.File) error {
	return errors.Join(filelock.UnlockByte(f, permits.ClaimByte), f.Close())
}

// fileLocks are flocks of a file for each slot, named after the semaphore's
// number, not its name: a semaphore that was unlinked goes on beside its successor.
// An owner that closes removes its file; one that dies leaves it to the slot's next
// owner.
type fileLocks struct {
	stem string
	mode fs.FileMode // the semaphore's
	slot int
	own  *os.File
}

func lockStem(head *permits.Head, path string) string {
	return filepath.Join(filepath.Dir(path), fmt.Sprintf("rlk.%016x.", head.ID()))
}

func (l *fileLocks) path(slot int) string { return fmt.Sprint(l.stem, slot) }

func (l *fileLocks) lock(slot int) (bool, error) {
	path := l.path(slot)
	for {
		// Not O_CREAT on what may be another user's; see store.OpenRegular.
		f, err := store.OpenRegular(path)
		if errors.Is(err, fs.ErrNotExist) {
			f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, l.mode)
			if errors.Is(err, fs.ErrExist) {
				continue
			}
			if err == nil {
				err = f.Chmod(l.mode) // the umask had its say when the semaphore was made
			}
		}
		if err != nil {
			if f != nil {
				f.Close()
			}
			return false, err
		}
		locked, err := filelock.TryLock(f)
		if !locked {
			f.Close()
			return false, err
		}
		if l.isAt(f, path) {
			l.slot, l.own = slot, f
			return true, nil
		}
		filelock.Close(f) // its owner has removed it since we opened it
	}
}

func (l *fileLocks) unlock() error {
	if l.own == nil {
		return nil
	}
	var err error
	if l.isAt(l.own, l.path(l.slot)) {
		err = os.Remove(l.path(l.slot))
	}
	if errors.Is(err, fs.ErrPermission) {
		err = nil // another user's, in a sticky directory: it stays for the next owner
	}
	return errors.Join(err, filelock.Close(l.own))
}

// isAt reports whether f is the file of that name.
func (l *fileLocks) isAt(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(path)
	return err == nil && os.SameFile(a, b)
}

func (l *fileLocks) alive(slot int) (bool, error) {
	f, err := os.OpenFile(l.path(slot), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		// A dead owner leaves its file. To take the owner for dead would let one
		// too many in.
		return false, engine.Because(engine.ErrCorrupt, "%s was removed, and with it the lock that tells whether a handle lives; unlink the semaphore once no process uses it", l.path(slot))
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	return filelock.Locked(f)
}

func (l *fileLocks) anyAlive(slots int, occupied func(slot int) bool) (bool, error) {
	for s := range slots {
		if !occupied(s) {
			continue
		}
		if alive, err := l.alive(s); (alive || err != nil) && occupied(s) {
			return alive, err
		}
	}
	return false, nil
}

func (l *fileLocks) duplicate() (*os.File, error) { return store.Duplicate(l.own, l.own.Name()) }

func (l *fileLocks) lockClaim(f *os.File) (bool, error) { return filelock.TryLock(f) }

func (l *fileLocks) unlockClaim(f *os.File) error { return filelock.Close(f) }
