//go:build unix

// An Open that fails changes nothing in the semaphore that exists. Each error that Open can
// return for one is made here, or by the tests named in this file's comments.

package environment_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/store"
	"github.com/procsem/semaphore/internal/testhook"
	. "github.com/procsem/semaphore/internal/testkit"
)

// wanted is another value, and limit, than the semaphores of these tests have: an Open that
// succeeds makes it the limit of a recoverable one that no process has open.
const wanted = 7

// refuses fails the test unless Open returns that error, and changes nothing.
func refuses(t *testing.T, what string, e semaphore.Engine, name string, want error, opts ...semaphore.Option) {
	t.Helper()
	unchanged := Unchanging(t, e, name)
	s, err := semaphore.Open(name, append([]semaphore.Option{semaphore.WithEngine(e), semaphore.WithValue(wanted)}, opts...)...)
	if err == nil {
		s.Close()
	}
	WantErr(t, what, err, want)
	unchanged(what)
}

// ErrCorrupt has tests of its own, over many damaged files: TestFlockRefusesWhatIsNoSemaphore,
// TestRecoverableRefusesWhatIsNoSemaphore and the fuzzing. So has ErrLimitMismatch, in
// TestLimitOfAnExistingOne, and ErrTableFull, in TestFullTable.
func TestRefusedOpenChangesNothing(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		NeedFile(t, e)
		name := UniqueName(t)
		Must(t, Open(t, name, e, semaphore.WithValue(3)).Close())
		exclusive, existing := semaphore.WithExclusive(true), semaphore.WithCreate(false)

		refuses(t, "exclusive", e, name, fs.ErrExist, exclusive)
		refuses(t, "an exclusive Open that creates nothing", e, name, semaphore.ErrInvalidOption, exclusive, existing)
		refuses(t, "a mode of more than permissions", e, name, semaphore.ErrInvalidOption, semaphore.WithMode(0o1777))
		refuses(t, "a negative value", e, name, semaphore.ErrInvalidValue, semaphore.WithValue(-1))

		other := semaphore.EngineFlock
		if e == other {
			other = semaphore.EngineRecoverable
		}
		if HasEngine(other) {
			another := StoreFile(other, name)
			Must(t, os.WriteFile(another, []byte("of another kind"), 0o600))
			refuses(t, "two kinds", e, name, semaphore.ErrKindMismatch)
			refuses(t, "two kinds, without create", e, name, semaphore.ErrKindMismatch, existing)
			refuses(t, "two kinds, exclusive", e, name, semaphore.ErrKindMismatch, exclusive)
			Must(t, os.Remove(another))
		}

		if Owns(e) {
			refuses(t, "a mode without the owner's rights", e, name, semaphore.ErrInvalidOption, semaphore.WithMode(0o400))
			refuses(t, "a limit of 0", e, name, semaphore.ErrInvalidValue, semaphore.WithValue(0))
			refuses(t, "a limit too high", e, name, semaphore.ErrInvalidValue, semaphore.WithValue(permits.MaxPermits+1))
			claimed(t, name)
		}
		outOfDescriptors(t, e, name)
	})
}

// claimed: a process that is stopped has the lock of the claim.
func claimed(t *testing.T, name string) {
	f, err := os.OpenFile(StoreFile(Recoverable, name), os.O_RDWR, 0)
	Must(t, err)
	defer f.Close()
	locked, err := filelock.TryLockByte(f, permits.ClaimByte)
	if errors.Is(err, errors.ErrUnsupported) {
		locked, err = filelock.TryLock(f)
	}
	if !locked {
		t.Fatal("the claim's lock: ", err)
	}
	old := store.Patience
	store.Patience = 10 * time.Millisecond
	defer func() { store.Patience = old }()
	unchanged := Unchanging(t, Recoverable, name)
	if s, err := semaphore.Open(name, semaphore.WithRecovery(true), semaphore.WithValue(wanted)); err == nil {
		s.Close()
		t.Error("Open beside another's claim")
	}
	unchanged("another's claim")
}

// keepLock is lockCounter that makes this process's operations which need the lock give up soon.
func keepLock(t *testing.T, name string) (drop func()) {
	drop = lockCounter(t, name)
	old := store.Patience
	store.Patience = 10 * time.Millisecond
	t.Cleanup(func() { store.Patience = old })
	return drop
}

