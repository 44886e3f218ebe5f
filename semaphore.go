package semaphore

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/testhook"
	"github.com/procsem/semaphore/internal/waitqueue"
)

// A Semaphore is a handle on a named semaphore, opened with Open. All methods
// are safe for concurrent use. It must not be copied.
type Semaphore struct {
	name string
	kind *kind
	back backend
	opts *options
	race raceSync

	// fast is what the engine's semaphore can be taken and given by without
	// the engine, nil if there is no such thing, or if the options ask for
	// more than that.
	fast    *fastWords
	own     *permits.Owner // the same of EngineRecoverable
	settles bool           // the engine is blind
	polls   bool           // the engine polls
	owns    owning         // the engine, if its permits have owners, else nil

	// queue orders the waiters of this handle. Its server alone is in
	// back.serve, so one thread at most is blocked for all of them.
	queue waitqueue.Queue

	// life counts the calls in progress, the queue's server and the permits
	// out, and holds closedBit once the handle is closed. Whoever brings it to exactly
	// closedBit ends the backend: nobody is inside, nobody can enter.
	life     atomic.Int64
	ended    chan struct{} // closed after that
	shutDown chan struct{} // closed when Close has done its work

	// held counts what Wait and TryWait took less what Post gave, for strict
	// and close-on-exit handles only: others save themselves the write.
	held atomic.Int64

	// permits are those that Close has to give back (close-on-exit).
	permitsMu sync.Mutex
	permits   map[*Permit]struct{}
}

const closedBit = 1 << 62

// Open opens the semaphore of that name, and creates it if it does not exist,
// unless the options say otherwise. CheckName has the rule for names.
//
// Errors: ErrInvalidName, ErrInvalidOption, ErrInvalidValue, ErrUnsupported,
// fs.ErrExist, fs.ErrNotExist, fs.ErrPermission, ErrKindMismatch if the name
// is in use for another kind of semaphore, ErrCorrupt if what stands in its
// place is none; of a recoverable semaphore also ErrLimitMismatch if it is in use
// with another limit than WithValue asks for, and ErrTableFull if 4096 handles of it
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
	if o.log != nil {
		o.log = o.log.With("name", clean)
	}
	k, err := chooseKind(o.engine)
	if err != nil {
		return fail(err)
	}
	b, err := openBackend(k, clean, &o)
	if err != nil {
		return fail(err)
	}
	return newSemaphore(clean, k, b, &o), nil
}

func newSemaphore(name string, k *kind, b backend, o *options) *Semaphore {
	s := &Semaphore{
		name:  name,
		kind:  k,
		back:  b,
		opts:  o,
		race:  newRaceSync(k.engine.String() + "/" + name),
		ended: make(chan struct{}),

		shutDown: make(chan struct{}),
	}
	_, s.settles = b.(blind)
	if p, ok := b.(poller); ok {
		s.polls = p.polls()
	}
	s.owns, _ = b.(owning)
	switch {
	case o.strict || o.log != nil:
	case s.owns != nil:
		s.own = s.owns.Owner()
	case !o.closeOnExit:
		s.fast = fastOf(b)
	}
	if o.closeOnExit && s.owns == nil {
		s.permits = make(map[*Permit]struct{})
	}
	register(s)
	o.debug("open", "engine", k.engine)
	return s
}

// Name returns the semaphore's name without the leading slash.
func (s *Semaphore) Name() string { return s.name }

// Engine returns the engine that keeps the semaphore; it is never EngineAuto.
func (s *Semaphore) Engine() Engine { return s.kind.engine }

// Wait takes a permit, and blocks until there is one. It returns nil only
// with a permit.
//
// Waiters of one handle are served in the order of their arrival; between
// handles and processes there is no order. What happened before the Post that
// made the permit available happens before Wait returns.
//
// Errors: ErrClosed if the handle is closed before or meanwhile,
// ErrInterrupted with WithRetryOnEINTR(false), ErrHeld on a strict handle,
// ErrTimeout if a WithBackoff function ended the wait.
func (s *Semaphore) Wait() error {
	// This is takeFast, which the compiler would not put here.
	if s.fast != nil {
		if s.queue.Idle() && s.fast.take() && s.keep() {
			return nil
		}
	} else if s.own != nil && s.queue.Idle() {
		if i, sure := s.own.TakeHome(); i >= 0 && (sure || s.own.Confirm(i)) && s.keep() {
			return nil
		}
	}
	return s.wait(context.Background(), "wait")
}

