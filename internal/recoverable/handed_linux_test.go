//go:build !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package recoverable_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
	. "github.com/procsem/semaphore/internal/testkit"
)

func recoverableEngine() *engine.Engine {
	all := engine.Registered()
	return all[slices.IndexFunc(all, func(e *engine.Engine) bool { return e.Name == Recoverable.String() })]
}

// Permits that were handed to open files are theirs, whatever becomes of the handle that took them, and
// what others hold is not. A file has one.
func TestHandTo(t *testing.T) {
	if !HasByteLocks() {
		t.Skip("not on this system: open-file-description locks")
	}
	defer Rescuing()()
	name := UniqueName(t)
	s := Open(t, name, Recoverable, semaphore.WithValue(3))
	f, err := os.OpenFile(StoreFile(Recoverable, name), os.O_RDWR, 0)
	Must(t, err)
	defer f.Close()
	value := func(what string, want int) {
		t.Helper()
		n, err := s.Value()
		Must(t, err)
		if n != want {
			t.Errorf("%s: %d are free, want %d", what, n, want)
		}
	}
	other, err := os.OpenFile(StoreFile(Recoverable, name), os.O_RDWR, 0)
	Must(t, err)
	defer other.Close()
	taker := Open(t, name, Recoverable)
	for _, f := range []*os.File{f, other} {
		p, err := taker.TryAcquire()
		Must(t, err)
		Must(t, engine.HandTo(p, f, os.Getpid()))
		Must(t, p.Release())
		if p.Slots() != nil {
			t.Error("a Permit that was handed over has a number")
		}
		WantErr(t, "HandTo of what was handed over", engine.HandTo(p, f, os.Getpid()), semaphore.ErrNotHeld)
	}
	value("two were handed over", 1)
	p, err := taker.TryAcquire()
	Must(t, err)
	WantErr(t, "HandTo of a second one to the same file", engine.HandTo(p, f, os.Getpid()), semaphore.ErrInvalidValue)
	lock, err := taker.LockFile()
	Must(t, err)
	defer lock.Close()
	if _, err := recoverableEngine().Handed(name, lock, true, &engine.Options{}); !errors.Is(err, semaphore.ErrInvalidValue) {
		t.Errorf("Handed of a handle's LockFile: %v, want ErrInvalidValue", err)
	}
	if n := p.Slots(); len(n) != 1 {
		t.Errorf("a Permit that was not handed over has the numbers %v", n)
	}
	value("a third one was not handed over", 0)
	Must(t, lock.Close())
	Must(t, taker.Close())
	value("the taker is closed", 1)

	last, err := s.TryAcquire()
	Must(t, err)
	waiting := Blocked(t, s, func() error { p, err := s.Acquire(context.Background()); _ = p; return err })
	n, err := recoverableEngine().Handed(name, f, false, &engine.Options{})
	if err != nil || n != 1 {
		t.Errorf("the file has %d, %v, want 1", n, err)
	}
	Must(t, f.Close()) // nobody reports that
	Must(t, Result(t, waiting))
	value("a file is closed", 0)
	Must(t, other.Close())
	value("both files are closed", 1)
	Must(t, last.Release())
	if _, err := recoverableEngine().Handed(name, f, true, &engine.Options{}); !errors.Is(err, os.ErrClosed) && !errors.Is(err, semaphore.ErrInvalidValue) {
		t.Errorf("of a closed file: %v", err)
	}
}

// What an open file has is given back at once.
func TestHandedBack(t *testing.T) {
	if !HasByteLocks() {
		t.Skip("not on this system: open-file-description locks")
	}
	name := UniqueName(t)
	s := Open(t, name, Recoverable, semaphore.WithValue(1))
	f, err := os.OpenFile(StoreFile(Recoverable, name), os.O_RDWR, 0)
	Must(t, err)
	defer f.Close()
	for range 3 {
		p, err := s.TryAcquire()
		Must(t, err)
		Must(t, engine.HandTo(p, f, os.Getpid()))
		waiting := Blocked(t, s, s.Wait)
		n, err := recoverableEngine().Handed(name, f, true, &engine.Options{})
		if err != nil || n != 1 {
			t.Fatalf("gave back %d, %v, want 1", n, err)
		}
		Must(t, Result(t, waiting))
		Must(t, s.Post())
	}
	if slots := Table(s).Slots(); slots > 2 {
		t.Errorf("%d slots were used, two are enough", slots)
	}
}
