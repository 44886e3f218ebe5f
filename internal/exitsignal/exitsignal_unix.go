//go:build unix

// Package exitsignal knows the signals that end a process, and ends it by one.
package exitsignal

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Signals end a process that does not handle them.
var Signals = []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM}

// CanBeHandled reports whether a program can listen for sig.
func CanBeHandled(sig os.Signal) bool {
	return sig != nil && sig != syscall.SIGKILL && sig != syscall.SIGSTOP
}

// Die ends the process by sig's default action, so that its status says so, but without
// a core file: the process has not failed. If sig does not kill it, Die returns the status
// that a shell would report, for os.Exit: the
// process is number 1 of a container, to which the kernel does not deliver sig, or, on
// other systems than Linux, has a C handler for it.
func Die(sig os.Signal) (status int) {
	signal.Reset(sig) // the program's own listeners too
	forbidCore()
	if SetDefault(sig) || sig != syscall.SIGQUIT {
		syscall.Kill(os.Getpid(), sig.(syscall.Signal))
		time.Sleep(time.Second) // it is on its way
	}
	return 128 + int(sig.(syscall.Signal))
}

// SetDefault makes sig do what it does to a program without a handler, and reports
// whether it could. signal.Reset gives it to Go's runtime, which ends with status 2 and
// a dump of all goroutines on SIGQUIT.
func SetDefault(sig os.Signal) bool { return setDefault(sig.(syscall.Signal)) }

// forbidCore keeps this process from leaving a core file.
var forbidCore = func() { _ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) }

// setDefault is for systems where only the runtime's own action can be had.
var setDefault = func(syscall.Signal) bool { return false }