// WaitContext is Wait that ends with the bare ctx.Err() when ctx ends. A
// context that had ended before the call takes nothing, even where a permit
// is free.
func (s *Semaphore) WaitContext(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.takeFast() {
		return nil
	}
	return s.wait(ctx, "wait")
}

// WaitTimeout is Wait that ends with ErrTimeout after d. If d is 0 or less it
// tries once, without blocking.
func (s *Semaphore) WaitTimeout(d time.Duration) error {
	if s.takeFast() {
		return nil
	}
	var err error
	if d <= 0 {
		err = s.wait(noWait, "wait")
	} else {
		ctx, cancel := context.WithTimeout(context.Background(), d)
		defer cancel()
		err = s.wait(ctx, "wait")
	}
	if err == context.DeadlineExceeded || errors.Is(err, ErrWouldBlock) {
		return &Error{Op: "wait", Name: s.name, Err: because(ErrTimeout, "no permit within %v", max(d, 0))}
	}
	return err
}

// TryWait takes a permit if one is free. It never blocks. If none is free, or
// others wait on the same handle, it returns ErrWouldBlock.
func (s *Semaphore) TryWait() error {
	if s.takeFast() {
		return nil
	}
	return s.wait(noWait, "trywait")
}

// takeFast takes a permit if one is free and nobody waits on the handle. It
// does not count itself in life: the memory lives as long as s is referred to.
func (s *Semaphore) takeFast() bool {
	if s.fast != nil {
		return s.queue.Idle() && s.fast.take() && s.keep()
	}
	if s.own == nil || !s.queue.Idle() {
		return false
	}
	i, sure := s.own.TakeHome()
	return i >= 0 && (sure || s.own.Confirm(i)) && s.keep()
}

// keep reports whether a permit that was taken past the engine may be kept. As
// in wait, one taken from a closed handle goes back: whoever calls after Close
// finds the handle closed here.
func (s *Semaphore) keep() bool {
	if s.closed() {
		return s.undo()
	}
	s.race.acquire()
	return true
}

func (s *Semaphore) undo() (kept bool) {
	if s.fast != nil {
		s.fast.post()
	} else {
		s.own.Give() // whichever: Close gives back all
	}
	runtime.KeepAlive(s)
	return false
}

// noWait stands for the context of a call that does not block.
var noWait context.Context = notWaiting{context.Background()}

type notWaiting struct{ context.Context }

// wait is all four of them.
func (s *Semaphore) wait(ctx context.Context, op string) error {
	if !s.enter() {
		return s.fail(op, ErrClosed)
	}
	defer s.leave()
	if _, err := s.obtain(ctx, true); err == errStopped {
		return ctx.Err()
	} else if err != nil {
		return s.fail(op, err)
	}
	if s.closed() {
		// Post would refuse to give it back. Close gives back what a
		// close-on-exit handle holds; the one of us two that brings the
		// count down posts.
		if !s.counts() || s.uncount() {
			s.giveBack()
		}
		return s.fail(op, ErrClosed)
	}
	s.opts.debug("taken")
	return nil
}

