//go:build unix

package store

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"

	"github.com/procsem/semaphore/internal/engine"
)

// publishUnnamed, where the system has such a thing, is publish that leaves nothing
// behind whenever its process is killed, or errors.ErrUnsupported.
var publishUnnamed = func(dir, name string, fill func(*os.File) error, mode fs.FileMode) (*os.File, error) {
	return nil, errors.ErrUnsupported
}

// publish makes a file that appears under its name only when it is whole:
// whoever opens it, and whenever a creator is killed, finds all of it or
// nothing. It fails with fs.ErrExist if the name is taken.
func publish(dir, name string, fill func(*os.File) error, mode fs.FileMode) (*os.File, error) {
	f, err := publishUnnamed(dir, name, fill, mode)
	if !errors.Is(err, errors.ErrUnsupported) {
		return f, err
	}
	// A creator that is killed here leaves its temporary file behind. No process
	// opens that name, and no other creator uses it.
	temp := filepath.Join(dir, fmt.Sprintf("tmp.%d.%x", os.Getpid(), rand.Uint64()))
	f, err = os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, mode)
	if err != nil {
		return nil, err
	}
	if err = fill(f); err == nil {
		err = os.Link(temp, filepath.Join(dir, name))
	}
	os.Remove(temp)
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// OpenRegular opens a regular file without O_CREAT: in a sticky directory Linux
// refuses that on another user's file even where the mode allows its use
// (fs.protected_regular). It follows no symbolic link and blocks on nothing.
func OpenRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, engine.ErrNoSuch
	}
	var info fs.FileInfo
	if err == nil {
		info, err = f.Stat()
	} else if seen, statErr := os.Lstat(path); statErr == nil && !seen.Mode().IsRegular() {
		info, err = seen, nil // the reason why it could not be opened
	}
	if err == nil && !info.Mode().IsRegular() {
		err = engine.Because(engine.ErrCorrupt, "%s is no regular file but %v", path, info.Mode().Type())
	}
	if err != nil {
		if f != nil {
			f.Close()
		}
		return nil, err
	}
	return f, nil
}

// Filled returns the filler of a small file.
func Filled(content []byte) func(*os.File) error {
	return func(f *os.File) error {
		_, err := f.Write(content)
		return err
	}
}

// WriteZeros gives storage to a part of a file that was never used.
func WriteZeros(f *os.File, from, to int64) error {
	_, err := f.WriteAt(make([]byte, to-from), from)
	return err
}

// Remove removes a name.
func Remove(path string) error {
	err := syscall.Unlink(path)
	switch err {
	case syscall.ENOENT:
		return engine.ErrNoSuch
	case syscall.EPERM: // of a sticky directory; sem_unlink's error, by POSIX, is EACCES
		err = syscall.EACCES
	}
	if err != nil {
		return &os.PathError{Op: "unlink", Path: path, Err: err}
	}
	return nil
}

// NameGone reports whether an open file has lost its name.
func NameGone(f *os.File, path string) (bool, error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	return info.Sys().(*syscall.Stat_t).Nlink == 0, nil
}

// CheckOwner refuses a file that another user may have put there for us to find:
// its owner decides which processes it limits. Root can't be tricked into more than root's own
// files could do; a caller that only opens, or shares its semaphore with others by its
// mode, expects other owners.
func CheckOwner(f *os.File, o *engine.Options) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	owner := int(info.Sys().(*syscall.Stat_t).Uid)
	me := os.Geteuid()
	shares := o.Mode&0o022 != 0
	if owner == me || owner == 0 || me == 0 || !o.Create || shares {
		return nil
	}
	return fmt.Errorf("%w: it belongs to user %d, and would not have been created with a mode that lets others write; open it with WithCreate(false), or with WithMode(0666) or similar if it is to be shared",
		fs.ErrPermission, owner)
}
