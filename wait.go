package semaphore

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/waitqueue"
)

// errStopped ends a wait when its context has ended.
var errStopped = errors.New("stopped")

// A how says what a wait does if no permit is free.
type how int

const (
	blocks how = iota
	looks      // it does not block, and what it says is not final: the caller will wait
	tries      // it does not block
)

// wait is Wait, WaitContext, WaitTimeout and TryWait where their fast path found no
// permit.
func (s *Semaphore) wait(ctx context.Context, how how, op string) (err error) {
	defer s.stayIfFailed(&err) // after leave
	if !s.enter() {
		return s.fail(op, ErrClosed)
	}
	defer s.leave()
	_, began, err := s.obtain(ctx, how, one)
	if err != nil {
		return s.failed(ctx, op, err)
	}
	if s.closed() {
		// Post would refuse to give it back. Close gives back what a
		// close-on-exit handle holds; whichever of the two calls brings the
		// count down posts.
		if !s.counts() || s.uncount(1) > 0 {
			s.giveBack(grant{}, one)
		}
		return s.fail(op, ErrClosed)
	}
	s.debugTaken(began)
	return nil
}

// failed returns what a call returns whose wait has ended so.
func (s *Semaphore) failed(ctx context.Context, op string, err error) error {
	switch err {
	case nil:
		return nil
	case errStopped:
		return ctx.Err()
	}
	return s.fail(op, err)
}

// debugBlocked logs that a wait blocks, and how many handles of all processes wait already, where that is known.
func (s *Semaphore) debugBlocked() {
	switch r := s.traits.Recoverable; {
	case s.opts.Log == nil || !s.opts.Log.Enabled(context.Background(), slog.LevelDebug):
	case r == nil:
		s.opts.Debug("blocked")
	default:
		s.opts.Debug("blocked", "waiters", r.Waiters())
	}
}

// debugTaken logs that a permit was taken, and how long was waited since began, if the wait blocked.
func (s *Semaphore) debugTaken(began time.Duration) {
	switch {
	case s.opts.Log == nil:
	case began == 0:
		s.opts.Debug("taken")
	default:
		s.opts.Debug("taken", "waited", permits.Clock()-began)
	}
}

// grant is what was taken: the permit of a number, where permits have owners, or several.
type grant = waitqueue.Grant

// wants say for whom permits are taken, the handle itself or a Permit, and how many.
type wants waitqueue.Wants

// one is what Wait and TryWait want.
var one = wants{Number: 1}

func (w wants) mine() bool    { return !w.ForPermit }
func (w wants) several() bool { return w.Number != 1 }

// obtain takes what is wanted from the backend, and counts it where that is asked for. If ctx ends first it returns
// errStopped; if it does not block, ErrWouldBlock. began is when it blocked, by permits.Clock, 0 if it did not.
//
// A permit that was posted after ctx had ended is not taken: the queue passes over a
// waiter that is done, and what was taken in the moment of the end goes back. As ctx is
// asked after the taking, no Post can come between its end and the taking unseen.
func (s *Semaphore) obtain(ctx context.Context, how how, want wants) (got grant, began time.Duration, err error) {
	strict := want.mine() && s.opts.strict
	if strict && s.held.Load() > 0 {
		return grant{}, began, ErrHeld
	}
	if s.queue.Idle() {
		got, err := s.take(how == tries, want)
		if err == ErrWouldBlock && how == tries && s.awaitServer() {
			// What the server had in its hands at our first look it has given
			// back, also if it had retired before awaitServer looked.
			got, err = s.take(true, want)
		}
		if err != ErrWouldBlock {
			got, err = s.taken(ctx, got, err, want)
			return got, began, err
		}
	}
	if how != blocks {
		return grant{}, began, ErrWouldBlock
	}
	s.debugBlocked()
	done := ctx.Done()
	var now time.Duration // read where somebody may ask, for that takes 20 ns: a holder's times, and a log
	if s.traits.Recoverable != nil || s.opts.Log != nil {
		now = permits.Clock()
	}
	w, serve, err := s.queue.Join(done, waitqueue.Wants(want), now)
	if err != nil {
		return grant{}, began, ErrClosed
	}
	if serve && !s.spin() {
		s.startServer(ctx, w)
	}
	if done == nil {
		w.Await()
	} else {
		select {
		case <-w.Ready:
		case <-done:
			if left, front, empty := s.queue.Leave(w); left {
				if empty || front && s.traits.Polls {
					s.back.Interrupt() // no waiter to serve, or another one
				}
				s.stopGathering(w)
				w.Free()
				return grant{}, began, errStopped
			}
			<-w.Ready // dismissed at the same moment, perhaps with a permit
		}
	}
	if w.Err != nil {
		s.stopGathering(w)
	}
	got, err = w.Got, w.Err
	w.Free()
	switch err {
	case waitqueue.ErrClosed:
		return grant{}, began, ErrClosed
	case waitqueue.ErrDone:
		return grant{}, began, errStopped
	}
	got, err = s.taken(ctx, got, err, want)
	return got, now, err
}