// obtain takes a permit from the backend, for the handle itself (mine) or for
// a Permit, and counts it where that is asked for. If ctx ends first it returns
// errStopped.
func (s *Semaphore) obtain(ctx context.Context, mine bool) (got int, err error) {
	strict := mine && s.opts.strict
	if strict && s.held.Load() > 0 {
		return 0, ErrHeld
	}
	if s.queue.Idle() {
		got, err := s.take(ctx == noWait, !mine)
		if err == ErrWouldBlock && ctx == noWait && s.settle() {
			// What the server had in its hands at our first look it has given
			// back, also if it has retired before settle saw it.
			got, err = s.take(true, !mine)
		}
		if err != ErrWouldBlock {
			return got, s.taken(err, mine)
		}
	}
	if ctx == noWait {
		return 0, ErrWouldBlock
	}
	s.opts.debug("blocked")
	w, serve, err := s.queue.Join(!mine)
	if err != nil {
		return 0, ErrClosed
	}
	if serve && !s.spin() {
		s.life.Add(1)
		go s.serve()
	}
	select {
	case <-w.Ready:
	case <-ctx.Done():
		if left, front, empty := s.queue.Leave(w); left {
			if empty || front && s.polls {
				s.back.interrupt() // nobody to serve, or another one
			}
			return 0, errStopped
		}
		<-w.Ready // it has been given a permit at the same moment, and keeps it
	}
	if w.Err == waitqueue.ErrClosed {
		return 0, ErrClosed
	}
	return w.Got, s.taken(w.Err, mine)
}

// take takes a permit from the engine, for a Permit or for the handle; where
// permits have owners it returns its number.
func (s *Semaphore) take(final, forPermit bool) (got int, err error) {
	if s.owns != nil {
		return s.owns.take(final, forPermit)
	}
	return 0, s.back.tryWait(final)
}

// spinTime bounds how long a waiter looks for a permit before a thread sleeps for
// it. Another process that holds one for a moment only, or answers at once, gives
// it in less time than a sleep and a wake-up take.
const spinTime = 4 * time.Microsecond

var canSpin = runtime.NumCPU() > 1

// spin serves the queue for a moment, and reports whether nobody waits any more.
func (s *Semaphore) spin() bool {
	if s.fast == nil && s.own == nil || !canSpin {
		return false
	}
	t := &turn{s: s}
	for start := time.Now(); time.Since(start) < spinTime; {
		for range 32 {
			if s.free() && t.look() || s.queue.Idle() {
				return s.queue.Retire()
			}
		}
	}
	return false
}

// free reports whether a permit seems to be free.
func (s *Semaphore) free() bool {
	if s.fast != nil {
		return s.fast.value() > 0
	}
	return s.own.Free()
}

// serve looks for permits until nobody waits for one.
func (s *Semaphore) serve() {
	defer s.leave()
	t := &turn{s: s}
	for {
		s.back.serve(t)
		if s.queue.Retire() {
			return
		}
	}
}

// settle waits for the server of an empty queue to retire, where it might have
// a permit in its hands, and reports whether it might.
func (s *Semaphore) settle() bool {
	if s.settles {
		s.awaitRetired()
	}
	return s.settles
}

// awaitRetired interrupts the server of an empty queue until it has retired.
func (s *Semaphore) awaitRetired() {
	// It is a matter of microseconds. The bound is for a log handler that is
	// called by the server and calls us: it would wait for itself.
	for start := time.Now(); s.queue.Idle() && s.queue.Served() && time.Since(start) < time.Second; {
		s.back.interrupt()
		time.Sleep(20 * time.Microsecond)
	}
}

// taken settles the accounts of a permit that the backend gave, if it did.
func (s *Semaphore) taken(err error, mine bool) error {
	if err != nil {
		return err
	}
	s.race.acquire()
	switch {
	case mine && s.opts.strict:
		if !s.held.CompareAndSwap(0, 1) {
			s.giveBack() // another goroutine was faster
			return ErrHeld
		}
	case mine && s.counts():
		s.held.Add(1)
	}
	return nil
}

// counts says whether held is kept.
func (s *Semaphore) counts() bool { return s.opts.strict || s.opts.closeOnExit && s.owns == nil }

// uncount takes one from held, unless it is 0.
func (s *Semaphore) uncount() bool {
	for {
		n := s.held.Load()
		if n == 0 {
			return false
		}
		if s.held.CompareAndSwap(n, n-1) {
			return true
		}
	}
}

// handOvers bounds how many permits in a row are given from goroutine to
// goroutine of a handle, where other processes don't get to see them. The next
// one is posted for all. Posting costs a system call and usually wakes our own
// server, so a small bound is slow; 256 hand-overs take about 0.1 ms.
const handOvers = 256