// lockCounter takes a flock-counter's lock, which only the function that it returns drops.
func lockCounter(t *testing.T, name string) (drop func()) {
	f, err := os.OpenFile(StoreFile(semaphore.EngineFlock, name), os.O_RDWR, 0)
	Must(t, err)
	if locked, err := filelock.TryLock(f); !locked {
		t.Fatal("the counter's lock: ", err)
	}
	return func() { Must(t, filelock.Close(f)) }
}

// A user who may open a flock-counter's file can lock it and keep the lock. That holds up a
// Post and a Release for a while, not for ever: they fail, change nothing, and can be
// repeated.
func TestPostBesideAKeptLock(t *testing.T) {
	name := UniqueName(t)
	s := Open(t, name, semaphore.EngineFlock, semaphore.WithValue(1))
	p, err := s.Acquire(t.Context())
	Must(t, err)
	drop := keepLock(t, name)
	for _, op := range []struct {
		name string
		call func() error
	}{{"Post", s.Post}, {"Release", p.Release}} {
		if err := Result(t, InBackground(op.call)); err == nil || !strings.Contains(err.Error(), "nothing was posted") {
			t.Errorf("%s beside a kept lock: got %v, want that nothing was posted", op.name, err)
		}
		if n, err := s.Value(); n != 0 || err != nil {
			t.Errorf("after %s: value %d, %v; want 0", op.name, n, err)
		}
	}
	drop()
	Must(t, p.Release())
	if n, err := s.Value(); n != 1 || err != nil {
		t.Errorf("after the second Release: value %d, %v; want 1", n, err)
	}
}

// Permits that no caller gives are given once the lock is dropped, and only once: those that
// a Close gives back, with a Post that fails beside it, and one that came as its Wait ended.
func TestGivingBackBesideAKeptLock(t *testing.T) {
	const all = 4
	setup := func(t *testing.T, opts ...semaphore.Option) (s, other *semaphore.Semaphore) {
		name := UniqueName(t)
		other = Open(t, name, semaphore.EngineFlock, semaphore.WithValue(all))
		return Open(t, name, semaphore.EngineFlock, opts...), other
	}
	comesBack := func(t *testing.T, s, other *semaphore.Semaphore, drop func()) {
		if n, err := other.Value(); n == all || err != nil {
			t.Errorf("beside the kept lock: value %d, %v", n, err)
		}
		drop()
		WaitFor(t, "the end of the giving back", func() bool { return testhook.Inspect(s).Inside == 0 })
		if n, err := other.Value(); n != all || err != nil {
			t.Errorf("value %d, %v; want %d", n, err, all)
		}
	}
	t.Run("Close", func(t *testing.T) {
		s, other := setup(t, semaphore.WithCloseOnExit(true))
		Must(t, s.Wait())
		Must(t, s.Wait())
		for range 2 {
			_, err := s.Acquire(t.Context())
			Must(t, err)
		}
		drop := keepLock(t, s.Name())
		Must(t, Result(t, InBackground(s.Close)))
		comesBack(t, s, other, drop)
	})
	t.Run("Post and Close", func(t *testing.T) {
		s, other := setup(t, semaphore.WithCloseOnExit(true))
		Must(t, s.Wait())
		drop := keepLock(t, s.Name())
		store.Patience = 200 * time.Millisecond
		posted := InBackground(s.Post)
		WaitFor(t, "the Post", func() bool { return testhook.Inspect(s).Inside == 1 })
		Must(t, Result(t, InBackground(s.Close)))
		if err := Result(t, posted); err == nil {
			t.Error("Post beside the kept lock: nil")
		}
		comesBack(t, s, other, drop)
	})
	t.Run("WaitContext", func(t *testing.T) {
		s, other := setup(t)
		ctx := &endsAtTaking{Context: t.Context(), taken: func() bool {
			n, err := other.Value()
			return n < all && err == nil
		}}
		var drop func()
		ctx.ending = func() { drop = keepLock(t, s.Name()) }
		WantErr(t, "WaitContext", Result(t, InBackground(func() error { return s.WaitContext(ctx) })), context.Canceled)
		comesBack(t, s, other, drop)
	})
}

