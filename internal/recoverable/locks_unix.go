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

// duplicateLock returns another descriptor of an open file, and so of its locks.
func duplicateLock(f *os.File) (*os.File, error) { return store.Duplicate(f, f.Name()) }

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
	is, _ := store.IsAt(f, path)
	return is
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

func (l *fileLocks) seesClaim(f *os.File) (bool, error) { return filelock.Locked(f) }

// isSeen opens the slot's file by its name, as alive does for other slots.
func (l *fileLocks) isSeen(*os.File) (bool, error) { return l.alive(l.slot) }

func (l *fileLocks) duplicate() (*os.File, error) { return duplicateLock(l.own) }

func (l *fileLocks) lockClaim(f *os.File) (bool, error) { return filelock.TryLock(f) }

func (l *fileLocks) unlockClaim(f *os.File) error { return filelock.Close(f) }
