package semaphore

import (
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/procsem/semaphore/internal/exitsignal"
)

const closedBit = 1 << 62 // of Semaphore.life

// Close closes the handle. Its waiters get [ErrClosed]. It is safe at any
// moment, also while other goroutines are inside its methods, and may be
// repeated ([WithStrict]: ErrClosed).
//
// A program that has cancelled a Wait should close the handle (or call [CloseAll])
// before it ends. What the engine does for waiters goes on for some
// microseconds after the last of them has left; a process that ends in this time
// may take along a wake-up that was meant for another process, with [EngineLibc] and
// [EngineWindows] a permit, and be counted as a waiter for ever (with [EngineRecoverable] all of this
// mends itself). Close waits for that.
//
// The handles of one semaphore share its memory, which with [EngineNative] and
// EngineRecoverable stays mapped until the program lets go of the last of them.
//
// As POSIX has it, Close gives no permit back, and what Acquire took stays
// with its Permit. [WithRecovery] and [WithCloseOnExit] change both: Close then gives back
// all that was taken through the handle, the permits of Acquire too. It returns after
// that, also if another goroutine was first to call it; WithCloseOnExit after
// calls in progress have given back what they were taking. (Of a semaphore of [EngineFlock]
// whose file others keep locked, Close tries for some ten seconds; what it cannot give is
// given in the background, as long as the process lives.)
//
// Errors: [ErrClosed] of the second Close of a strict handle; of a semaphore in a store, those of its driver.
func (s *Semaphore) Close() error {
	defer s.stayIfDying()
	first := s.shut()
	if !first {
		s.awaitShut()
	}
	if s.opts.closeOnExit {
		awaitEnd([]*Semaphore{s})
	}
	if s.store != nil {
		return s.awaitStore()
	}
	if !first && s.opts.strict {
		return s.fail("close", ErrClosed)
	}
	return nil
}

// shutPatience bounds the wait for another goroutine's shut. The bound is for a log handler
// that is called by shut and calls Close, which would wait for itself, and for a process
// that was stopped while it had the lock of an EngineFlock's file.
const shutPatience = 20 * time.Second

// awaitShut waits until the shut of another goroutine has done its work.
func (s *Semaphore) awaitShut() { await(s.shutDown) }

// awaitStore waits until the driver has given back what the handle holds, and returns its error.
func (s *Semaphore) awaitStore() error {
	if await(s.ended) && s.store.closeErr != nil {
		return s.fail("close", s.store.closeErr)
	}
	return nil
}

// await waits, for shutPatience at most, until a channel is closed, and reports whether it is.
func await(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	case <-time.After(shutPatience):
		return false
	}
}

// shut closes the handle, if it is open, and reports whether it was.
func (s *Semaphore) shut() bool {
	if !s.seal() {
		return false
	}
	s.settle()
	return true
}

// seal is the first half of shut: from here on no call enters, and a taker that is inside
// finds closed() true after its taking.
func (s *Semaphore) seal() bool {
	for {
		n := s.life.Load()
		if n&closedBit != 0 {
			return false
		}
		if s.life.CompareAndSwap(n, (n+1)|closedBit) { // and be inside ourselves
			return true
		}
	}
}

// settle is the second half: it sends waiters away, and gives back.
func (s *Semaphore) settle() {
	defer s.leave()
	s.queue.Close()
	s.stopInterrupts()
	if s.store != nil {
		s.store.shut() // calls in progress return
	}
	// A process that ends after Close must not take along what the server has
	// in its hands: a permit, a wake-up meant for other waiters, its count in
	// the number of waiters.
	s.awaitRetired()
	gave := 0
	if r := s.traits.Recoverable; r != nil {
		gave = r.GiveAll()
	} else if s.opts.closeOnExit {
		gave = s.giveAllBack()
	}
	close(s.shutDown)
	if gave > 0 && s.opts.closeOnExit {
		s.opts.Warn("permits given back on exit or close", "permits", gave)
	}
	s.opts.Debug("closed")
}