// take takes what is wanted from the engine.
func (s *Semaphore) take(final bool, want wants) (got grant, err error) {
	switch r := s.traits.Recoverable; {
	case r == nil:
		err = s.back.TryWait(final)
	case want.several():
		got.Several, err = r.TakeSeveral(final, want.Number)
	default:
		got.Number, err = r.Take(final, want.ForPermit)
	}
	return got, err
}

// stopGathering gives back what was gathered for a waiter that has left the queue without a permit. If it
// was in front the line still says that it wants several, until the server looks for the next one; and
// nobody calls one that wants more than there are, or is blocked.
func (s *Semaphore) stopGathering(w *waitqueue.Waiter) {
	if wants(w.Wants).several() {
		s.traits.Recoverable.StopGathering(w.Place)
		s.back.Interrupt()
	}
}

// spinTime bounds how long a waiter looks for a permit before a thread sleeps for
// it. Another process that holds one for a moment only, or answers at once, gives
// it in less time than a sleep and a wake-up take, which is some 50 µs. It has to be longer than
// the other one needs from its own wake-up to its answer: else two that answer each other
// sleep at each turn for ever once one of them has.
const spinTime = 12 * time.Microsecond

// Between two looks spin pauses, for half of the time since it began, so that an answer is seen half as late again as it
// comes. A look takes the permit's cache line from the process that is to give the permit, which waits for the line
// at its next operation: two that take turns at one permit got 0.6 as many when the looks followed one another at once.
const (
	firstPause   = 25 * time.Nanosecond
	longestPause = 2 * time.Microsecond
)

// clocksPerPause and maxLooks bound spin where the clock stands still, as in a bubble of testing/synctest, or goes
// in steps of milliseconds.
const (
	clocksPerPause = 100
	maxLooks       = 100
)

var canSpin = runtime.NumCPU() > 1

// spin serves the queue for a moment, and reports whether no goroutine waits any more.
func (s *Semaphore) spin() bool {
	if s.words == nil && s.owner == nil || !canSpin {
		return false
	}
	t := &turn{s: s}
	start, now := time.Now(), time.Duration(0)
	for look := 1; ; look++ {
		if s.free() && t.Look() || s.queue.Idle() {
			return s.queue.Retire()
		}
		if look == maxLooks || now >= spinTime { // after a look, for a pause may have been long
			return false
		}
		next := min(now+min(max(now/2, firstPause), longestPause), spinTime)
		for clock := 0; clock < clocksPerPause && now < next; clock++ {
			now = time.Since(start)
		}
	}
}

// free reports whether a permit seems to be free.
func (s *Semaphore) free() bool {
	if s.words != nil {
		return s.words.Value() > 0
	}
	return s.owner.Free()
}

// maxServers is how many handles of a process may have a server that blocks a thread. The Go
// runtime ends a program that has more threads than 10,000 (debug.SetMaxThreads); the other
// half is for the program.
var maxServers int64 = 5000

// servers counts those that block a thread.
var servers atomic.Int64

