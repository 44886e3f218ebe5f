package semaphore

import (
	"errors"
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
// WithCloseOnExit give back what they hold. It is for main, in a defer and
// before os.Exit: a library must not call it, for it closes the handles of
// others too.
func CloseAll() error {
	var errs []error
	for _, s := range openHandles(func(*Semaphore) bool { return true }) {
		// Somebody else may close it at the same moment: that is no error,
		// on a strict handle either.
		if err := s.Close(); err != nil && !errors.Is(err, ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
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
	quit := make(chan struct{})
	go func() {
		select {
		case sig := <-arrived:
			giveBackAndDie(sig)
		case <-quit:
			// A signal that came before the end of the watch was ours, and
			// nobody else may have heard it.
			select {
			case sig := <-arrived:
				giveBackAndDie(sig)
			default:
			}
		}
	}()
	return func() {
		signal.Stop(arrived)
		close(quit)
	}
}

func giveBackAndDie(sig os.Signal) {
	all := openHandles(func(s *Semaphore) bool { return s.opts.closeOnExit })
	for _, s := range all {
		s.shut()
	}
	// A goroutine that took a permit at this moment finds its handle closed
	// and gives it back itself: let it. It needs microseconds; the bound is
	// for one that hangs in a system call, and must not keep us from dying.
	deadline := time.After(time.Second)
	for _, s := range all {
		select {
		case <-s.ended:
		case <-deadline:
			dieOf(sig)
		}
	}
	dieOf(sig)
}
