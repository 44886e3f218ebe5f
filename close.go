package semaphore

import (
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/procsem/semaphore/internal/exitsignal"
)

const closedBit = 1 << 62 // of Semaphore.life

// Close closes the handle. Its waiters get ErrClosed. It is safe at any
// moment, also while other goroutines are inside its methods, and may be
// repeated (WithStrict: ErrClosed).
//
// A program that has cancelled a Wait should close the handle (or call CloseAll)
// before it ends. What the engine does for waiters goes on for some
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

// shut closes the handle, if it is open, and reports whether it was.
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
	// From here on no call enters. Waiters are sent away below; a taker that is
	// inside finds closed() true after its taking.
	s.queue.Close()
	// A process that ends after Close must not take along what the server has
	// in its hands: a permit, a wake-up meant for other waiters, its count in
	// the number of waiters.
	s.awaitRetired()
	if r := s.traits.Recoverable; r != nil {
		n := r.GiveAll()
		if s.opts.closeOnExit {
			s.warnGivenBack(n)
		}
	} else if s.opts.closeOnExit {
		s.giveAllBack()
	}
	s.opts.Debug("closed")
	close(s.shutDown)
	return true
}

// giveAllBack posts what a close-on-exit handle holds. A taker that counts its
// permit after the swap sees the closed bit, which was set before, and gives
// it back itself.
func (s *Semaphore) giveAllBack() {
	n := s.held.Swap(0)
	for range n {
		s.giveBack(0, true)
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
		s.opts.Warn("permits given back on exit or close", "permits", permits)
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
	open     map[*Semaphore]struct{}
	onExit   int // how many of them close on exit
	stopExit func()
	dying    bool // of an exit signal
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
			handles.stopExit = watchExitSignals()
		}
	}
}

func unregister(s *Semaphore) {
	handles.Lock()
	defer handles.Unlock()
	delete(handles.open, s)
	if s.opts.closeOnExit {
		handles.onExit--
		if handles.onExit == 0 {
			handles.stopExit()
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
// WithCloseOnExit or WithRecovery give back what they hold. It is for main, in a
// defer and before os.Exit: a library must not call it, for it closes the
// handles of other packages too.
func CloseAll() error {
	closeEach(openHandles(func(*Semaphore) bool { return true }))
	return nil
}

// closeEach closes handles, and waits until handles that close on exit have given
// all back, also what other goroutines were taking at this moment: they find
// their handle closed and give it back themselves. That is a matter of
// microseconds; the bound is for a system call, a file's lock or a log handler
// that hangs, which must not keep a process from dying.
func closeEach(all []*Semaphore) {
	for _, s := range all {
		go s.shut()
	}
	deadline := time.After(time.Second)
	for _, s := range all {
		ended := s.ended
		if !s.opts.closeOnExit {
			ended = s.shutDown // its permits may be out for longer
		}
		select {
		case <-ended:
		case <-deadline:
			return
		}
	}
}

// watchExitSignals gives back and dies at the first of the exitsignal.Signals. The
// function that it returns ends the watch.
func watchExitSignals() (stop func()) {
	var watched []os.Signal
	for _, sig := range exitsignal.Signals {
		// Notify would undo that it is ignored.
		if !ignoredAtStart[sig] && !signal.Ignored(sig) {
			watched = append(watched, sig)
		}
	}
	if len(watched) == 0 {
		return func() {} // Notify without a signal would mean all of them
	}
	arrived := make(chan os.Signal, 1)
	signal.Notify(arrived, watched...)
	go func() {
		// A signal that came before the end of the watch was ours, and maybe no
		// other listener heard it: it is in the channel before that is closed.
		if sig, ok := <-arrived; ok {
			giveBackAndDie(sig)
		}
	}()
	return func() {
		signal.Stop(arrived)
		close(arrived)
	}
}

func giveBackAndDie(sig os.Signal) {
	handles.Lock()
	handles.dying = true
	handles.Unlock()
	closeEach(openHandles(func(s *Semaphore) bool { return s.opts.closeOnExit }))
	os.Exit(exitsignal.Die(sig))
}
