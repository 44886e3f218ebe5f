package semaphore

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/glibc"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/racesync"
	"github.com/procsem/semaphore/internal/testhook"
	"github.com/procsem/semaphore/internal/waitqueue"
)

// A Semaphore is a handle on a named semaphore, opened with [OpenLimit] or [Open], or by the package of a store on several
// machines ([FromDriver]). All methods are safe for concurrent use. It must not be copied, and its zero value is of no use.
//
// A process may have several handles on one semaphore. Whoever opens one closes it: it is not closed when nothing refers to it any more.
type Semaphore struct {
	name   string
	engine *engine.Engine
	back   engine.Backend
	traits engine.Traits // the backend's
	opts   *options
	race   racesync.Sync

	// words, or owner, are what a permit can be taken and given by without the
	// engine; nil if there is no such thing, or if the options ask for more than that.
	words *glibc.Words
	owner *permits.Owner

	store *stored // nil if the semaphore is this machine's

	// queue orders the waiters of this handle. Its server alone is in
	// back.Serve, so one thread at most is blocked for all of them.
	queue waitqueue.Queue

	// selfServed says that the server is the goroutine of a waiter, which no channel wakes.
	selfServed atomic.Bool

	// life counts the calls in progress, the queue's server and the Permits that the backend has to
	// outlive the handle for, and holds closedBit once the handle is closed. The call that brings it to
	// exactly closedBit ends the backend: no call is inside, none can enter.
	life     atomic.Int64
	ended    chan struct{} // closed after that
	shutDown chan struct{} // closed when Close has done its work

	// held counts what Wait and TryWait took less what Post gave, for strict
	// and close-on-exit handles only: others save themselves the write.
	held atomic.Int64

	// stopInterrupts ends what startInterrupts began, if it did.
	stopInterrupts func()

	// permits are the Permits that Close has to give back (close-on-exit).
	permitsMu sync.Mutex
	permits   map[*Permit]struct{}

	owed atomic.Int64 // permits that repay gives back; it runs if there are any

	inVain atomic.Pointer[Error] // what the last try in vain returned: the next one, which may come soon, makes no other
}

// Open opens the semaphore of that name, and creates it if it does not exist,
// unless the options say otherwise. [CheckName] has the rule for names. Without options it is a POSIX semaphore;
// [OpenLimit] opens one whose permits come back when their holder dies.
//
// Errors: [ErrInvalidName], [ErrInvalidOption], [ErrInvalidValue], [ErrUnsupported],
// [fs.ErrExist], [fs.ErrNotExist], [fs.ErrPermission], [ErrKindMismatch] if the name
// is in use for another kind of semaphore, [ErrCorrupt] if what stands in its
// place is none; of a recoverable semaphore also [ErrLimitMismatch] if it is in use
// with another limit than [WithValue] asks for, and [ErrTableFull] if 4096 handles of it
// are open.
func Open(name string, opts ...Option) (*Semaphore, error) {
	clean, err := cleanName("open", name)
	if err != nil {
		return nil, err
	}
	var o options
	fail := func(err error) (*Semaphore, error) {
		o.warnOf("open", err)
		return nil, &Error{Op: "open", Name: clean, Err: err}
	}
	if o, err = newOptions(opts); err != nil {
		return fail(err)
	}
	if o.Log != nil {
		o.Log = o.Log.With("name", clean)
	}
	eng, err := chooseEngine(o.engine)
	if err != nil {
		return fail(err)
	}
	if err := o.chooseDir(eng); err != nil {
		return fail(err)
	}
	if o.inDir && o.Log != nil {
		o.Log = o.Log.With("dir", o.Dir)
	}
	b, err := openBackend(eng, clean, &o)
	if err != nil {
		return fail(o.whereMissing(err))
	}
	return newSemaphore(clean, eng, b, &o), nil
}

// OpenLimit opens the recoverable semaphore of that name, which has n permits: it is Open with those options,
// WithRecovery(true) and WithValue(n), and so of the kind for limits on a resource, whose permits come back when their
// holder dies. The n decides, whatever a [WithValue] among the options says.
//
// Errors: those of Open, [ErrUnsupported] where there is no [EngineRecoverable]. If the name is in use with another limit that is [ErrLimitMismatch]; one that
// SetLimit, or procsem resize, has set stands without an error, and Limit returns it.
func OpenLimit(name string, n int, opts ...Option) (*Semaphore, error) {
	return Open(name, limited(n, opts)...)
}

func limited(n int, opts []Option) []Option {
	return append(slices.Clip(opts), WithRecovery(true), WithValue(n))
}

