package semaphore

import (
	"context"
	"errors"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/permits"
)

// A Permit is what Acquire, AcquireN and their like took: one permit, or several. It belongs to
// the code that has the Permit, not to the handle: Post does not give it, and it stays
// valid after the handle is closed. But Close gives it back if the semaphore is a
// recoverable one, or is in a store on several machines, or the handle was opened [WithCloseOnExit].
//
// All methods are safe for concurrent use. A Permit must not be copied. A nil or zero one holds nothing.
type Permit struct {
	s    *Semaphore
	more *more

	mu       sync.Mutex
	released bool
	number   int32 // of the permit, where permits have owners
}

// more is what few Permits have: a Permit is small, because to allocate it takes half of the time of an uncontended
// Acquire and Release. (Several that are allocated together would take less, but a program may set a finalizer on each.)
type more struct {
	ownsHandle bool         // of the function Acquire: no other code knows the handle
	several    []int        // the numbers of AcquireN's
	stored     *storedGrant // of a semaphore in a store
}

func (p *Permit) ownsHandle() bool { return p.more != nil && p.more.ownsHandle }

// several returns the numbers of what AcquireN took, nil if it is one permit.
func (p *Permit) several() []int {
	if p.more == nil {
		return nil
	}
	return p.more.several
}

// stored returns nil if the semaphore is this machine's.
func (p *Permit) stored() *storedGrant {
	if p.more == nil {
		return nil
	}
	return p.more.stored
}

// Acquire opens the semaphore of that name with those options and takes one
// permit. The Permit's Release closes the handle too. The semaphore is a POSIX one, as with Open, unless [WithRecovery]
// makes it recoverable. Its errors are those of Open and of the handle's Acquire, and then no handle stays open.
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
	p, err := s.acquire(ctx, blocks, 1, "acquire", true)
	if err != nil {
		s.shut()
		s.stayIfDying()
		return nil, err
	}
	return p, nil
}

// Do calls f while it holds one of n permits of the recoverable semaphore of that name, over all processes:
// [OpenLimit], Acquire, f, Release and Close. The permit is given back also if f panics or calls
// [runtime.Goexit] (t.FailNow), and if the process dies. f gets ctx as it is.
//
// It returns the error of f, if that is not nil, joined with that of giving back, if that is not nil ([errors.Join]). Without
// a permit f is not called, and the error is that of OpenLimit or Acquire: the bare ctx.Err() if ctx ends first.
//
// Each call opens the semaphore anew; a program that takes permits often keeps a handle.
func Do(ctx context.Context, name string, n int, f func(context.Context) error, opts ...Option) (err error) {
	p, err := Acquire(ctx, name, limited(n, opts)...)
	if err != nil {
		return err
	}
	defer func() {
		if lost := p.Release(); lost != nil {
			err = errors.Join(err, lost)
		}
	}()
	return f(ctx)
}

// Acquire is WaitContext whose permit has an owner of its own, the Permit: no Post
// gives it back, only [Permit.Release] (and Close, of a recoverable semaphore). A strict handle does not count it.
//
// Errors: those of WaitContext but [ErrHeld].
func (s *Semaphore) Acquire(ctx context.Context) (*Permit, error) {
	if err := ctx.Err(); err != nil {
		s.stayIfDying()
		return nil, err
	}
	if n, ok := s.takeFastForPermit(); ok {
		if err := ctx.Err(); err != nil {
			s.undo(n) // it may have been posted after the end
			s.stayIfDying()
			return nil, err
		}
		return &Permit{s: s, number: int32(n)}, nil
	}
	return s.acquire(ctx, blocks, 1, "acquire", false)
}

// takeFastForPermit is takeFast for a Permit. It returns the permit's number, where permits have owners.
func (s *Semaphore) takeFastForPermit() (n int, ok bool) {
	switch {
	case !s.queue.Idle():
		return 0, false
	case s.words != nil:
		ok = s.words.Take()
	case s.owner != nil:
		var sure bool
		n, sure = s.owner.TakeLowest()
		ok = n >= 0 && (sure || s.owner.ConfirmForPermit(n))
	}
	return n, ok && s.confirmOpen(n)
}

