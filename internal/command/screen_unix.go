//go:build unix

package command

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
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

// none reports whether nobody else writes on the terminal, as far as that can be told: procsem is in the
// foreground, and so is nothing else but what runs it and waits for it. What a shell without job control (a script)
// runs in the background, and does not wait for, ignores SIGINT.
func (c *company) none() bool {
	return inForeground() && !signal.Ignored(os.Interrupt) && c.noneInGroup()
}

// leadsGroup reports whether our process group began with us, as where a shell with job control runs procsem.
func leadsGroup() bool {
	group, err := unix.Getpgid(0)
	return err == nil && group == os.Getpid()
}

// takesOutput reports whether a write would not block, as far as the system knows: one that is long may block yet.
func takesOutput(out io.Writer) bool {
	f, isFile := out.(*os.File)
	if !isFile {
		return true
	}
	n, err := poll(unix.PollFd{Fd: int32(f.Fd()), Events: unix.POLLOUT}, 0)
	return err != nil || n > 0
}

// awaitInput waits until a read that has failed can be tried again, and reports whether it can. Another program that
// has the terminal, too, may have told it that reads must not block (O_NONBLOCK, which is the open terminal's and not
// the program's).
func awaitInput(in *os.File, failed error) bool {
	if !errors.Is(failed, syscall.EAGAIN) {
		return false
	}
	_, err := poll(unix.PollFd{Fd: int32(in.Fd()), Events: unix.POLLIN}, -1)
	return err == nil
}

// poll waits for so many milliseconds, or for ever if they are negative.
func poll(file unix.PollFd, milliseconds int) (n int, err error) {
	for {
		n, err = unix.Poll([]unix.PollFd{file}, milliseconds)
		if err != unix.EINTR {
			return n, err
		}
	}
}
