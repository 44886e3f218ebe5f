//go:build unix

package semaphore

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

var exitSignals = []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM}

// dieOf ends the process by sig's default action, so that its status says so.
func dieOf(sig os.Signal) {
	signal.Reset(sig) // the program's own listeners too
	syscall.Kill(os.Getpid(), sig.(syscall.Signal))
	// The signal is on its way. Should it not kill (the program set a C
	// handler for it), end as a shell would report it.
	time.Sleep(time.Second)
	os.Exit(128 + int(sig.(syscall.Signal)))
}