// giveFast gives back a permit that nobody seems to wait for. The caller holds p.mu.
func (p *Permit) giveFast() (given bool) {
	s := p.s
	if s.words == nil && s.owner == nil || p.more != nil || !s.queue.Idle() || s.closed() {
		return false
	}
	s.race.Release()
	if s.words != nil {
		given = s.words.Give()
	} else {
		var quiet bool
		if given, quiet = s.owner.GiveLowest(int(p.number)); given {
			s.announce(int(p.number), quiet)
		}
	}
	runtime.KeepAlive(s)
	return given
}

// TryAcquire is TryWait whose permit has an owner of its own, the Permit.
//
// Errors: those of TryWait but [ErrHeld]. Of a semaphore in a store it asks the store, and returns its errors.
func (s *Semaphore) TryAcquire() (*Permit, error) {
	if n, ok := s.takeFastForPermit(); ok {
		return &Permit{s: s, number: int32(n)}, nil
	}
	if s.isInVain() {
		return nil, s.fail("tryacquire", ErrWouldBlock)
	}
	return s.acquire(context.Background(), tries, 1, "tryacquire", false)
}

// All, as the number of [Semaphore.AcquireN] and [Semaphore.TryAcquireN], stands for all permits that there are.
const All = -1

var _ = [1]struct{}{}[All-permits.All] // they are one number

// AcquireN is Acquire of n permits at once: all or nothing, released together by the one
// Release. They are permits of a recoverable semaphore, or of one in a store on several machines; with another engine n can only be 1.
//
// A waiter that wants several has its place in the order as any other has. When it is in
// front it gathers: it takes the permits that are free, and those that come back, until it has n. Those
// behind it wait meanwhile, so single permits do not starve it. At most one waiter gathers at a time, so two
// requests never wait for each other's parts. What it has gathered comes back when ctx ends,
// when the handle is closed, and by itself when the process dies.
//
// With All it takes as many as the limit says when the last one is taken, but one at least: then
// nobody else holds one, until it is released, or [Semaphore.SetLimit] raises the limit. So it excludes all others
// (readers take one permit, a writer All), and waits until all work under the limit has ended. An
// n above the limit is [ErrInvalidValue]. If SetLimit lowers the limit below n while it waits, it goes
// on waiting, for the limit to be raised again, and others are served meanwhile.
//
// A program that holds permits while it waits for more can still deadlock with another
// one that does so, as with any lock; and All waits for ever if the program itself holds one.
//
// Errors: those of Acquire, [ErrInvalidValue] if n is less than 1 and not All, or above the limit, [ErrUnsupported] if
// n > 1 or All and the engine has bare counts.
func (s *Semaphore) AcquireN(ctx context.Context, n int) (*Permit, error) {
	if err := ctx.Err(); err != nil {
		s.stayIfDying()
		return nil, err
	}
	return s.acquire(ctx, blocks, n, "acquire", false)
}

// TryAcquireN is TryAcquire of n permits at once, as AcquireN takes them: it takes them if so many are free now
// beyond what waiters want, and else none. If others take permits at the same moment both may get
// [ErrWouldBlock].
//
// Errors: those of TryAcquire, and of AcquireN for n.
func (s *Semaphore) TryAcquireN(n int) (*Permit, error) {
	return s.acquire(context.Background(), tries, n, "tryacquire", false)
}

