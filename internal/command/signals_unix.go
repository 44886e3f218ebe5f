//go:build unix

package command

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/procsem/semaphore/internal/startsignals"
	"golang.org/x/sys/unix"
)

// endSignals end a wait; once the command runs they are forwarded to it.
// childSignals are for the command only.
var (
	endSignals   = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}
	childSignals = []os.Signal{syscall.SIGUSR1, syscall.SIGUSR2}
)

// keepIgnored ignores what was ignored when procsem was started, so that the command is
// started so too. Go's runtime has caught those signals, but for SIGINT and SIGHUP, and a
// new program gets the default action of what its parent catches.
//
// Not SIGCHLD: of a process that ignores it the kernel keeps no statuses of children. Not
// SIGURG, by which the runtime interrupts goroutines: by default it does nothing either.
// And os/signal leaves SIGPROF, and the signals of faults, to the runtime.
func keepIgnored() {
	for _, sig := range startsignals.Ignored() {
		if sig != syscall.SIGCHLD && sig != syscall.SIGURG {
			signal.Ignore(sig)
		}
	}
}

// terminalSends reports whether sig is a signal that the terminal sends to its whole
// foreground process group, which includes the command, when a key is pressed.
func terminalSends(sig os.Signal) bool { return sig == syscall.SIGINT || sig == syscall.SIGQUIT }

// inForeground reports whether our process group is the foreground process group of
// our terminal, to which the terminal sends its signals.
//
// Its caller uses that to decide whether the terminal has sent a signal. A signal
// sent by kill(2) while we are in the foreground is therefore mistaken for one from
// the terminal: Go does not reveal a signal's sender, and the kernel does not reveal
// whether a signal was sent to one process or to a group.
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
	// The kernel stores a 32-bit pid_t, which is the upper half of n on 64-bit
	// big-endian machines and the lower half on others; the other half is 0.
	foreground := uint32(n) | uint32(uint64(n)>>32)
	own, err := unix.Getpgid(0)
	return err == nil && foreground == uint32(own)
}

// stop ends the watch and returns the signals that arrived before.
func (w *watcher) stop() []os.Signal {
	signal.Stop(w.arrived)
	return w.drain()
}
