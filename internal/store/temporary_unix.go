//go:build unix

package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/procsem/semaphore/internal/filelock"
)

// mostSwept bounds what one creator does for those before it.
const mostSwept = 64

// mostLost is how often a creator may lose its file to a sweeper: more only if the filesystem
// does not show it under its name.
const mostLost = 100

// OpenTemporary makes an empty file with a temporary name, which nobody else uses, and locks
// it. The caller removes the name before it unlocks or closes the file.
//
// A creator that is killed leaves that name behind, and a later one removes it, but never a
// living creator's: the name is removed only by a process that has the lock of its file, and
// found then that the name is that file's. A creator takes the lock first, and then looks
// for the name. If a sweeper had the lock before, either the creator does not get it, or the
// name is gone when it looks, and it starts again: it has written nothing yet. If the creator
// had it before, no sweeper gets it while the creator lives and needs the name. The kernel
// drops the lock of a creator that dies. A sweeper that dies leaves the file to the next.
//
// No name is used twice (it is random), so the name that a sweeper has found to be its file's
// is not another one's when it is removed.
func OpenTemporary(dir string, mode fs.FileMode) (*os.File, error) {
	return openNarrowed(mode, func(mode fs.FileMode) (*os.File, error) {
		return openTemporaryAs(dir, mode)
	}, func(f *os.File) {
		os.Remove(f.Name())
		filelock.Close(f)
	})
}

func openTemporaryAs(dir string, mode fs.FileMode) (*os.File, error) {
	for range mostLost {
		temp := tempName(dir)
		f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, mode)
		if err != nil {
			return nil, &os.PathError{Op: "create a file in", Path: dir, Err: errors.Unwrap(err)}
		}
		locked, err := filelock.TryLock(f)
		if locked && err == nil {
			if locked, err = IsAt(f, temp); locked {
				return f, nil
			}
		}
		if err != nil {
			os.Remove(temp)
		}
		filelock.Close(f)
		if err != nil {
			return nil, err
		}
	}
	return nil, Unseen(tempName(dir), "the inode")
}

// IsAt reports whether a name is an open file's. It does not ask for the number of the
// file's names: a filesystem of FUSE keeps an open file under another one.
func IsAt(f *os.File, path string) (bool, error) {
	named, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	opened, err := f.Stat()
	return err == nil && os.SameFile(named, opened), err
}

// Sweep removes temporary names of this user's creators that were killed. It may have been
// after the file had got its final name, too: that file is then as whole as any, and its lock
// is had for a moment only.
func Sweep(dir string) {
	d, err := os.Open(dir)
	if err != nil {
		return
	}
	defer d.Close()
	entries, _ := d.Readdirnames(-1)
	swept := 0
	for _, name := range entries {
		path := filepath.Join(dir, name)
		if !strings.HasPrefix(name, tempPrefix) || !isOwn(path) {
			continue
		}
		if swept++; swept > mostSwept {
			return
		}
		sweepOne(path)
	}
}

func isOwn(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && int(info.Sys().(*syscall.Stat_t).Uid) == os.Geteuid()
}

func sweepOne(temp string) {
	f, err := OpenRegular(temp)
	if err != nil {
		return
	}
	defer filelock.Close(f)
	if locked, err := filelock.TryLock(f); err != nil || !locked {
		return
	}
	if named, err := IsAt(f, temp); err == nil && named {
		os.Remove(temp)
	}
}
