package command

import (
	"os"
	"os/signal"
	"slices"
)

// A watcher collects the signals that procsem got since watch was called.
type watcher struct {
	heard    []os.Signal
	arrived  chan os.Signal
	early    []os.Signal        // for the command, but arrived before it was started
	received map[os.Signal]bool // while the command ran
	link     *link              // of --bg
}

// signalBuffer is how many signals may arrive before procsem receives one; os/signal
// drops what does not fit.
const signalBuffer = 64

// watch catches those of the signals that are not ignored. To catch an ignored one
// would end its being ignored, in procsem and in the command, and nohup would have no
// effect.
func watch(sigs []os.Signal) *watcher {
	keepIgnored()
	w := &watcher{arrived: make(chan os.Signal, signalBuffer), received: make(map[os.Signal]bool)}
	for _, sig := range sigs {
		if !signal.Ignored(sig) {
			w.heard = append(w.heard, sig)
			signal.Notify(w.arrived, sig)
		}
	}
	return w
}

// pending returns the signals that have arrived but were not received yet.
func (w *watcher) pending() []os.Signal {
	if len(w.heard) == 0 {
		return nil // Notify without a signal would mean all of them
	}
	// A signal that was delivered to the process may not have reached the channel
	// yet. signal.Stop, of any channel, returns only after it has.
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

// ends reports whether a signal ends a wait; other signals are for the command only.
func ends(sig os.Signal) bool { return slices.Contains(endSignals, sig) }