func newSemaphore(name string, eng *engine.Engine, b engine.Backend, o *options) *Semaphore {
	s := &Semaphore{
		name:     name,
		engine:   eng,
		back:     b,
		traits:   b.Traits(),
		opts:     o,
		race:     racesync.New(eng.Name, o.Dir, name),
		ended:    make(chan struct{}),
		shutDown: make(chan struct{}),
	}
	s.store, _ = b.(*stored)
	recoverable := s.traits.Recoverable
	switch {
	case o.strict || o.Log != nil:
	case recoverable != nil:
		s.owner = recoverable.Owner()
	case !o.closeOnExit:
		if native, ok := b.(*glibc.Semaphore); ok {
			s.words = native.Words()
		}
	}
	if o.closeOnExit && !s.givesBack() {
		s.permits = make(map[*Permit]struct{})
	}
	register(s)
	o.Debug("open", "engine", s.Engine())
	return s
}

// givesBack reports whether the engine's Close gives back all that the handle holds.
func (s *Semaphore) givesBack() bool { return s.traits.Recoverable != nil || s.store != nil }

// orClosed returns ErrClosed in the place of an error that a call on a store has only because the handle was closed.
func (s *Semaphore) orClosed(err error) error {
	if err != nil && s.store != nil && s.closed() {
		return ErrClosed
	}
	return err
}

// Name returns the semaphore's name without the leading slash.
func (s *Semaphore) Name() string { return s.name }

// Engine returns the engine that keeps the semaphore; it is never [EngineAuto].
func (s *Semaphore) Engine() Engine { return engineOf(s.engine) }

// Wait takes a permit, and blocks until there is one. It returns nil only
// with a permit.
//
// Waiters of one handle are served in the order of their arrival, and those of a recoverable
// semaphore over all processes (docs/guarantees.md says how strictly); with other engines there is no order
// between handles and processes. What happened before the Post that
// made the permit available happens before Wait returns.
//
// Errors: [ErrClosed] if the handle is closed before or meanwhile,
// [ErrInterrupted] with WithRetryOnEINTR(false), [ErrHeld] on a strict handle,
// [ErrTimeout] if a [WithBackoff] function ended the wait, [ErrTooManyWaiters] if 5,000 handles
// wait.
func (s *Semaphore) Wait() error {
	// This is takeFast, which the compiler does not inline. Calling it makes an
	// uncontended Wait and Post 12 % slower on glibc's words and 15 % on permits with
	// owners (medians of 7 interleaved rounds of 20 million pairs, as BenchmarkWaitPost
	// makes them).
	if s.words != nil {
		if s.queue.Idle() && s.words.Take() && s.confirmOpen(ofHandle) {
			return nil
		}
	} else if s.owner != nil && s.queue.Idle() {
		if i, sure := s.owner.TakeHome(); i >= 0 && (sure || s.owner.Confirm(i)) && s.confirmOpen(ofHandle) {
			return nil
		}
	}
	return s.wait(context.Background(), blocks, "wait")
}

// WaitContext is [Semaphore.Wait] that ends with the bare ctx.Err() when ctx ends, and else has its errors. A
// context that has ended takes nothing: neither a permit that was free before the call,
// nor one that is posted after the end while the call has not returned yet.
func (s *Semaphore) WaitContext(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		s.stayIfDying()
		return err
	}
	if s.takeFast() {
		if err := ctx.Err(); err != nil {
			s.undo(ofHandle) // it may have been posted after the end
			s.stayIfDying()
			return err
		}
		return nil
	}
	return s.wait(ctx, blocks, "wait")
}

// WaitTimeout is [Semaphore.Wait] that ends with [ErrTimeout] after d, and else has its errors. If d is 0 or less it
// tries once, without blocking, and is ErrTimeout likewise.
func (s *Semaphore) WaitTimeout(d time.Duration) error {
	if s.takeFast() {
		return nil
	}
	// A permit that is free is taken however short d is, as by sem_timedwait.
	first := tries
	if d > 0 {
		first = looks
	}
	err := s.wait(context.Background(), first, "wait")
	if d > 0 && errors.Is(err, ErrWouldBlock) {
		ctx, cancel := context.WithTimeout(context.Background(), d)
		defer cancel()
		err = s.wait(ctx, blocks, "wait")
	}
	if err == context.DeadlineExceeded || errors.Is(err, ErrWouldBlock) {
		return &Error{Op: "wait", Name: s.name, Err: engine.Because(ErrTimeout, "no permit within %v", max(d, 0))}
	}
	return err
}

// TryWait takes a permit if one is free, and does not wait for one. If none is free, or
// others wait on the same handle, it returns [ErrWouldBlock].
//
// Other errors: [ErrClosed], [ErrHeld] on a strict handle. Of a semaphore of [EngineFlock] whose file others keep locked it
// returns ErrWouldBlock after a second.
func (s *Semaphore) TryWait() error {
	if s.takeFast() {
		return nil
	}
	if s.isInVain() {
		return s.fail("trywait", ErrWouldBlock)
	}
	return s.wait(context.Background(), tries, "trywait")
}

