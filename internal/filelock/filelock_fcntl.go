//go:build aix || (unix && filelock_fcntl)

package filelock

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
)

// POSIX record locks belong to the process: they do not exclude its own other
// descriptors of the same file, and closing any of these drops the lock. So within the
// process a table by inode says which os.File has the lock. While one has it, Close of
// the others only adds them to its list, and Unlock closes them.
//
// The build tag filelock_fcntl selects this variant on systems that have flock, to test
// it there.

type owner struct {
	f     *os.File
	close []*os.File // Close was called while f had the lock
}

var (
	mu     sync.Mutex
	owners = make(map[Inode]*owner)
)

func tryLock(f *os.File) (bool, error) {
	mu.Lock()
	defer mu.Unlock()
	i, err := InodeOf(f)
	if err != nil {
		return false, err
	}
	if o := owners[i]; o != nil {
		return o.f == f, nil
	}
	switch err := setLock(f, syscall.F_WRLCK); err {
	case nil:
		owners[i] = &owner{f: f}
		return true, nil
	case syscall.EAGAIN, syscall.EACCES:
		return false, nil
	default:
		return false, &os.PathError{Op: "fcntl", Path: f.Name(), Err: err}
	}
}

func unlock(f *os.File) error {
	mu.Lock()
	defer mu.Unlock()
	return release(f)
}

func release(f *os.File) error {
	i, err := InodeOf(f)
	if err != nil {
		return err
	}
	o := owners[i]
	if o == nil || o.f != f {
		return nil
	}
	if err := setLock(f, syscall.F_UNLCK); err != nil {
		return &os.PathError{Op: "unlock", Path: f.Name(), Err: err}
	}
	delete(owners, i)
	for _, late := range o.close {
		late.Close()
	}
	return nil
}

func closeFile(f *os.File) error {
	mu.Lock()
	defer mu.Unlock()
	if err := release(f); err != nil {
		return errors.Join(err, abandon(f))
	}
	i, err := InodeOf(f)
	if err != nil {
		return err
	}
	if o := owners[i]; o != nil {
		o.close = append(o.close, f)
		return nil
	}
	return f.Close()
}

// abandon closes f, whose lock could not be released: closing drops it.
func abandon(f *os.File) error {
	if i, err := InodeOf(f); err == nil {
		if o := owners[i]; o != nil && o.f == f {
			delete(owners, i)
			for _, late := range o.close {
				late.Close()
			}
		}
	}
	return f.Close()
}

func setLock(f *os.File, kind int16) error {
	lock := syscall.Flock_t{Type: kind, Whence: io.SeekStart, Start: 0, Len: 0}
	for {
		if err := syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &lock); err != syscall.EINTR {
			return err
		}
	}
}
