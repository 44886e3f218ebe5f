//go:build unix

package command

import (
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// An attendant waits for the command to end, and passes on what happens until then:
// signals to the command, and the command's stops to the shell.
//
// It asks for the command's state itself, to learn of stops too, and does so
// in the goroutine that forwards signals, so that none goes to a process id that is free
// again.
type attendant struct {
	changed   chan os.Signal // SIGCHLD
	continued chan os.Signal // SIGCONT
	child     child
	stopped   bool // the command, and procsem has followed it
	owed      bool // a SIGCONT: the command was continued, and procsem with it
}

// expect is called before the command is started, so that no change is missed.
func expect() *attendant {
	a := &attendant{changed: make(chan os.Signal, 1), continued: make(chan os.Signal, 1)}
	signal.Notify(a.changed, syscall.SIGCHLD)
	if !signal.Ignored(syscall.SIGCONT) {
		signal.Notify(a.continued, syscall.SIGCONT)
	}
	return a
}

// attend returns how procsem is to end.
func (a *attendant) attend(command child, w *watcher, c *clock) error {
	a.child = command
	for {
		continued := false
		select {
		case sig := <-w.arrived:
			w.deliver(a.child, sig)
			continue
		case <-c.timer:
			c.strike(a.child)
			continue
		case what := <-c.losing:
			c.lose(what, a.child)
			continue
		case <-a.changed:
		case <-a.continued:
			continued = true
		}
		ws, ended, err := a.look(continued)
		switch {
		case err != nil:
			return err
		case ended:
			return w.endOf(ws)
		}
	}
}

// look learns how the command's state has changed. As a shell waits for procsem and not
// for the command, procsem stops when the command does, and continues it when it is
// continued itself.
func (a *attendant) look(continued bool) (ws unix.WaitStatus, ended bool, err error) {
	// Asked for first, so that nothing is between a look that finds the command stopped
	// and its being continued: it might stop once more.
	continued = a.wasContinued() || continued
	var stop syscall.Signal // that has stopped the command since the last look
	resumed := false        // the command was continued by others, as by a shell's "fg"
	for {
		pid, err := unix.Wait4(a.child.pid, &ws, wNoHang|wUntraced|wContinued, nil)
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return ws, false, os.NewSyscallError("wait4", err)
		case pid == 0:
			switch {
			case resumed:
				a.stopped, a.owed, continued = false, !continued, false
			case a.owed && continued && !a.stopped:
				a.owed, continued = false, false
			}
			a.follow(stop, continued)
			return ws, false, nil
		case wContinued != 0 && ws.Continued():
			stop, resumed = 0, true
		case ws.Exited(), ws.Signaled():
			return ws, true, nil
		case ws.Stopped():
			stop = ws.StopSignal()
		default: // what WaitStatus makes of SIGSTOP on BSD and macOS
			stop = syscall.SIGSTOP
		}
	}
}

// follow does to procsem what was done to the command, or the reverse.
func (a *attendant) follow(stop syscall.Signal, continued bool) {
	switch {
	case stop != 0 && !(continued && !a.stopped):
		// If a.stopped, the command was continued and has stopped again.
		a.stopped = true
		if cluster == nil { // or it would not hold on to the permit
			stopLike(stop)
		}
	case continued && (stop != 0 || a.stopped):
		// If the command's stop is new to us, Ctrl-Z has stopped both: procsem saw it
		// only when it was continued itself, perhaps an instant before the command.
		a.stopped = false
		a.child.forward(syscall.SIGCONT)
	}
}

// wasContinued reports whether a SIGCONT was delivered that was not received yet.
func (a *attendant) wasContinued() bool {
	flush := make(chan os.Signal, 1)
	signal.Notify(flush, syscall.SIGCHLD)
	signal.Stop(flush) // see watcher.pending
	select {
	case <-a.continued:
		return true
	default:
		return false
	}
}

// stopLike stops procsem for the shell that may continue it. If there is none, that is
// no terminal, or no process with job control that watches our process group, procsem
// goes on: it could be stopped for ever, and its permit taken. The kernel knows the
// latter, but asks only for the signals of terminals, which SIGSTOP is not.
func stopLike(sig syscall.Signal) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDONLY|syscall.O_NOCTTY, 0)
	if err != nil {
		return
	}
	tty.Close()
	if sig == syscall.SIGSTOP {
		sig = syscall.SIGTSTP
	}
	_ = syscall.Kill(os.Getpid(), sig)
}

// endOf returns how procsem is to end after the command: with its status, as a shell
// reports it; or by SIGINT or SIGQUIT, if that has killed the command and was meant for
// procsem too. A shell script goes on when a child exits with whatever status after
// Ctrl-C, because the child may have handled it, and stops when a child dies of it.
func (w *watcher) endOf(ws unix.WaitStatus) error {
	if !ws.Signaled() {
		return commandStatus(ws.ExitStatus())
	}
	if sig := ws.Signal(); terminalSends(sig) && w.hears(sig) {
		return signalled{sig}
	}
	return commandStatus(statusSignal + int(ws.Signal()))
}

// patienceForSignal bounds how long hears waits. The kernel sends a signal to all of a
// process group before it lets any of them end, so when the command's end is known the
// signal is pending here; what it may need is that the thread which gets it runs. The
// whole time passes only when the command alone was killed by SIGINT or SIGQUIT.
const patienceForSignal = time.Second / 2

// hears reports whether procsem got sig as well, while the command ran or just now.
func (w *watcher) hears(sig os.Signal) bool {
	if !slices.Contains(w.heard, sig) {
		return false // ignored
	}
	late := time.After(patienceForSignal)
	for !w.received[sig] {
		select {
		case s := <-w.arrived:
			w.received[s] = true
		case <-late:
			return false
		}
	}
	return true
}
