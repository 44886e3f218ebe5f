package semaphore

import (
	"context"
	"errors"
	"reflect"
	"sync/atomic"

	"github.com/procsem/semaphore/driver"
	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/permits"
)

// FromDriver makes a Semaphore of one in a store on several machines, that its driver has open: the package of a store
// calls it, and returns what it returns. From then on h belongs to the Semaphore, whose Close closes it. If FromDriver returns
// an error h stays open.
//
// Such a semaphore has Acquire, AcquireN, TryAcquire, TryAcquireN, and their Permits; Value, Limit, SetLimit, Holders, Unlink and
// Close, which gives back all that the handle holds. Waiters are served in the order of their
// arrival, over all machines and all handles, this one's goroutines too. A permit can be lost
// while its holder has it (Permit.Err says so). So Wait, Post and their kin, and Lock of a Locker,
// are [ErrUnsupported]: they have nobody to tell of that.
//
// TryAcquire, Release and all others ask the store, and return its errors. The driver's documentation says for how long they wait for
// it to answer.
//
// Of the options [WithLogger] and [WithCloseOnExit] mean something here, others are [ErrInvalidOption]: what a semaphore in a store is
// like is the driver's to say. The name is for people (Name, errors and logs); it must not be empty.
//
// Errors: [ErrInvalidName], [ErrInvalidOption], [ErrInvalidValue] if h is nil. The example of package [driver] is a driver in full.
func FromDriver(name string, h driver.Handle, opts ...Option) (*Semaphore, error) {
	o, err := newOptions(opts)
	switch {
	case err != nil:
	case name == "":
		err = engine.Because(ErrInvalidName, "it is empty")
	case h == nil:
		err = engine.Because(ErrInvalidValue, "the driver.Handle is nil")
	default:
		err = o.onlyForStores()
	}
	if err != nil {
		return nil, &Error{Op: "open", Name: name, Err: err}
	}
	if o.Log != nil {
		o.Log = o.Log.With("name", name)
	}
	b := &stored{handle: h}
	b.open, b.shut = context.WithCancel(context.Background())
	return newSemaphore(name, b.engine(), b, &o), nil
}

// onlyForStores returns an error if an option was given that means nothing to a semaphore in a store.
func (o *options) onlyForStores() error {
	usual, _ := newOptions(nil)
	if o.backoff != nil && reflect.ValueOf(o.backoff).Pointer() != reflect.ValueOf(usual.backoff).Pointer() {
		return foreignOption("WithBackoff")
	}
	for _, option := range []struct {
		name  string
		given bool
	}{
		{"WithEngine", o.engine != EngineAuto && !o.recovery},
		{"WithRecovery", o.recovery},
		{"WithDir", o.inDir},
		{"WithCreate", o.Create != usual.Create},
		{"WithExclusive", o.exclusive},
		{"WithValue", o.ValueSet},
		{"WithMode", o.Mode != usual.Mode},
		{"WithRetryOnEINTR", o.RetryEINTR != usual.RetryEINTR},
		{"WithStrict", o.strict},
		{"WithLabel", o.Label != ""},
	} {
		if option.given {
			return foreignOption(option.name)
		}
	}
	return nil
}

func foreignOption(name string) error {
	return engine.Because(ErrInvalidOption, "%s; a semaphore in a store on several machines takes WithLogger and WithCloseOnExit, and what else its driver has", name)
}

// stored is the engine.Backend of a semaphore in a store.
type stored struct {
	handle driver.Handle
	open   context.Context // ends when the Semaphore is closed: no call is worth waiting for then, for Close gives back all
	shut   context.CancelFunc

	closeErr error // of Close, for those that find the Semaphore ended
}

// errTellsNobody is the error of Wait, Post and their kin.
var errTellsNobody = engine.Because(ErrUnsupported, "a permit of a store on several machines can be lost, and Wait and Post have nobody to tell; use Acquire and Release")

func (b *stored) engine() *engine.Engine {
	return &engine.Engine{
		Name:   EngineDriver.String(),
		Unlink: func(_, _ string) error { return b.handle.Unlink(context.Background()) },
	}
}

func (b *stored) Traits() engine.Traits { return engine.Traits{Limited: b} }

func (*stored) TryWait(bool) error { return errTellsNobody }
func (*stored) Post(int) error     { return errTellsNobody }

// Serve has nothing to do, nor has Interrupt: as TryWait never says that it would block, nobody waits.
func (*stored) Serve(engine.Turn) {}
func (*stored) Interrupt()        {}

func (b *stored) Value() (int, error)  { return b.handle.Value(b.open) }
func (b *stored) Limit() (int, error)  { return b.handle.Limit(b.open) }
func (b *stored) SetLimit(n int) error { return b.handle.SetLimit(b.open, n) }