// startServer starts the server of a queue that has none, if there may be one more. If not
// it sends the waiters away, with those that join meanwhile and rely on the server too.
//
// It is another goroutine, or the caller's own, which then returns when its waiter w has been served.
func (s *Semaphore) startServer(ctx context.Context, w *waitqueue.Waiter) {
	if !s.traits.Polls && servers.Add(1) > maxServers {
		n := servers.Add(-1)
		err := engine.Because(ErrTooManyWaiters, "%d, each with a blocked thread; no more are possible", n)
		for !s.queue.Retire() {
			s.queue.DismissAll(err)
		}
		return
	}
	s.life.Add(1)
	if s.mayServeItself(ctx) {
		s.serveOwn(w)
	} else {
		go s.serve()
	}
}

// mayServeItself reports whether the waiter that starts the server is to be the server. If so, a
// permit that comes from another process reaches it without a change of goroutines, which takes
// 12 of the 90 µs of such a hand-over. But whatever else ends its wait has to wake the thread. That is
// slower than a channel for a permit that comes from this process, which can only be one that
// the handle holds; and nobody would do it for a context.
func (s *Semaphore) mayServeItself(ctx context.Context) bool {
	r := s.traits.Recoverable
	return r != nil && !s.traits.Polls && ctx.Done() == nil && r.Owner().HoldsNone()
}

// serveOwn is serve in the goroutine that waits as w. It returns when that is served; if there are
// others then, another goroutine serves these.
func (s *Semaphore) serveOwn(w *waitqueue.Waiter) {
	t := &turn{s: s, own: w}
	served := false
	s.selfServed.Store(true)
	defer func() {
		if !served { // a log handler has panicked, and the caller may go on
			s.desert(w)
		}
		if t.passed {
			return
		}
		s.selfServed.Store(false)
		if !s.retire() {
			go s.serve()
		}
	}()
	s.back.Serve(t)
	served = true
}

// desert takes a waiter out of the queue whose goroutine will not ask what it got.
func (s *Semaphore) desert(w *waitqueue.Waiter) {
	if left, _, _ := s.queue.Leave(w); !left {
		if w.Await(); w.Err == nil {
			s.giveBack(w.Got, wants(w.Wants))
			return
		}
	}
	s.stopGathering(w)
}

// serve looks for permits until no goroutine waits for one.
func (s *Semaphore) serve() {
	t := &turn{s: s}
	for {
		s.back.Serve(t)
		if s.retire() {
			return
		}
	}
}

// retire ends a server's duty if no goroutine waits, and reports whether it did.
func (s *Semaphore) retire() bool {
	if !s.queue.Retire() {
		return false
	}
	if !s.traits.Polls {
		servers.Add(-1)
	}
	s.leave()
	return true
}

// awaitServer waits for the server of an empty queue to retire, where it might have
// a permit in its hands, and reports whether it might.
func (s *Semaphore) awaitServer() bool {
	if s.traits.TakesUnasked {
		s.awaitRetired()
	}
	return s.traits.TakesUnasked
}

// awaitRetired interrupts the server of an empty queue until it has retired.
func (s *Semaphore) awaitRetired() {
	// It is a matter of microseconds. The bound is for a log handler that is
	// called by the server and calls us: it would wait for itself. It is shorter than awaitEnd's, so that
	// a process that dies while a handler hangs gives back before.
	engine.Retry(time.Second/2, 20*time.Microsecond, time.Millisecond, func() (retired bool, err error) {
		if !s.queue.Idle() || !s.queue.Served() {
			return true, nil
		}
		s.back.Interrupt()
		return false, nil
	})
}

// startInterrupts lets the signals that WithRetryOnEINTR names end the handle's waits. The
// kernel would interrupt one thread of its choice, which hardly ever is the one that is
// blocked for the handle. stopInterrupts then lets them do what they did before.
func (s *Semaphore) startInterrupts() {
	s.stopInterrupts = func() {}
	heeded := heededSignals(s.opts.interrupts)
	if len(heeded) == 0 {
		return
	}
	arrived := make(chan os.Signal, 1)
	signal.Notify(arrived, heeded...)
	go func() {
		for range arrived {
			if s.enter() {
				s.queue.DismissAll(ErrInterrupted)
				s.back.Interrupt() // no waiter to serve
				s.leave()
			}
		}
	}()
	s.stopInterrupts = func() {
		signal.Stop(arrived) // nothing is sent any more
		close(arrived)
	}
}

