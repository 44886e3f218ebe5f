//go:build unix && !aix && !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package recoverable

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"syscall"

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

// reopenNamed opens the same file once more by its name; it fails with errVanished if the
// name is gone, or another file's.
func reopenNamed(f *os.File, path string) (*os.File, error) {
	again, err := store.OpenRegular(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errVanished
	}
	if err != nil {
		return nil, err
	}
	same, err := store.Same(f, again)
	if !same {
		again.Close()
		return nil, cmp.Or(err, errVanished)
	}
	return again, nil
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

// No filesystem is believed to show to one open file of a name what another one does: there
// are some on which two users of a semaphore would not see each other, and both be inside.
// So each Open checks with a second description, opened by the file's name, which it needs for
// the claim in any case: that the handle's own one sees the claim's lock, taken through the
// second; that the second sees the lock of the slot; and that memory mapped through the
// second has what was written into the slot. Permits are words of the same memory.

// seesClaim refuses a file whose lock of the claim, taken through another description, the
// handle's own does not see. Nothing of the file was changed.
func (h *handle) seesClaim(second *os.File) error {
	seen, err := h.locks.seesClaim(h.f)
	if err != nil || seen {
		return err
	}
	return store.Unseen(h.path, "the locks")
}

// isSeen refuses a file if the handle, which has just got its slot, is not seen through
// another description.
func (h *handle) isSeen(second *os.File) error {
	seen, err := h.locks.isSeen(second)
	if err != nil {
		return err
	}
	if !seen {
		return store.Unseen(h.path, "the locks")
	}
	memory, err := unix.MmapPtr(int(second.Fd()), 0, nil, permits.Size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return mapError(second, err)
	}
	defer unix.MunmapPtr(memory, permits.Size)
	if !h.owner.In(permits.At(memory)) {
		return store.Unseen(h.path, "the memory")
	}
	return nil
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
	locks, err := newFileLocks(head, f, path)
	if err != nil {
		return nil
	}
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