// give gives a permit, p's or the handle's, to the handle's own waiter in front, or
// posts it.
func (s *Semaphore) give(p *Permit) error {
	s.race.release()
	// While too many are held no permit that comes back may be passed on.
	if !s.queue.Idle() && (s.owns == nil || !s.owns.Owner().Shrinking()) {
		given, empty, err := s.queue.Pass(handOvers, func(w *waitqueue.Waiter) (err error) {
			if s.owns != nil {
				w.Got, err = s.owns.handOver(p.number(), p != nil, w.ForPermit)
			}
			return err
		})
		if empty || given && s.polls {
			s.back.interrupt() // nobody to serve, or another one
		}
		if given || err != nil && err != permits.ErrGive {
			return err
		}
	}
	if s.owns != nil && p != nil {
		return s.owns.giveAt(p.got)
	}
	return s.back.post()
}

// giveBack gives a permit that no caller will give.
func (s *Semaphore) giveBack() {
	err := s.give(nil)
	if s.owns != nil && s.closed() {
		err = nil // Close has given it back, or will
	}
	if err != nil {
		s.opts.warn("a permit could not be given back", "error", err)
	}
}

// Post gives a permit, and wakes a waiter if there is one. As POSIX has it,
// anybody may post, whoever waited; WithStrict changes that.
//
// Of a recoverable semaphore Post gives back one that Wait or TryWait took through
// this handle, by whichever goroutine.
//
// Errors: ErrClosed, ErrOverflow if the value is MaxValue, ErrNotHeld on a
// strict handle, or on one of a recoverable semaphore, that holds nothing to give.
func (s *Semaphore) Post() error {
	if s.fast != nil && s.queue.Idle() && !s.closed() {
		s.race.release()
		if s.fast.give() {
			runtime.KeepAlive(s)
			return nil
		}
	} else if s.own != nil && s.queue.Idle() && !s.closed() {
		s.race.release()
		if i, quiet := s.own.GiveHome(); i >= 0 {
			if !quiet {
				s.own.Announce(i)
			}
			runtime.KeepAlive(s)
			return nil
		}
	}
	return s.post()
}

func (s *Semaphore) post() error {
	if !s.enter() {
		return s.fail("post", ErrClosed)
	}
	defer s.leave()
	// Counted before it is given: were it the other way round, the process
	// could end between the two and a signal give the same permit twice.
	counted := s.counts() && s.uncount()
	if s.counts() && !counted {
		if s.closed() {
			// Close set the bit before it swept, and may have given back
			// what this call was to give.
			return s.fail("post", ErrClosed)
		}
		if s.opts.strict {
			return s.fail("post", ErrNotHeld)
		}
	}
	if err := s.give(nil); err != nil {
		if counted {
			s.held.Add(1)
		}
		if s.owns != nil && s.closed() {
			err = ErrClosed // which has given it back under us
		}
		return s.fail("post", err)
	}
	s.opts.debug("posted")
	return nil
}

// Value returns the number of free permits at some moment during the call. Of a
// recoverable semaphore that is the limit less what the living hold, and 0 if they
// hold more; what the dead held it gives back first.
//
// Errors: ErrClosed, ErrUnsupported where the system cannot say (macOS through libc).
func (s *Semaphore) Value() (int, error) {
	if !s.enter() {
		return 0, s.fail("value", ErrClosed)
	}
	defer s.leave()
	s.settle()
	n, err := s.back.value()
	if err != nil {
		return 0, s.fail("value", err)
	}
	return n, nil
}

// Close closes the handle. Whoever waits on it gets ErrClosed. It is safe at any
// moment, also while other goroutines are inside its methods, and may be
// repeated (WithStrict: ErrClosed).
//
// A program that has cancelled a Wait should close the handle (or call CloseAll)
// before it ends. What the engine does for those who wait goes on for some
// microseconds after the last of them has left; a process that ends in this time
// may take along a wake-up that was meant for another process, with EngineLibc and
// EngineWindows a permit, and be counted as a waiter for ever (with EngineRecoverable all of this
// mends itself). Close waits for that.
//
// The memory of EngineNative and EngineRecoverable stays mapped until the program lets
// go of the handle.
//
// As POSIX has it, Close gives no permit back, and what Acquire took stays
// with its Permit. WithRecovery and WithCloseOnExit change both: Close then gives back
// all that was taken through the handle, the permits of Acquire too.
func (s *Semaphore) Close() error {
	if !s.shut() && s.opts.strict {
		return s.fail("close", ErrClosed)
	}
	return nil
}