// taken does the accounts of what the backend gave, if it did. What came when ctx had ended
// goes back.
func (s *Semaphore) taken(ctx context.Context, got grant, err error, want wants) (grant, error) {
	if err != nil {
		return grant{}, err
	}
	s.race.Acquire()
	if ctx.Err() != nil {
		s.giveBack(got, want)
		return grant{}, errStopped
	}
	switch mine := want.mine(); {
	case mine && s.opts.strict:
		if !s.held.CompareAndSwap(0, 1) {
			s.giveBack(got, want) // another goroutine was faster
			return grant{}, ErrHeld
		}
	case mine && s.counts():
		s.held.Add(1)
	}
	return got, nil
}

// counts says whether held is kept.
func (s *Semaphore) counts() bool {
	return s.opts.strict || s.opts.closeOnExit && s.traits.Recoverable == nil
}

// uncount takes n from held, or what there is if that is less (of a strict handle nothing then), and returns how much.
func (s *Semaphore) uncount(n int64) int64 {
	for {
		held := s.held.Load()
		less := min(n, held)
		if less < n && s.opts.strict {
			less = 0
		}
		if less == 0 || s.held.CompareAndSwap(held, held-less) {
			return less
		}
	}
}

// recount adds n to held, which were not given after all. The caller is inside (enter).
func (s *Semaphore) recount(n int64) {
	s.held.Add(n)
	// Close may have swept what the handle holds before that.
	if s.opts.closeOnExit && s.closed() {
		if n = s.uncount(n); n > 0 {
			s.owe(n)
		}
	}
}

// A turn is the engine.Turn of a handle.
type turn struct {
	s      *Semaphore
	front  waitqueue.Ticket  // the first waiter after the last Look
	own    *waitqueue.Waiter // that of the goroutine that serves, if it waits itself
	passed bool              // that goroutine has gone
}

func (t *turn) Look() (done bool) {
	done = t.s.queue.Serve(func(w *waitqueue.Waiter) (err error) {
		r := t.s.traits.Recoverable
		if r != nil {
			r.Owner().Began(w.Began)
		}
		switch {
		case r == nil:
			err = t.s.back.TryWait(false)
		case wants(w.Wants).several():
			w.Got.Several, err = r.GatherTurn(w.Place, w.Wants.Number)
		default:
			w.Got.Number, err = r.TakeTurn(w.Place, w.Wants.ForPermit)
		}
		if r != nil && err == nil {
			r.Owner().Stamp(w.Began)
		}
		return err
	}, ErrWouldBlock)
	t.front = t.s.queue.Front()
	return done
}

func (t *turn) Enroll(place func() uint64, none func()) { t.s.queue.Enroll(place, none) }

func (t *turn) Pass(rest func()) bool {
	if t.own == nil || t.s.queue.Waits(t.own) {
		return false
	}
	t.own, t.passed = nil, true
	t.s.selfServed.Store(false)
	go func() {
		rest()
		if !t.s.retire() {
			t.s.serve()
		}
	}()
	return true
}

// Fail ends no wait that began later than the sleep that has failed: the signal that
// interrupted it was not for that.
func (t *turn) Fail(err error) { t.s.queue.Dismiss(t.front, err) }

func (t *turn) Took() {
	if !t.s.queue.Give() {
		t.s.giveBack(grant{}, one) // they have all left meanwhile
	}
}

func (t *turn) Poll(kick engine.Kick, idle func()) {
	var front waitqueue.Ticket
	var pause func(int) time.Duration
	var attempt int
	for !t.Look() {
		// Each wait has its own backoff, from the moment it is in front.
		if f := t.s.queue.Front(); f == 0 {
			continue // gone since the look
		} else if f != front {
			front, pause, attempt = f, t.s.opts.backoff(), 0
		}
		idle()
		attempt++
		d := pause(attempt)
		if d < 0 {
			t.s.queue.Dismiss(front, engine.Because(ErrTimeout, "the backoff function ended the wait after %d tries", attempt))
			front = 0
			continue
		}
		timer := time.NewTimer(d)
		select {
		case <-timer.C:
		case <-kick:
			timer.Stop()
		}
	}
}