// giveAllBack posts what a close-on-exit handle holds, and returns how much. A taker
// that counts its permit after the swap sees the closed bit, which was set before, and
// gives it back itself.
func (s *Semaphore) giveAllBack() (permits int) {
	for range s.held.Swap(0) {
		if s.giveBack(grant{}, one) {
			permits++
		}
	}
	s.permitsMu.Lock()
	all := make([]*Permit, 0, len(s.permits))
	for p := range s.permits {
		all = append(all, p)
	}
	s.permitsMu.Unlock()
	for _, p := range all {
		if s.owed.Load() == 0 && p.release() == nil {
			permits++
		} else {
			p.abandon()
		}
	}
	return permits
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
	if err := s.back.Close(); err != nil {
		s.opts.Warn("closing failed", "error", err)
	}
	close(s.ended)
	unregister(s)
}

func (s *Semaphore) closed() bool { return s.life.Load() >= closedBit }

// handles are the open handles of this process. While one of them asked for
// WithCloseOnExit, a goroutine listens for the signals that end the process.
var handles struct {
	sync.Mutex
	open   map[*Semaphore]struct{}
	onExit int        // how many of them close on exit
	watch  *exitWatch // nil if there is none
	dying  bool       // of an exit signal
}

// ignoredAtStart holds those exitsignal.Signals that the program was started with
// ignored, as under nohup. It has to be asked before the program calls Notify.
var ignoredAtStart = func() map[os.Signal]bool {
	m := make(map[os.Signal]bool)
	for _, sig := range exitsignal.Signals {
		m[sig] = signal.Ignored(sig)
	}
	return m
}()

func register(s *Semaphore) {
	handles.Lock()
	if handles.dying && s.opts.closeOnExit {
		// The process has given back what it held, and is about to die. No
		// code would give back what this handle took.
		handles.Unlock()
		select {}
	}
	defer handles.Unlock()
	if handles.open == nil {
		handles.open = make(map[*Semaphore]struct{})
	}
	handles.open[s] = struct{}{}
	if s.opts.closeOnExit {
		handles.onExit++
		if handles.onExit == 1 {
			handles.watch = watchExitSignals()
		}
	}
	s.startInterrupts() // after that: of a signal of both the process dies
}

func unregister(s *Semaphore) {
	handles.Lock()
	defer handles.Unlock()
	delete(handles.open, s)
	if s.opts.closeOnExit {
		handles.onExit--
		if handles.onExit == 0 && handles.watch != nil {
			if sig := handles.watch.stop(); sig != nil {
				handles.dying = true
				go giveBackAndDie(sig)
			}
			handles.watch = nil
		}
	}
}

// openHandles returns the open handles that satisfy want.
func openHandles(want func(*Semaphore) bool) []*Semaphore {
	handles.Lock()
	defer handles.Unlock()
	var found []*Semaphore
	for s := range handles.open {
		if want(s) {
			found = append(found, s)
		}
	}
	return found
}

// CloseAll closes every handle that this process has open; handles opened with
// [WithCloseOnExit] or [WithRecovery] give back what they hold. It waits for about a second; if
// others keep the file of a semaphore of [EngineFlock] locked for longer, [WithLogger]'s logger is
// warned that permits are still out. The error is nil: what fails is logged. It is for main, in a
// defer and before [os.Exit]: a library must not call it, for it closes the
// handles of other packages too.
func CloseAll() error {
	all := openHandles(func(*Semaphore) bool { return true })
	closeEach(all)
	stayIfDying(true)
	warnOfLoss(all, "not all permits were given back yet; a process that ends now loses them")
	return nil
}

// closeEach closes handles, and waits until they have done what awaitEnd says. All are
// sealed before the first one gives back: else a Wait on another one could get that
// permit, and a program that is dying go on.
func closeEach(all []*Semaphore) {
	var sealed []*Semaphore
	for _, s := range all {
		if s.seal() {
			sealed = append(sealed, s)
		}
	}
	for _, s := range sealed {
		go s.settle()
	}
	awaitEnd(all)
}

// awaitEnd waits until handles that close on exit, and are being closed, have given
// all back, also what other goroutines were taking at this moment: they find
// their handle closed and give it back themselves. That is a matter of
// microseconds; the bound is for a system call, a file's lock or a log handler
// that hangs, which must not keep a process from dying. While the process itself stands still (SIGSTOP, a
// machine without a processor for it) nothing is given back, so that counts for ten pauses at the most.
func awaitEnd(all []*Semaphore) {
	const pause = 10 * time.Millisecond
	var waited time.Duration
	for _, s := range all {
		ended := s.ended
		if !s.opts.closeOnExit && s.store == nil {
			ended = s.shutDown // its permits may be out for longer
		}
		for waits := true; waits && waited < time.Second; {
			start := time.Now()
			select {
			case <-ended:
				waits = false
			case <-time.After(pause):
				waited += min(time.Since(start), 10*pause)
			}
		}
	}
}

