//go:build unix

// Package sharedlock is a lock for readers and writers of all processes, made of two
// semaphores. The adapters of this module put it in the place of flock(2).
package sharedlock

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/procsem/semaphore"
)

// readers is how many hold a Lock shared at once, at the most.
const readers = 16

// A Lock is held shared with one permit of the second semaphore, and alone with all of
// them. They are taken only by a process that holds the first, the gate: so two
// that take several never wait for each other, and no reader overtakes a writer that
// collects them.
type Lock struct {
	gate, permits *semaphore.Semaphore
	held          int // of permits, by this Lock
}

// Of returns the lock of an open file, whatever its name: like flock's it belongs to the
// inode.
func Of(fd uintptr) (*Lock, error) {
	var stat syscall.Stat_t
	if err := syscall.Fstat(int(fd), &stat); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	name := fmt.Sprintf("inode-%d-%d", stat.Dev, stat.Ino)
	gate, err := semaphore.OpenLimit(name+"-gate", 1)
	if err != nil {
		return nil, err
	}
	permits, err := semaphore.OpenLimit(name, readers)
	if err != nil {
		return nil, errors.Join(err, gate.Close())
	}
	return &Lock{gate: gate, permits: permits}, nil
}

// Lock waits until no other Lock is held.
func (l *Lock) Lock() error { return l.take((*semaphore.Semaphore).Wait, readers) }

// RLock waits until no other Lock is held alone.
func (l *Lock) RLock() error { return l.take((*semaphore.Semaphore).Wait, 1) }

// TryLock and TryRLock take the lock, or report that they would have to wait.
func (l *Lock) TryLock() (bool, error) { return l.try(readers) }

func (l *Lock) TryRLock() (bool, error) { return l.try(1) }

func (l *Lock) try(n int) (bool, error) {
	err := l.take((*semaphore.Semaphore).TryWait, n)
	if errors.Is(err, semaphore.ErrWouldBlock) {
		return false, nil
	}
	return err == nil, err
}

// take replaces what is held by n permits: as with flock, an attempt gives up
// what was held before.
func (l *Lock) take(wait func(*semaphore.Semaphore) error, n int) error {
	if err := l.Unlock(); err != nil {
		return err
	}
	if err := wait(l.gate); err != nil {
		return err
	}
	var err error
	for l.held < n && err == nil {
		if err = wait(l.permits); err == nil {
			l.held++
		}
	}
	if err != nil {
		err = errors.Join(err, l.Unlock())
	}
	return errors.Join(err, l.gate.Post())
}

// Unlock gives back what is held, if anything is.
func (l *Lock) Unlock() error {
	for l.held > 0 {
		if err := l.permits.Post(); err != nil {
			return err
		}
		l.held--
	}
	return nil
}

// Close gives back what is held, and closes the semaphores.
func (l *Lock) Close() error { return errors.Join(l.permits.Close(), l.gate.Close()) }