// shut closes the handle, if nobody did.
func (s *Semaphore) shut() bool {
	for {
		n := s.life.Load()
		if n&closedBit != 0 {
			return false
		}
		if s.life.CompareAndSwap(n, (n+1)|closedBit) { // and be inside ourselves
			break
		}
	}
	defer s.leave()
	// From here on nobody enters. Waiters are sent away below; a taker that is
	// inside finds closed() true after its taking.
	s.queue.Close()
	// A process that ends after Close must not take along what the server has
	// in its hands: a permit, a wake-up meant for others, its place in the
	// number of waiters.
	s.awaitRetired()
	if s.owns != nil {
		n := s.owns.giveAll()
		if s.opts.closeOnExit {
			s.warnGivenBack(n)
		}
	} else if s.opts.closeOnExit {
		s.giveAllBack()
	}
	s.opts.debug("closed")
	close(s.shutDown)
	return true
}

// giveAllBack posts what a close-on-exit handle holds. A taker that counts its
// permit after the swap sees the closed bit, which was set before, and gives
// it back itself.
func (s *Semaphore) giveAllBack() {
	n := s.held.Swap(0)
	for range n {
		s.giveBack()
	}
	s.permitsMu.Lock()
	permits := make([]*Permit, 0, len(s.permits))
	for p := range s.permits {
		permits = append(permits, p)
	}
	s.permitsMu.Unlock()
	for _, p := range permits {
		p.Release()
	}
	s.warnGivenBack(int(n) + len(permits))
}

func (s *Semaphore) warnGivenBack(permits int) {
	if permits > 0 {
		s.opts.warn("permits given back on exit or close", "permits", permits)
	}
}

// enter makes the caller one that Close has to reckon with.
func (s *Semaphore) enter() bool {
	for {
		n := s.life.Load()
		if n&closedBit != 0 {
			return false
		}
		if s.life.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (s *Semaphore) leave() {
	if s.life.Add(-1) != closedBit {
		return
	}
	if err := s.back.close(); err != nil {
		s.opts.warn("closing failed", "error", err)
	}
	close(s.ended)
	unregister(s)
}

func (s *Semaphore) closed() bool { return s.life.Load() >= closedBit }

// Unlink removes the semaphore's name, as the function Unlink does for the
// handle's engine. It works on a closed handle too.
func (s *Semaphore) Unlink() error {
	if err := s.kind.unlink(s.name); err != nil {
		return s.fail("unlink", err)
	}
	return nil
}

// Unlink removes the name of a semaphore of whichever kind there is; with
// WithEngine or WithRecovery of that one only. Other options mean nothing here. Who has
// it open keeps using it; the next Open makes a new one. fs.ErrNotExist if
// there is none.
//
// The name of an EngineWindows semaphore cannot be removed: it goes when the last
// handle is closed, of whichever process. Unlink then only reports whether there is
// one: nil, and who opens the name shares it still, or fs.ErrNotExist.
func Unlink(name string, opts ...Option) error {
	clean, err := cleanName("unlink", name)
	if err != nil {
		return err
	}
	o, err := newOptions(opts)
	if err == nil {
		err = unlinkKinds(o.engine, clean)
	}
	if err != nil {
		return &Error{Op: "unlink", Name: clean, Err: err}
	}
	return nil
}

// fail gives an error its operation and name, and logs what no program
// expects.
func (s *Semaphore) fail(op string, err error) error {
	s.opts.warnOf(op, err)
	return &Error{Op: op, Name: s.name, Err: err}
}

func init() {
	testhook.Inspect = func(handle any) testhook.View {
		s := handle.(*Semaphore)
		return testhook.View{Waiting: s.queue.Len(), Inside: int(s.life.Load() &^ closedBit), Backend: s.back}
	}
}
