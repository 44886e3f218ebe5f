//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// endSignals end a wait; once the command runs it gets them instead.
// childSignals are for the command only.
var (
	endSignals   = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}
	childSignals = []os.Signal{syscall.SIGUSR1, syscall.SIGUSR2}
)

// terminalSends tells the signals that a terminal sends to its whole
// foreground process group, the command included, when a key is pressed.
func terminalSends(sig os.Signal) bool { return sig == syscall.SIGINT || sig == syscall.SIGQUIT }

// inForeground says whether our process group is the foreground one of our
// terminal, to which the terminal sends its signals. It is asked when a signal
// came, and so takes for the terminal's what somebody sent by kill(2): Go does
// not tell the sender, and the kernel tells nobody whether a signal was for one
// process or for a group.
func inForeground() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDONLY|syscall.O_NOCTTY, 0)
	if err != nil {
		return false // no terminal
	}
	defer tty.Close()
	n, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	if err != nil {
		return false
	}
	// The kernel stores a 32-bit pid_t, which is the upper half of an int on
	// 64-bit big-endian machines; the other half is 0.
	foreground := uint32(n) | uint32(uint64(n)>>32)
	own, err := unix.Getpgid(0)
	return err == nil && foreground == uint32(own)
}

// stop ends the watch, and returns what had arrived before.
func (w *watcher) stop() []os.Signal {
	signal.Stop(w.arrived)
	return w.drain()
}

// tell signals the command. That fails if it has ended (os.Process knows, and
// never signals a process id that was given away) or has become another user's
// (sudo): there is nobody else to tell then.
func tell(p *os.Process, sig os.Signal) { _ = p.Signal(sig) }

// statusOfCommand is the exit status as a shell would report it.
func statusOfCommand(p *os.ProcessState) commandStatus {
	if ws := p.Sys().(syscall.WaitStatus); ws.Signaled() {
		return commandStatus(statusSignal + int(ws.Signal()))
	}
	return commandStatus(p.ExitCode())
}
