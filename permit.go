package semaphore

import (
	"context"
	"os"
	"sync"

	"github.com/procsem/semaphore/internal/engine"
)

// A Permit is one permit that Acquire or TryAcquire took. It belongs to
// the code that has the Permit, not to the handle: Post does not give it, and it stays
// valid after the handle is closed. But Close gives it back if the semaphore is a
// recoverable one or the handle was opened WithCloseOnExit.
type Permit struct {
	s          *Semaphore
	ownsHandle bool // of the function Acquire: no other code knows the handle
	got        int  // its number, where permits have owners

	mu       sync.Mutex
	released bool
}

// Acquire opens the semaphore of that name with those options and takes one
// permit. The Permit's Release closes the handle too. Its errors are those of Open
// and of the handle's Acquire.
func Acquire(ctx context.Context, name string, opts ...Option) (*Permit, error) {
	if err := ctx.Err(); err != nil {
		o, _ := newOptions(opts)
		stayIfDying(o.closeOnExit) // another handle may have permits to give back
		return nil, err
	}
	s, err := Open(name, opts...)
	if err != nil {
		return nil, err
	}
	p, err := s.acquire(ctx, blocks, "acquire", true)
	if err != nil {
		s.shut()
		s.stayIfDying()
		return nil, err
	}
	return p, nil
}

// Acquire is WaitContext whose permit has an owner of its own, the Permit: no Post
// gives it back, only Release. A strict handle does not count it.
func (s *Semaphore) Acquire(ctx context.Context) (*Permit, error) {
	if err := ctx.Err(); err != nil {
		s.stayIfDying()
		return nil, err
	}
	return s.acquire(ctx, blocks, "acquire", false)
}

// TryAcquire is TryWait whose permit has an owner of its own, the Permit.
func (s *Semaphore) TryAcquire() (*Permit, error) {
	return s.acquire(context.Background(), tries, "tryacquire", false)
}

func (s *Semaphore) acquire(ctx context.Context, how how, op string, ownsHandle bool) (_ *Permit, err error) {
	defer s.stayIfFailed(&err)
	if !s.enter() {
		return nil, s.fail(op, ErrClosed)
	}
	defer s.leave()
	got, began, err := s.obtain(ctx, how, false)
	if err == errStopped {
		return nil, ctx.Err()
	} else if err != nil {
		return nil, s.fail(op, err)
	}
	p := &Permit{s: s, ownsHandle: ownsHandle, got: got}
	if s.traits.Recoverable == nil {
		s.life.Add(1) // the permit's own: the backend outlives the handle for it
	}
	if s.permits != nil {
		s.permitsMu.Lock()
		s.permits[p] = struct{}{}
		s.permitsMu.Unlock()
	}
	if s.closed() {
		// Close may have missed the permit in its sweep; if it has not, one
		// of the two releases counts.
		if s.traits.Recoverable != nil {
			s.traits.Recoverable.GiveAt(got)
		}
		if p.release() != nil {
			p.abandon()
		}
		return nil, s.fail(op, ErrClosed)
	}
	s.debugTaken(began)
	return p, nil
}

// Release gives the permit back. Calls after one that succeeded do nothing and return
// nil; one that failed has given nothing, and may be repeated. It never panics; a Permit
// that was not acquired is ErrNotHeld. Of a recoverable semaphore whose handle was closed it
// gives nothing and returns nil: Close has given the permit back.
func (p *Permit) Release() (err error) {
	if p == nil || p.s == nil {
		return &Error{Op: "release", Err: ErrNotHeld}
	}
	err = p.release()
	if err != nil || p.ownsHandle { // which is closed
		p.s.stayIfDying()
	}
	return err
}

func (p *Permit) release() error {
	s := p.s
	recoverable := s.traits.Recoverable != nil
	p.mu.Lock()
	if p.released || recoverable && !s.enter() {
		p.released = true // Close has given it back, or will
		p.mu.Unlock()
		return nil
	}
	err := s.give(p)
	if recoverable && s.closed() {
		err = nil // likewise
	}
	p.released = err == nil
	p.mu.Unlock() // before a log handler is called, which may call us
	if err != nil {
		if recoverable {
			s.leave()
		}
		return s.fail("release", err)
	}
	s.opts.Debug("posted")
	s.forget(p)
	if p.ownsHandle {
		s.shut()
	}
	s.leave()
	return nil
}

func init() {
	engine.HandTo = func(permit any, f *os.File, pid int) error { return permit.(*Permit).handTo(f, pid) }
}

// handTo makes an open file the owner of the permit. After that Release does nothing.
func (p *Permit) handTo(f *os.File, pid int) (err error) {
	s := p.s
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.released || !s.enter() {
		return s.fail("handto", ErrNotHeld)
	}
	defer s.leave()
	if s.traits.Recoverable == nil {
		return s.fail("handto", engine.Because(ErrUnsupported, "engine %v has bare counts; only permits of %v semaphores have owners", s.Engine(), EngineRecoverable))
	}
	if err := s.traits.Recoverable.HandTo(p.got, f, pid); err != nil {
		return s.fail("handto", err)
	}
	p.released = true
	s.forget(p)
	return nil
}

// Slots returns the numbers of what the Permit holds, in ascending order: a Permit of
// one permit has one. With a limit of n the permits of a semaphore are numbered from 0
// to n-1, and no two that are held at the same moment have the same number, whichever
// processes of the machine hold them. So a program can choose one of several devices,
// ports or databases by it. The number of a holder that dies is free when its permit
// has come back, not before. When SetLimit lowers the limit, Permits keep their numbers,
// which may then be n or more until they are released.
//
// With a limit of at most 64, Acquire and TryAcquire take the lowest number that is free
// when they look; with a higher one, any that is free. A permit that Release or Post
// passes on to a waiter of the same handle keeps its number.
//
// Slots returns nil when the Permit holds nothing any more: after Release, and after
// Close of the handle. It also returns nil if the permits of the semaphore have no
// owners, for then it is a bare count, and they have no numbers: WithRecovery(true) makes
// one whose permits have.
func (p *Permit) Slots() []int {
	if p == nil || p.s == nil || p.s.traits.Recoverable == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.released || p.s.closed() {
		return nil
	}
	return []int{p.got}
}

// abandon counts a permit as released that could not be given back, and that is not the
// caller's any more. If it can be given later, the handle gives it. The caller is inside (enter).
func (p *Permit) abandon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.released {
		return
	}
	p.released = true
	if p.s.traits.PostCanFail {
		p.s.owe(1)
	}
	p.s.forget(p)
	p.s.leave()
}

// forget takes a permit off those that Close gives back.
func (s *Semaphore) forget(p *Permit) {
	if s.permits != nil {
		s.permitsMu.Lock()
		delete(s.permits, p)
		s.permitsMu.Unlock()
	}
}

// number returns the permit's number; a nil p stands for any that the handle holds.
func (p *Permit) number() int {
	if p == nil {
		return 0
	}
	return p.got
}