// CloseAll waits a second for what it gives back, and says if that does not suffice.
func TestCloseAllBesideAKeptLock(t *testing.T) {
	var log SyncBuffer
	s := Open(t, UniqueName(t), semaphore.EngineFlock, semaphore.WithCloseOnExit(true),
		semaphore.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	Must(t, s.Wait())
	drop := keepLock(t, s.Name())
	Must(t, Result(t, InBackground(semaphore.CloseAll)))
	if want := "not all permits were given back yet"; !strings.Contains(log.String(), want) {
		t.Errorf("it says %q, want that %s", log.String(), want)
	}
	drop()
	WaitFor(t, "the end of the giving back", func() bool { return testhook.Inspect(s).Inside == 0 })
	if n, err := Open(t, s.Name(), semaphore.EngineFlock).Value(); n != 1 || err != nil {
		t.Errorf("value %d, %v; want 1", n, err)
	}
}

// endsAtTaking is a context that ends in the moment in which a permit was taken.
type endsAtTaking struct {
	context.Context
	taken  func() bool
	ending func()
	ended  bool
}

func (c *endsAtTaking) Err() error {
	if !c.ended && c.taken() {
		c.ended = true
		c.ending()
	}
	if c.ended {
		return context.Canceled
	}
	return nil
}

// outOfDescriptors opens with none left, with one left, and so on until Open succeeds: so
// it fails wherever it needs a descriptor.
func outOfDescriptors(t *testing.T, e semaphore.Engine, name string) {
	var limit unix.Rlimit
	Must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	free, err := unix.Dup(0)
	Must(t, err)
	unix.Close(free)
	for left := 0; ; left++ {
		unchanged := Unchanging(t, e, name)
		fewer := limit
		set(&fewer.Cur, free+left)
		Must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &fewer))
		s, err := semaphore.Open(name, semaphore.WithEngine(e), semaphore.WithValue(wanted))
		Must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
		if err == nil {
			Must(t, s.Close())
			if left == 0 {
				t.Error("Open needs no descriptor: this shows nothing")
			}
			return
		}
		WantErr(t, "Open without descriptors", err, syscall.EMFILE)
		unchanged("no descriptor")
	}
}

// set is an assignment: Cur has another type on FreeBSD.
func set[N int64 | uint64](to *N, n int) { *to = N(n) }

// Where there is no room for a higher limit, Open keeps the lower one, and whatever a dead
// holder has left for its successors.
func TestRefusedOpenWithoutSpace(t *testing.T) {
	NeedRoot(t)
	NeedEngine(t, Recoverable)
	EachVariant(t, func(t *testing.T) {
		dir := SmallFilesystem(t, 64<<10)
		Must(t, Open(t, "x", Recoverable, semaphore.WithValue(3)).Close())
		os.WriteFile(filepath.Join(dir, "full"), make([]byte, 64<<10), 0o600) // as much as there is
		refuses(t, "no space", Recoverable, "x", syscall.ENOSPC, semaphore.WithValue(60_000))
		s := Open(t, "x", Recoverable)
		Becomes(t, s, 3)
	})
}

// Whoever may not use a semaphore does not change it either.
func TestRefusedUserChangesNothing(t *testing.T) {
	NeedRoot(t)
	NeedSeteuid(t)
	for _, e := range []semaphore.Engine{semaphore.EngineFlock, semaphore.EngineRecoverable} {
		if !HasEngine(e) {
			continue
		}
		name := UniqueName(t)
		Must(t, Open(t, name, e, semaphore.WithValue(3)).Close())
		path := StoreFile(e, name)
		const someone = 12345
		Must(t, os.Chown(path, someone, someone))
		for what, mode := range map[string]fs.FileMode{"another user's": 0o666, "one without rights": 0o600} {
			Must(t, os.Chmod(path, mode))
			unchanged := Unchanging(t, e, name)
			Must(t, syscall.Seteuid(OtherUser))
			s, err := semaphore.Open(name, semaphore.WithEngine(e), semaphore.WithValue(wanted))
			Must(t, syscall.Seteuid(0))
			if err == nil {
				s.Close()
			}
			WantErr(t, fmt.Sprint(e, ": ", what), err, fs.ErrPermission)
			unchanged(what)
		}
	}
}
