package filelock

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore/internal/testhook"
)

func tryLockByte(f *os.File, at int64) (bool, error) {
	_, err := ofd(f, unix.F_OFD_SETLK, unix.F_WRLCK, at, 1)
	// EACCES, which POSIX allows in place of it, is never Linux's, but that of a filter.
	if err == unix.EAGAIN {
		return false, nil
	}
	return err == nil, wrap(f, err)
}

func unlockByte(f *os.File, at int64) error {
	_, err := ofd(f, unix.F_OFD_SETLK, unix.F_UNLCK, at, 1)
	return wrap(f, err)
}

func byteLocked(f *os.File, at, n int64) (bool, error) {
	kind, err := ofd(f, unix.F_OFD_GETLK, unix.F_WRLCK, at, n)
	return kind != unix.F_UNLCK, wrap(f, err)
}

func ofd(f *os.File, command int, kind int16, at, n int64) (found int16, err error) {
	if testhook.NoByteLocks.Load() {
		return 0, unix.EINVAL
	}
	lock := unix.Flock_t{Type: kind, Whence: io.SeekStart, Start: at, Len: n}
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	// Not f.Fd: f may be closed meanwhile, and its number be that of another file.
	if e := conn.Control(func(fd uintptr) {
		for {
			if err = unix.FcntlFlock(fd, command, &lock); err != unix.EINTR {
				return
			}
		}
	}); e != nil {
		return 0, e
	}
	return lock.Type, err
}

// wrap adds ErrUnsupported to an error that says that the kernel (before 3.15) or the
// filesystem has no such locks. ENOLCK does not: the kernel is out of memory for locks.
func wrap(f *os.File, err error) error {
	if err == nil {
		return nil
	}
	if err == unix.EINVAL || err == unix.EOPNOTSUPP {
		err = errors.Join(err, errors.ErrUnsupported)
	}
	return &os.PathError{Op: "fcntl", Path: f.Name(), Err: err}
}