// isInVain reports whether it is plain that a call that does not block gets no permit, without asking the engine.
func (s *Semaphore) isInVain() bool {
	return s.words != nil && (s.words.Value() == 0 || !s.queue.Idle()) && !s.closed()
}

// takeFast takes a permit if one is free and no goroutine waits on the handle. It
// does not count itself in life: the memory lives as long as s is referred to.
func (s *Semaphore) takeFast() bool {
	if s.words != nil {
		return s.queue.Idle() && s.words.Take() && s.confirmOpen(ofHandle)
	}
	if s.owner == nil || !s.queue.Idle() {
		return false
	}
	i, sure := s.owner.TakeHome()
	return i >= 0 && (sure || s.owner.Confirm(i)) && s.confirmOpen(ofHandle)
}

// confirmOpen reports whether a permit that was taken past the engine may be kept. As
// in wait, one taken from a closed handle goes back: whoever calls after Close finds
// the handle closed here.
func (s *Semaphore) confirmOpen(n int) bool {
	if s.closed() {
		return s.undo(n)
	}
	s.race.Acquire()
	return true
}

// ofHandle, in the place of a Permit's number, stands for a permit that was taken for the handle.
const ofHandle = -1

// undo gives back what a fast path has taken: the permit n, for a Permit, or one of the handle.
func (s *Semaphore) undo(n int) (kept bool) {
	switch {
	case s.words != nil:
		s.words.Post(1)
	case n != ofHandle:
		s.owner.GiveAt(n)
	default:
		s.owner.Give() // whichever: Close gives back all
	}
	s.endPause()
	runtime.KeepAlive(s)
	return false
}

// announce does what is left to do when a permit was given past the engine: where it is not quiet, others may wait for it.
func (s *Semaphore) announce(i int, quiet bool) {
	if !quiet {
		s.owner.Announce(i)
	}
	s.endPause()
}

// endPause has a server that polls look for a permit that was given past the engine. Its waiter may have joined the queue, and
// have looked in vain, after the giver saw that nobody waited. It joined before it looked, and the giver asks again after
// it has given, so it sees the waiter.
func (s *Semaphore) endPause() {
	if s.traits.Polls && !s.queue.Idle() {
		s.back.Interrupt()
	}
}

// Post gives a permit, and wakes a waiter if there is one. As POSIX has it,
// any process may post, whichever waited; [WithStrict] changes that.
//
// Of a recoverable semaphore Post gives back one that Wait or TryWait took through
// this handle, by whichever goroutine.
//
// Errors: [ErrClosed], [ErrOverflow] if the value is [MaxValue], [ErrNotHeld] on a
// strict handle, or on one of a recoverable semaphore, that holds nothing to give. Of a
// semaphore of [EngineFlock] also if others keep its file locked for ten seconds; then
// nothing was posted.
func (s *Semaphore) Post() error {
	if s.words != nil && s.queue.Idle() && !s.closed() {
		s.race.Release()
		if s.words.Give() {
			runtime.KeepAlive(s)
			return nil
		}
	} else if s.owner != nil && s.queue.Idle() && !s.closed() {
		s.race.Release()
		if i, quiet := s.owner.GiveHome(); i >= 0 {
			if !quiet || s.traits.Polls {
				s.announce(i, quiet)
			}
			runtime.KeepAlive(s)
			return nil
		}
	}
	return s.post(1)
}

// PostN gives n permits at once, and wakes as many waiters, in whichever processes. Those of one handle are served
// in the order of their arrival, those of a recoverable semaphore over all processes. It gives all of them,
// or none and returns an error. It depends on the engine how, and [EngineLibc] cannot promise it:
//
//   - [EngineNative], and [EngineAuto] on glibc: one atomic operation adds n to the value, and one system call
//     wakes as many waiters as there are, n at most.
//   - [EngineWindows]: one ReleaseSemaphore, whose lReleaseCount is n.
//   - [EngineFlock]: one write of the file.
//   - [EngineRecoverable]: it gives back n permits that Wait or TryWait took through this handle, and none
//     if these are fewer. Others may see them come back one after the other. They all come back too if
//     the process dies in the middle.
//   - EngineLibc, if it is asked for by [WithEngine] or libc is not glibc: sem_post gives one permit, and
//     POSIX has no call that gives several. So PostN calls it n times. It does not begin if sem_getvalue
//     (which macOS lacks) says that the value would exceed [MaxValue]. If it fails in the middle, because others have
//     posted meanwhile, the error says how many were given: "2 of 5 were posted". A process that is killed in the
//     middle has given a part.
//
// Errors: those of Post, with nothing posted: [ErrNotHeld] also if the handle holds fewer than n (a strict one
// never holds more than one), [ErrOverflow] if the value would exceed [MaxValue]. [ErrInvalidValue] if n is less than 1.
func (s *Semaphore) PostN(n int) error { return s.post(n) }