// handOvers bounds how many permits in a row are given from goroutine to
// goroutine of a handle, where other processes don't get to see them. The next
// one is posted for all, unless nobody else seems to wait; and every 16th time in any case (4,096 hand-overs), for
// those who only try. Posting costs a system call and usually wakes our own
// server, so a small bound is slow; 256 hand-overs take about 0.1 ms.
const handOvers = 256

// give gives a permit, p's or the handle's, to the handle's own waiter in front, or
// posts it. Several are given together: then one that waits for several is not woken for each. One that
// does gathers them in its turn, so none is passed to it here.
func (s *Semaphore) give(p *Permit) error {
	s.race.Release()
	recoverable := s.traits.Recoverable
	number := 0 // any that the handle holds
	if p != nil {
		if several := p.several(); several != nil {
			return recoverable.GiveSeveral(several)
		}
		number = int(p.number)
	}
	// While too many are held no permit that comes back may be passed on.
	if !s.queue.Idle() && (recoverable == nil || !recoverable.Owner().Shrinking()) {
		given, empty, err := s.queue.Pass(handOvers, s.traits.OthersWait, func(w *waitqueue.Waiter) (err error) {
			if recoverable != nil {
				if wants(w.Wants).several() || recoverable.Owner().Yields(w.Place) {
					return permits.ErrGive // to one that came before
				}
				w.Got.Number, err = recoverable.HandOver(number, p != nil, w.Wants.ForPermit, w.Began)
			}
			return err
		})
		if empty || given && (s.traits.Polls || s.selfServed.Load()) {
			s.back.Interrupt() // no waiter to serve, or another one
		}
		if given || err != nil && err != permits.ErrGive {
			return err
		}
	}
	if recoverable != nil && p != nil {
		return recoverable.GiveAt(number)
	}
	return s.back.Post(1)
}

// giveN gives n permits of the handle's. The engine gets all of them at once. None is handed to a waiter of
// the handle past it, as give does: that one could not be taken back if the engine refused the others. The
// server takes permits from the engine for these waiters, in their order, as it takes those that other processes post.
func (s *Semaphore) giveN(n int) error {
	if n == 1 {
		return s.give(nil)
	}
	s.race.Release()
	return s.back.Post(n)
}

// giveBack gives what no caller will give: a permit of the handle's, or those of a Permit to
// be, by their numbers. It reports false if that has not succeeded yet. The caller
// is inside (enter).
func (s *Semaphore) giveBack(got grant, want wants) (given bool) {
	var p *Permit
	if want.ForPermit {
		p = s.permitOf(got)
	}
	if s.owed.Load() > 0 {
		s.owe(1) // nor could it be given now
		return false
	}
	err := s.give(p)
	if s.traits.Recoverable != nil && s.closed() {
		err = nil // Close has given it back, or will
	}
	if err == nil {
		return true
	}
	if s.mayStillGive(err) {
		s.opts.Warn("a permit could not be given back yet", "error", err)
		s.owe(1)
	} else {
		s.opts.Warn("a permit could not be given back", "error", err)
	}
	return false
}

// mayStillGive reports whether a permit can be given although giving it has failed.
func (s *Semaphore) mayStillGive(err error) bool {
	return s.traits.PostCanFail && !errors.Is(err, ErrOverflow) && !errors.Is(err, ErrCorrupt)
}

// owe has n permits given back as soon as that succeeds, which no caller will give. The caller
// is inside (enter). The backend stays open meanwhile, also if the handle is closed; but a
// process that ends takes them along.
func (s *Semaphore) owe(n int64) {
	if s.owed.Add(n) == n {
		s.life.Add(1)
		go s.repay()
	}
}

// repayPause is how long repay pauses after a Post that has failed, which tries for a while itself.
const repayPause = 100 * time.Millisecond

// repay gives back what is owed. It ends by the change of owed to 0, so that the next owe
// starts another one.
func (s *Semaphore) repay() {
	defer s.leave()
	for {
		err := s.give(nil)
		if err != nil && s.mayStillGive(err) {
			time.Sleep(repayPause)
			continue
		}
		if err != nil {
			s.opts.Warn("a permit could not be given back", "error", err)
		} else {
			s.opts.Debug("posted")
		}
		if s.owed.Add(-1) == 0 {
			return
		}
	}
}