// heededSignals returns those that are not ignored: Notify would undo that.
func heededSignals(signals []os.Signal) (heeded []os.Signal) {
	for _, sig := range signals {
		if !ignoredAtStart[sig] && !signal.Ignored(sig) {
			heeded = append(heeded, sig)
		}
	}
	return heeded
}

// An exitWatch listens for the exitsignal.Signals.
type exitWatch struct {
	arrived chan os.Signal // wakes the goroutine that gives back
	heard   chan os.Signal // no goroutine receives from it before the watch ends
}

// watchExitSignals gives back and dies at the first of the exitsignal.Signals. It
// returns nil if the program ignores all of them.
func watchExitSignals() *exitWatch {
	watched := heededSignals(exitsignal.Signals)
	if len(watched) == 0 {
		return nil // Notify without a signal would mean all of them
	}
	w := &exitWatch{make(chan os.Signal, 1), make(chan os.Signal, 1)}
	signal.Notify(w.heard, watched...)
	signal.Notify(w.arrived, watched...)
	go func() {
		if sig, ok := <-w.arrived; ok {
			giveBackAndDie(sig)
		}
	}()
	return w
}

// stop ends the watch. A signal that came before that was ours, and maybe no other
// listener heard it: stop returns it, or nil.
func (w *exitWatch) stop() (sig os.Signal) {
	signal.Stop(w.arrived)
	signal.Stop(w.heard) // last: what has come to arrived is here too
	close(w.arrived)
	select {
	case sig = <-w.heard:
	default:
	}
	return sig
}

// dying reports whether an exit signal has arrived, of which the process is about to
// die. The program may have been told of it before our goroutine, or by a context
// (signal.NotifyContext): package os/signal sends a signal to all channels under one
// lock, which Stop takes, so that afterwards it is in heard if it is in any channel.
func dying() bool {
	signal.Stop(nil) // ends no channel's notifications
	handles.Lock()
	defer handles.Unlock()
	return handles.dying || handles.watch != nil && len(handles.watch.heard) > 0
}

// stayIfDying keeps a call on a handle, if that closes on exit, from returning when the
// process is dying of a signal. The call has ended, most likely because the handle was
// closed under it, or because the program heard of the signal too; if it returned, the
// program could end by itself, with another status and before all is given back. The
// caller must not be inside (enter).
func stayIfDying(closesOnExit bool) {
	if closesOnExit && dying() {
		select {}
	}
}

func (s *Semaphore) stayIfDying() { stayIfDying(s.opts.closeOnExit) }

// stayIfFailed is stayIfDying for a call that returns an error. One that succeeds tells
// the program nothing of the end, and none succeeds once the handles are being closed.
func (s *Semaphore) stayIfFailed(err *error) {
	if *err != nil {
		s.stayIfDying()
	}
}

var die sync.Once

func giveBackAndDie(sig os.Signal) {
	die.Do(func() {
		handles.Lock()
		handles.dying = true
		handles.Unlock()
		all := openHandles(func(s *Semaphore) bool { return s.opts.closeOnExit })
		closeEach(all)
		warnOfLoss(all, "the process dies before all permits were given back")
		os.Exit(exitsignal.Die(sig))
	})
}

// warnOfLoss says of which handles that close on exit not all was given back in the time of
// awaitEnd. A log handler that hangs keeps the process from dying no longer than
// warnPatience.
func warnOfLoss(all []*Semaphore, loss string) {
	warned := make(chan struct{})
	go func() {
		defer close(warned)
		for _, s := range all {
			select {
			case <-s.ended:
			default:
				if s.opts.closeOnExit && !s.givesBack() { // else they come back by themselves
					s.opts.Warn(loss)
				}
			}
		}
	}()
	select {
	case <-warned:
	case <-time.After(warnPatience):
	}
}

const warnPatience = time.Second