func (s *Semaphore) post(n int) (err error) {
	defer s.stayIfFailed(&err)
	if !s.enter() {
		return s.fail("post", ErrClosed)
	}
	defer s.leave()
	if n < 1 {
		return s.fail("post", engine.Because(ErrInvalidValue, "%d permits; allowed are 1 or more", n))
	}
	// Counted before it is given: were it the other way round, the process
	// could end between the two and a signal give the same permit twice.
	var counted int64
	if s.counts() {
		counted = s.uncount(int64(n))
	}
	if s.counts() && counted < int64(n) {
		if s.closed() {
			// Close set the bit before it swept, and may have given back
			// what this call was to give.
			s.recount(counted)
			return s.fail("post", ErrClosed)
		}
		if s.opts.strict {
			return s.fail("post", engine.TooFewHeld(int(s.held.Load()), n))
		}
	}
	if err := s.giveN(n); err != nil {
		var partly *engine.PartlyPosted
		if errors.As(err, &partly) {
			counted = max(0, counted-int64(partly.Posted))
		}
		s.recount(counted)
		if s.traits.Recoverable != nil && s.closed() {
			err = ErrClosed // which has given it back under us
		}
		return s.fail("post", err)
	}
	if n == 1 {
		s.opts.Debug("posted")
	} else {
		s.opts.Debug("posted", "permits", n)
	}
	return nil
}

// Value returns the number of free permits at some moment during the call. Others may have taken them when it
// returns: TryWait tells whether one can be had. Of a
// recoverable semaphore it is the limit less what the living hold, and 0 if they
// hold more; what the dead held it gives back first.
//
// Errors: [ErrClosed], [ErrUnsupported] where the system cannot say (macOS through libc).
func (s *Semaphore) Value() (n int, err error) {
	defer s.stayIfFailed(&err)
	if !s.enter() {
		return 0, s.fail("value", ErrClosed)
	}
	defer s.leave()
	s.awaitServer()
	n, err = s.back.Value()
	if err != nil {
		return 0, s.fail("value", s.orClosed(err))
	}
	return n, nil
}

// Unlink removes the semaphore's name, as the function Unlink does for the
// handle's engine and directory, with its errors. It works on a closed handle too. The name of one in a store is removed there, as its driver does that.
func (s *Semaphore) Unlink() (err error) {
	defer s.stayIfFailed(&err)
	if err := s.engine.Unlink(s.opts.Dir, s.name); err != nil {
		return s.fail("unlink", err)
	}
	return nil
}

// Unlink removes the name of a semaphore of whichever kind there is; with
// [WithEngine] or [WithRecovery] of that one only, and with [WithDir] in that directory only. Other options mean nothing here. A
// process that has it open keeps using it; the next Open makes a new one, so while the old one is in use the limit is twice
// as high.
//
// Errors: [ErrInvalidName], [ErrInvalidOption], [fs.ErrNotExist] if there is none, [fs.ErrPermission], [ErrUnsupported].
//
// The name of an [EngineWindows] semaphore cannot be removed: it goes when the last
// handle is closed, of whichever process. Unlink then only reports whether there is
// one: nil, and the next Open of the name shares it still, or fs.ErrNotExist.
func Unlink(name string, opts ...Option) error {
	clean, err := cleanName("unlink", name)
	if err != nil {
		return err
	}
	o, err := newOptions(opts)
	if err == nil {
		err = o.whereMissing(unlinkKinds(clean, &o))
	}
	if err != nil {
		return &Error{Op: "unlink", Name: clean, Err: err}
	}
	return nil
}

// fail gives an error its operation and name, and logs what no program
// expects.
func (s *Semaphore) fail(op string, err error) error {
	if err == ErrWouldBlock {
		e := s.inVain.Load()
		if e == nil || e.Op != op {
			e = &Error{Op: op, Name: s.name, Err: err}
			s.inVain.Store(e)
		}
		return e
	}
	s.opts.warnOf(op, err)
	return &Error{Op: op, Name: s.name, Err: err}
}

func init() {
	testhook.Inspect = func(handle any) testhook.View {
		s := handle.(*Semaphore)
		return testhook.View{Waiting: s.queue.Len(), Inside: int(s.life.Load() &^ closedBit), Backend: s.back}
	}
}