// checkNumber checks how many permits are asked for. The caller is inside (enter).
func (s *Semaphore) checkNumber(n int) error {
	r := s.traits.Recoverable
	switch {
	case n < 1 && n != All:
		return engine.Because(ErrInvalidValue, "%d permits; allowed are 1 to the limit, or All", n)
	case n == 1, s.store != nil:
		return nil
	case r == nil:
		return engine.Because(ErrUnsupported, "%s permits at once: engine %v has bare counts, of which two that take several could each hold a part and wait for each other; open it WithRecovery(true)", numberText(n), s.Engine())
	case n == All:
		return nil
	}
	limit, err := r.Limit()
	if err == nil && n > limit {
		err = engine.Because(ErrInvalidValue, "%d permits, and the limit is %d; allowed are 1 to the limit, or All", n, limit)
	}
	return err
}

func numberText(n int) string {
	if n == All {
		return "all"
	}
	return strconv.Itoa(n)
}

func (s *Semaphore) acquire(ctx context.Context, how how, n int, op string, ownsHandle bool) (_ *Permit, err error) {
	defer s.stayIfFailed(&err)
	if !s.enter() {
		return nil, s.fail(op, ErrClosed)
	}
	defer s.leave()
	if err := s.checkNumber(n); err != nil {
		return nil, s.fail(op, err)
	}
	if s.store != nil {
		p, err := s.acquireStored(ctx, how, n)
		return p, s.failed(ctx, op, err)
	}
	got, began, err := s.obtain(ctx, how, wants{Number: n, ForPermit: true})
	if err != nil {
		return nil, s.failed(ctx, op, err)
	}
	p := s.permitOf(got)
	if ownsHandle {
		p.more = &more{ownsHandle: true} // with one permit
	}
	if s.outlivedForPermits() {
		s.life.Add(1)
	}
	if s.permits != nil {
		s.permitsMu.Lock()
		s.permits[p] = struct{}{}
		s.permitsMu.Unlock()
	}
	if s.closed() {
		// Close may have missed the permit in its sweep; if it has not, one
		// of the two releases counts.
		if r := s.traits.Recoverable; r != nil {
			r.GiveSeveral(p.numbers())
		}
		if p.release() != nil {
			p.abandon()
		}
		return nil, s.fail(op, ErrClosed)
	}
	s.debugTaken(began)
	return p, nil
}

// permitOf returns the Permit of what was taken for it.
func (s *Semaphore) permitOf(got grant) *Permit {
	p := &Permit{s: s, number: int32(got.Number)}
	if got.Several != nil {
		p.more = &more{several: got.Several}
	}
	return p
}

// outlivedForPermits reports whether each Permit counts in life, so that the backend outlives the handle for it. Of a
// recoverable semaphore a Permit is worth nothing when the handle is closed, and glibc's words stay
// mapped as long as something refers to the handle.
func (s *Semaphore) outlivedForPermits() bool { return s.traits.Recoverable == nil && s.words == nil }

// Release gives the permit back. Calls after one that succeeded do nothing and return
// nil; one that failed has given nothing, and may be repeated. It never panics; a Permit
// that was not acquired is [ErrNotHeld]. Of a recoverable semaphore whose handle was closed it
// gives nothing and returns nil: Close has given the permit back.
//
// Other errors: of a semaphore of [EngineFlock] if others keep its file locked for ten seconds; of a store, [ErrLost] if the permit was
// lost before, and the store's own.
func (p *Permit) Release() (err error) {
	if p == nil || p.s == nil {
		return &Error{Op: "release", Err: ErrNotHeld}
	}
	err = p.release()
	if err != nil || p.ownsHandle() { // which is closed
		p.s.stayIfDying()
	}
	return err
}

func (p *Permit) release() error {
	if p.stored() != nil {
		return p.releaseStored()
	}
	s := p.s
	recoverable := s.traits.Recoverable != nil
	p.mu.Lock()
	if !p.released && p.giveFast() {
		p.released = true
		p.mu.Unlock()
		return nil
	}
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
	if p.ownsHandle() {
		s.shut()
	}
	if recoverable || s.outlivedForPermits() {
		s.leave()
	}
	return nil
}

