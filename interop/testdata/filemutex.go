// The adapter for github.com/alexflint/go-filemutex, in the place of its
// filemutex_flock.go.

package filemutex

import (
	"errors"
	"syscall"

	"github.com/procsem/semaphore/interop/sharedlock"
)

type FileMutex struct {
	fd   int // that the tests put another number into
	lock *sharedlock.Lock
}

func New(filename string) (*FileMutex, error) {
	fd, err := syscall.Open(filename, syscall.O_CREAT|syscall.O_RDONLY|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	lock, err := sharedlock.Of(uintptr(fd))
	if err != nil {
		syscall.Close(fd)
		return nil, err
	}
	return &FileMutex{fd: fd, lock: lock}, nil
}

func (m *FileMutex) Lock() error { return m.do((*sharedlock.Lock).Lock) }

func (m *FileMutex) RLock() error { return m.do((*sharedlock.Lock).RLock) }

func (m *FileMutex) Unlock() error { return m.do((*sharedlock.Lock).Unlock) }

func (m *FileMutex) RUnlock() error { return m.Unlock() }

func (m *FileMutex) TryLock() error {
	return m.do(func(l *sharedlock.Lock) error {
		taken, err := l.TryLock()
		if err == nil && !taken {
			return AlreadyLocked
		}
		return err
	})
}

// do is an error without the file, as flock(2) is.
func (m *FileMutex) do(f func(*sharedlock.Lock) error) error {
	var stat syscall.Stat_t
	if err := syscall.Fstat(m.fd, &stat); err != nil {
		return err
	}
	return f(m.lock)
}

func (m *FileMutex) Close() error {
	return errors.Join(m.lock.Close(), syscall.Close(m.fd))
}
