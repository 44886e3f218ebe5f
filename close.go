package semaphore

import (
	"os"
	"os/signal"
	"sync"
	"time"
)

// handles are the open handles of this process. While one of them asked for
// WithCloseOnExit, a goroutine listens for the signals that end the process.
var handles struct {
	sync.Mutex
	open     map[*Semaphore]struct{}
	onExit   int // how many of them close on exit
	stopExit func()
	dying    bool // of an exit signal
}

// ignoredAtStart holds those exitSignals that the program was started with
// ignored, as under nohup. It has to be asked before anybody calls Notify.
var ignoredAtStart = func() map[os.Signal]bool {
	m := make(map[os.Signal]bool)
	for _, sig := range exitSignals {
		m[sig] = signal.Ignored(sig)
	}
	return m
}()

func register(s *Semaphore) {
	handles.Lock()
	if handles.dying && s.opts.closeOnExit {
		// The process has given back what it held, and is about to die. What
		// this handle took nobody would give back.
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

// openHandles returns those open handles that satisfy want.
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

// CloseAll closes every handle that this process has open; those opened with
// WithCloseOnExit or WithRecovery give back what they hold. It is for main, in a
// defer and before os.Exit: a library must not call it, for it closes the handles
// of others too.
func CloseAll() error {
	closeEach(openHandles(func(*Semaphore) bool { return true }))
	return nil
}

// closeEach closes handles, and waits until those that close on exit have given
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

// watchExitSignals gives back and dies at the first of the exitSignals. The
// function that it returns ends the watch.
func watchExitSignals() (stop func()) {
	var watched []os.Signal
	for _, sig := range exitSignals {
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
		// A signal that came before the end of the watch was ours, and nobody
		// else may have heard it: it is in the channel before that is closed.
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
	dieOf(sig)
}
