package semaphore

import (
	"os"
	"time"

	"github.com/procsem/semaphore/internal/engine"
)

// A Holder is an open handle of a semaphore whose permits have owners, that holds permits or
// waits for them. It may do both: what AcquireN has gathered so far counts as held. ([Semaphore.Holders] of a store on several
// machines lists what its driver does.)
type Holder struct {
	Host    string    // the machine's name, of a semaphore in a store on several machines; else ""
	PID     int       // of the process that opened it, as it saw itself: pid namespaces differ
	Started time.Time // when that process started, to a second; zero if not known, as on all but Linux and Windows
	Opened  time.Time // when it opened the handle
	Permits int       // how many it holds
	Waiting bool      // whether it waits for one: it has its place in the order by then
	Want    int       // how many its first waiter wants: 1, or what AcquireN was asked for, All among it; 0 if it does not wait

	// Since is when it took its last permit, if it holds any, and Waited how long it had waited
	// for that one. Both are zero if that is not known. They are known if the call that took it had to
	// wait, or was passed the permit by another goroutine of the handle: a call that finds a free permit reads no
	// clock. If the handle has given that permit back and still holds others, they stay.
	// Since is as good as the wall clock; Waited does not depend on that.
	Since  time.Time
	Waited time.Duration

	Label string // what WithLabel says, or ""
}

// Holders lists the handles of all processes that hold permits or wait, this one's
// among them, as they were at some moment during the call. It gives back the permits of
// dead handles, and does not list these. A handle whose process is gone is listed as
// long as a child has its LockFile. The order means nothing, but in a store on several machines, where the holders come
// first, and then the waiters in theirs.
//
// Errors: [ErrClosed], [ErrUnsupported] if the engine has bare counts: neither [EngineRecoverable] nor [EngineDriver].
func (s *Semaphore) Holders() ([]Holder, error) {
	var holders []Holder
	err := s.limited("holders", func(l engine.Limited) error {
		hs, err := l.Holders()
		for _, h := range hs {
			holders = append(holders, Holder(h))
		}
		return err
	})
	return holders, err
}

// Limit returns how many permits there are, free or not. After SetLimit has lowered
// it, more may be held.
//
// Errors: [ErrClosed], [ErrUnsupported] if the engine has bare counts.
func (s *Semaphore) Limit() (int, error) {
	var n int
	err := s.limited("limit", func(l engine.Limited) (err error) { n, err = l.Limit(); return err })
	return n, err
}

// SetLimit changes how many permits there are, from now on and for all, 0 to 65535 (in a store on several machines, to what its
// driver allows).
// Raising the limit wakes waiters at once. Lowering it takes no permit from its
// holder: it takes effect as permits come back, and until the number of
// holders fits no waiter gets one. With a limit of 0 there are no permits.
//
// The limit stays until the next SetLimit, "procsem resize --default", or Unlink, also when no handle is open,
// and wins over [WithValue].
//
// Errors: [ErrClosed], [ErrInvalidValue], [ErrUnsupported] if the engine has bare counts, the system's if there is no space for more permits, or one that
// says so if another process, stopped while it opened or resized the semaphore, keeps
// it locked for ten seconds.
func (s *Semaphore) SetLimit(n int) error {
	return s.limited("setlimit", func(l engine.Limited) error { return l.SetLimit(n) })
}

// LockFile returns a descriptor that keeps the handle's permits taken, close-on-exec
// and the caller's to close. Given to a child (exec.Cmd.ExtraFiles), what the handle
// holds when this process dies stays taken until the child, and every process that it
// gave the descriptor to, is gone as well. Close of the handle gives back all the same.
//
// The child must do nothing with the descriptor: locks of it (flock(2), fcntl(2))
// are the handle's own, and unlocking it would declare the handle dead. What comes back
// when the child is the last one to go may take a second to be noticed.
//
// Errors: [ErrClosed], [ErrUnsupported] if the engine is not [EngineRecoverable], or on Windows,
// where a lock ends with the process that took it, or the system's.
func (s *Semaphore) LockFile() (*os.File, error) {
	var f *os.File
	err := s.owned("lockfile", func(r engine.Recoverable) (err error) { f, err = r.LockFile(); return err })
	return f, err
}

func init() {
	engine.StartEvery = func(s any, period time.Duration, start bool) (left time.Duration, err error) {
		err = s.(*Semaphore).owned("startevery", func(r engine.Recoverable) (err error) {
			left, err = r.StartEvery(period, start)
			return err
		})
		return left, err
	}
	engine.OpenedAt = func(handle any) (at time.Time, err error) {
		err = handle.(*Semaphore).owned("openedat", func(r engine.Recoverable) error {
			at = time.Unix(0, r.Owner().Opened())
			return nil
		})
		return at, err
	}
}

// limited calls f on an engine that has a limit.
func (s *Semaphore) limited(op string, f func(engine.Limited) error) error {
	return s.with(op, func() error {
		if s.traits.Limited == nil {
			return engine.Because(ErrUnsupported, "engine %v has bare counts; only %v semaphores have owners and a limit (WithRecovery)", s.Engine(), EngineRecoverable)
		}
		return f(s.traits.Limited)
	})
}

// owned calls f on an engine whose permits have owners on this machine.
func (s *Semaphore) owned(op string, f func(engine.Recoverable) error) error {
	return s.with(op, func() error {
		if s.traits.Recoverable == nil {
			return engine.Because(ErrUnsupported, "engine %v; only those of %v semaphores have owners on this machine (WithRecovery)", s.Engine(), EngineRecoverable)
		}
		return f(s.traits.Recoverable)
	})
}

// with calls f inside.
func (s *Semaphore) with(op string, f func() error) (err error) {
	defer s.stayIfFailed(&err)
	if !s.enter() {
		return s.fail(op, ErrClosed)
	}
	defer s.leave()
	if err := f(); err != nil {
		return s.fail(op, s.orClosed(err))
	}
	return nil
}
