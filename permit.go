package semaphore

import (
	"context"
	"sync"
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
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	s, err := Open(name, opts...)
	if err != nil {
		return nil, err
	}
	p, err := s.acquire(ctx, true, "acquire", true)
	if err != nil {
		s.shut()
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
	return s.acquire(ctx, true, "acquire", false)
}

// TryAcquire is TryWait whose permit has an owner of its own, the Permit.
func (s *Semaphore) TryAcquire() (*Permit, error) {
	return s.acquire(context.Background(), false, "tryacquire", false)
}

func (s *Semaphore) acquire(ctx context.Context, block bool, op string, ownsHandle bool) (_ *Permit, err error) {
	defer s.stayIfFailed(&err)
	if !s.enter() {
		return nil, s.fail(op, ErrClosed)
	}
	defer s.leave()
	got, err := s.obtain(ctx, block, false)
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
		p.release()
		return nil, s.fail(op, ErrClosed)
	}
	s.opts.Debug("taken")
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
	defer p.s.stayIfFailed(&err)
	return p.release()
}

func (p *Permit) release() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.released {
		return nil
	}
	s := p.s
	recoverable := s.traits.Recoverable != nil
	if recoverable && !s.enter() {
		p.released = true // Close has given it back, or will
		return nil
	}
	if err := s.give(p); err == nil {
		s.opts.Debug("posted")
	} else if !recoverable || !s.closed() {
		if recoverable {
			s.leave()
		}
		return s.fail("release", err)
	}
	p.released = true
	if s.permits != nil {
		s.permitsMu.Lock()
		delete(s.permits, p)
		s.permitsMu.Unlock()
	}
	if p.ownsHandle {
		s.shut()
	}
	s.leave()
	return nil
}

// number returns the permit's number; a nil p stands for any that the handle holds.
func (p *Permit) number() int {
	if p == nil {
		return 0
	}
	return p.got
}