func (b *stored) Holders() ([]engine.Holder, error) {
	all, err := b.handle.Holders(b.open)
	var holders []engine.Holder
	for _, h := range all {
		holders = append(holders, engine.HolderInStore(h))
	}
	return holders, err
}

func (b *stored) Close() error {
	b.closeErr = b.handle.Close()
	return b.closeErr
}

// A storedGrant is what a store has given to a Permit.
type storedGrant struct {
	driver.Grant
	leaving atomic.Bool // Release has begun: if the store does not answer, nobody can tell what comes of it
	lost    atomic.Bool // as Release has found
}

// acquireStored is acquire from a store. It takes no part in the handle's queue: the store has the order of all waiters, and a
// permit that went from goroutine to goroutine past it would overtake those of other machines. The caller is inside (enter), so what
// was taken from a handle that is closed by now is given back by the driver's Close, which comes after the caller has left.
func (s *Semaphore) acquireStored(ctx context.Context, how how, n int) (*Permit, error) {
	until, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.store.open, cancel)()
	began := permits.Clock()
	take := s.store.handle.TryAcquire
	if how == blocks {
		take = s.store.handle.Acquire
	}
	g, err := take(until, n)
	switch {
	case s.closed():
		return nil, ErrClosed
	case ctx.Err() != nil:
		if err == nil {
			s.unwanted(g)
		}
		return nil, errStopped
	case err != nil:
		return nil, err
	}
	s.race.Acquire()
	s.debugTaken(began)
	return &Permit{s: s, more: &more{stored: &storedGrant{Grant: g}}}, nil
}

// unwanted gives back what was taken when the context had ended, whose end the caller returns without waiting for the store.
func (s *Semaphore) unwanted(g driver.Grant) {
	s.life.Add(1)
	go func() {
		defer s.leave()
		if err := g.Release(s.store.open); err != nil && !errors.Is(err, ErrLost) && !s.closed() {
			s.opts.Warn("a permit could not be given back", "error", err)
		}
	}()
}

// releaseStored is release of what a store has given.
func (p *Permit) releaseStored() error {
	s := p.s
	p.mu.Lock()
	if p.released || !s.enter() {
		p.released = true // Close has given it back, or will
		p.mu.Unlock()
		return nil
	}
	defer s.leave()
	stored := p.stored()
	stored.leaving.Store(true)
	s.race.Release()
	err := stored.Release(s.store.open)
	if s.closed() {
		err = nil // likewise
	}
	p.released = err == nil
	stored.lost.Store(errors.Is(err, ErrLost))
	p.mu.Unlock() // before a log handler is called, which may call us
	switch {
	case err == nil:
		s.opts.Debug("posted")
		return nil
	case errors.Is(err, ErrLost):
		s.opts.Warn("a permit was lost before it was released")
	}
	return s.fail("release", err)
}

// Err reports whether the Permit still holds what it took, at the moment of the call: nil, or an error that says why not. What comes
// from a store on several machines can be lost, when its holder or the way to the store has stood still for too long: then Err is
// [ErrLost], and others may hold it. Everything that only a holder may do is done after a look at Err, or better by an operation that the store itself refuses to others (the
// driver says how). A holder that was stopped just after the look cannot be kept from going on by it: only Token, checked by what it
// writes to, can do that.
//
// On one machine no permit is lost. After Release, and after Close of a handle that gives back all, Err is [ErrNotHeld]. So it is from the moment that Release of what comes
// from a store begins, also if that fails, as the store does not answer: it may have been given back all the same.
func (p *Permit) Err() error {
	if p == nil || p.s == nil {
		return &Error{Op: "permit", Err: ErrNotHeld}
	}
	s := p.s
	stored := p.stored()
	var err error
	switch {
	case stored == nil:
		p.mu.Lock()
		if p.released || s.traits.Recoverable != nil && s.closed() {
			err = ErrNotHeld
		}
		p.mu.Unlock()
	case stored.lost.Load():
		err = ErrLost
	case stored.leaving.Load() || s.closed():
		err = ErrNotHeld
	case !stored.Valid():
		err = ErrLost
	}
	if err != nil {
		return &Error{Op: "permit", Name: s.name, Err: err}
	}
	return nil
}

// Lost returns a channel that is closed soon after the Permit is lost, so that a holder can stop what it does. On one machine it is
// nil, from which nothing is ever received. It may come late, where Err does not: in a process that was stopped, say. Release does not close it.
func (p *Permit) Lost() <-chan struct{} {
	if p == nil || p.stored() == nil {
		return nil
	}
	return p.stored().Lost()
}

// Token returns a number that is greater than those of all Permits that the semaphore gave before, if a store on several machines has
// given it, and else 0. A service that remembers the greatest token it has seen can refuse what comes from a holder that has lost its
// permit without knowing it; this works for a limit of one, where the next holder has the next token.
func (p *Permit) Token() int64 {
	if p == nil || p.stored() == nil {
		return 0
	}
	return p.stored().Token()
}
