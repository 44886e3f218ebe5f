package main

import (
	"os/signal"

	"github.com/procsem/semaphore/internal/exitsignal"
)

// catchesStop: Go's runtime keeps its handler of SIGTSTP when nobody listens any more, and then the signal does
// nothing. Only on Linux can its default action be had back.
const catchesStop = true

// restoreStop makes SIGTSTP stop procsem again. Go is told that it is ignored, so that the next Notify catches it
// anew.
func restoreStop() {
	signal.Ignore(sigStop)
	exitsignal.SetDefault(sigStop)
}
