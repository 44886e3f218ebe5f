package main

import (
	"os"
	"os/signal"
	"slices"
)

// A watcher collects the signals that procsem was sent since watch was called.
type watcher struct {
	heard   []os.Signal
	arrived chan os.Signal
	early   []os.Signal // arrived before the command that they are for
}

// watch catches those of the signals that are not ignored. os/signal would
// undo that, for us and for the command, and nohup would have no effect. It
// knows only of SIGHUP and SIGINT: the others are taken over by Go's runtime
// before any user code runs.
func watch(sigs []os.Signal) *watcher {
	w := &watcher{arrived: make(chan os.Signal, 64)}
	for _, sig := range sigs {
		if !signal.Ignored(sig) {
			w.heard = append(w.heard, sig)
			signal.Notify(w.arrived, sig)
		}
	}
	return w
}

// pending returns what has arrived and was not received yet.
func (w *watcher) pending() []os.Signal {
	// A signal that the process has got may still be on its way to the
	// channel. Stop, of whatever channel, returns only after it is there.
	flush := make(chan os.Signal, 1)
	signal.Notify(flush, w.heard...)
	signal.Stop(flush)
	return w.drain()
}

func (w *watcher) drain() []os.Signal {
	var sigs []os.Signal
	for {
		select {
		case sig := <-w.arrived:
			sigs = append(sigs, sig)
		default:
			return sigs
		}
	}
}

// ends tells the signals that end a wait from those that are the command's
// alone.
func ends(sig os.Signal) bool { return slices.Contains(endSignals, sig) }
