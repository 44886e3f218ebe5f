//go:build unix && !aix && !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package recoverable

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/store"
)

// reopen opens the same file once more.
func reopen(f *os.File, path string) (*os.File, error) {
	again, err := reopenNamed(f, path)
	if err == nil || errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		return again, err
	}
	return reopenUnnamed(f) // the name is gone, or another's
}

// hasLostName reports whether a file has lost its name while we waited for the claim. The number of
// its names does not tell that if it had further ones (hard links).
func hasLostName(f *os.File, path string) (bool, error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	named, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return err == nil && !os.SameFile(info, named), err
}

// A fileID tells the files apart that are mapped. Beside the inode there is the semaphore's
// own number, for filesystems whose inode numbers are not as unique as they should be.
type fileID struct {
	inode  filelock.Inode
	number uint64
}

func identify(f *os.File, head *permits.Head) (fileID, error) {
	inode, err := filelock.InodeOf(f)
	return fileID{inode, head.ID()}, err
}

// mapError names the filesystem of a file that cannot be mapped.
func mapError(f *os.File, err error) error {
	if err == unix.ENODEV {
		return store.Unseen(f.Name(), "the memory")
	}
	return os.NewSyscallError("mmap", err)
}

// viewOf maps a file to look at it once.
func viewOf(f *os.File) (memory unsafe.Pointer, unmap func(), err error) {
	memory, err = unix.MmapPtr(int(f.Fd()), 0, nil, permits.Size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, mapError(f, err)
	}
	return memory, func() { unix.MunmapPtr(memory, permits.Size) }, nil
}

// unlink removes the name, and the lock files of the dead.
func unlink(dir, name string) error {
	path, err := pathOf(dir, name)
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
	head, older := readHead(f)
	if head == nil || head.Locks() != permits.FileLocks {
		return nil // a damaged file does not say which lock files are its own
	}
	// A claimer has the claim before it has the slot's file. One that claims after us
	// finds that the name is gone. The file of a dead owner that still holds, or is
	// counted as a waiter, stays: those that have the semaphore open need it to see
	// that the owner is dead.
	locks, err := newFileLocks(head, f, path)
	if err != nil {
		return nil
	}
	if locked, err := locks.lockClaim(f); !locked || err != nil {
		return nil // the files of dead owners stay
	}
	defer filelock.Unlock(f)
	if older != nil {
		if alive, err := olderAlive(head, f, locks); err == nil && !alive {
			removeLockFiles(head, locks)
		}
		return nil
	}
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

func removeName(_ *permits.Head, path string) error { return store.Remove(path) }

// replaceFile puts a new file in the place of f.
func replaceFile(_ *permits.Head, f *os.File, path string, fill func(*os.File) error) error {
	return store.Replace(f, path, fill)
}

// removeLockFiles removes the lock files of a file without a name that nobody has open. What is not to be trusted, or
// is locked, stays: the number by which they are named may be another semaphore's, for a file's owner can write any.
// If we are killed before it, those of dead owners are left for good.
func removeLockFiles(head *permits.Head, locks slotLocks) {
	l, is := locks.(*fileLocks)
	if !is {
		return
	}
	for s := range head.Slots() + 1 { // a claimer may have died before it was counted
		if alive, err := l.alive(s); err == nil && !alive {
			os.Remove(l.path(s))
		}
	}
}