func init() {
	engine.HandTo = func(permit any, f *os.File, pid int) error { return permit.(*Permit).handTo(f, pid) }
	engine.WithOwner = func(owner *engine.Owner) any { return Option(func(o *options) { o.Owner = owner }) }
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
	if n := len(p.several()); n > 0 {
		return s.fail("handto", engine.Because(ErrUnsupported, "%d permits at once; an open file gets one", n))
	}
	if err := s.traits.Recoverable.HandTo(int(p.number), f, pid); err != nil {
		return s.fail("handto", err)
	}
	p.released = true
	s.forget(p)
	return nil
}

// Slots returns the numbers of what the Permit holds, in ascending order: one, or as many as
// AcquireN took. With a limit of n the permits of a semaphore are numbered from 0
// to n-1, and no two that are held at the same moment have the same number, whichever
// processes of the machine hold them. So a program can choose one of several devices,
// ports or databases by it. The number of a holder that dies is free when its permit
// has come back, not before. When SetLimit lowers the limit, Permits keep their numbers,
// which may then be n or more until they are released.
//
// With a limit of at most 64, Acquire and its like take the lowest numbers that are free
// when they look; with a higher one, any that is free. A permit that Release or Post
// passes on to a waiter of the same handle keeps its number.
//
// Slots returns nil when the Permit holds nothing any more: after Release, and after
// Close of the handle. It also returns nil if the permits of the semaphore have no
// owners, for then it is a bare count, and they have no numbers: WithRecovery(true) makes
// one whose permits have. Those of a store on several machines have none either.
func (p *Permit) Slots() []int {
	if p == nil || p.s == nil || p.s.traits.Recoverable == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.released || p.s.closed() {
		return nil
	}
	return slices.Clone(p.numbers())
}

// numbers returns the numbers of what the Permit has taken, ascending.
func (p *Permit) numbers() []int {
	if several := p.several(); several != nil {
		return several
	}
	return []int{int(p.number)}
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
	if p.s.outlivedForPermits() {
		p.s.leave()
	}
}

// Locker returns a lock of what the semaphore guards. Of a recoverable semaphore Lock takes all permits there are, as
// AcquireN of All does, one mostly, so that whoever has the lock is alone, also when SetLimit has raised the limit. Of another one
// it takes one permit: it excludes others if there is only one, which the semaphore cannot tell. Of one in a store on several
// machines it takes none, for it cannot tell of its loss: Lock panics with [ErrUnsupported].
//
// A [sync.Locker] has no errors, so Lock panics with the *Error where AcquireN fails ([ErrClosed], say), or if it gets a second
// permit while the Locker has one, and Unlock where Release does, or if the Locker is not locked ([ErrNotHeld]). Any goroutine
// may unlock it. It is another lock than other Lockers of the handle: they exclude each other, and none unlocks another.
func (s *Semaphore) Locker() sync.Locker { return &locker{s: s} }

type locker struct {
	s    *Semaphore
	held atomic.Pointer[Permit]
}

func (l *locker) Lock() {
	if l.s.store != nil {
		panic(l.s.fail("lock", errTellsNobody))
	}
	n := 1
	if l.s.traits.Recoverable != nil {
		n = All
	}
	p, err := l.s.AcquireN(context.Background(), n)
	if err != nil {
		panic(err)
	}
	if !l.held.CompareAndSwap(nil, p) {
		_ = p.Release()
		panic(l.s.fail("lock", engine.Because(ErrInvalidValue, "there is more than one permit: it was locked twice")))
	}
}

func (l *locker) Unlock() {
	// Taken out first: the next one has the lock as soon as it is released.
	p := l.held.Swap(nil)
	if p == nil {
		panic(l.s.fail("unlock", ErrNotHeld))
	}
	if err := p.Release(); err != nil {
		panic(err)
	}
}

// forget takes a permit off those that Close gives back.
func (s *Semaphore) forget(p *Permit) {
	if s.permits != nil {
		s.permitsMu.Lock()
		delete(s.permits, p)
		s.permitsMu.Unlock()
	}
}
