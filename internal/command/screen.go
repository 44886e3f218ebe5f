package command

import (
	"os"
	"os/signal"
)

// What procsem draws on a terminal (a line while it waits, the screen of watch) goes away when Ctrl-Z stops it, and is
// drawn again when the terminal's size changes or procsem is continued.

// eraseBelow erases what follows the cursor.
const eraseBelow = "\x1b[J"

// ears hear of that. Their channel is nil in a process that draws nothing, and then never has a signal.
type ears struct {
	heard chan os.Signal
	stops bool // Ctrl-Z, too
}

// hear is also called after deaf.
func (e *ears) hear() {
	if e.heard == nil {
		e.heard = make(chan os.Signal, signalBuffer)
		e.stops = catchesStop && !signal.Ignored(sigStop)
	}
	for _, sig := range screenSignals {
		signal.Notify(e.heard, sig)
	}
	if e.stops {
		signal.Notify(e.heard, sigStop)
	}
}

// deaf makes signals do again what they did before, and reports whether a stop has come that is to be made up for.
func (e *ears) deaf() (stop bool) {
	if e.heard == nil {
		return false
	}
	signal.Stop(e.heard)
	if e.stops {
		restoreStop()
	}
	for {
		select {
		case sig := <-e.heard:
			stop = stop || sig == sigStop
		default:
			return stop
		}
	}
}

// clearLine erases the line that the cursor is at the beginning of. First without what is below: where that is the
// whole screen some terminals (tmux) keep it, with the line, in what can be scrolled back to.
const clearLine = "\r\x1b[K" + eraseBelow
