//go:build unix

package main

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// screenSignals are heard while procsem draws on a terminal: of its size, and that procsem was continued.
var screenSignals = []os.Signal{syscall.SIGWINCH, sigContinue}

const (
	sigContinue = syscall.SIGCONT
	sigStop     = syscall.SIGTSTP
)

// stopNow stops procsem, as SIGTSTP does, for the shell that continues it. Without one the kernel does not.
func stopNow() { _ = syscall.Kill(os.Getpid(), syscall.SIGTSTP) }

// keySignals are the signals of keys that end a program.
var keySignals = map[byte]os.Signal{ctrlC: syscall.SIGINT, ctrlBackslash: syscall.SIGQUIT}

// sendAll sends a signal to the whole process group.
func sendAll(sig os.Signal) { _ = syscall.Kill(0, sig.(syscall.Signal)) }

// prepareScreen makes a terminal obey what is written to it, if it can.
func prepareScreen(io.Writer) (restore func(), err error) {
	if kind := os.Getenv("TERM"); kind == "" || kind == "dumb" {
		return nil, errors.ErrUnsupported
	}
	return func() {}, nil
}
