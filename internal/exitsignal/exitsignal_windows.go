// Package exitsignal knows the signals that end a process, and ends it by one.
package exitsignal

import (
	"os"
	"syscall"

	"golang.org/x/sys/windows"
)

// Signals are what Go makes of the console's events: SIGINT of Ctrl-C and Ctrl-Break,
// SIGTERM of its closing, of the user's logging off and of the system's shutdown.
var Signals = []os.Signal{os.Interrupt, syscall.SIGTERM}

// CanBeHandled reports whether a program can listen for sig.
func CanBeHandled(sig os.Signal) bool { return sig != nil && sig != os.Kill }

// Die returns the status, for os.Exit, that a console event gives to a program which
// does not handle it. It is negative where an int has 32 bits.
func Die(os.Signal) (status int) {
	controlC := uint32(windows.STATUS_CONTROL_C_EXIT)
	return int(controlC)
}
