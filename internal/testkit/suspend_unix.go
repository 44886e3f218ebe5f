//go:build unix && !aix

package testkit

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Suspend suspends a process, and returns when it stands still.
func Suspend(t *testing.T, a *Actor) {
	t.Helper()
	Must(t, a.Cmd.Process.Signal(syscall.SIGSTOP))
	AwaitSuspension(t, a)
}

// AwaitSuspension waits until an actor is suspended.
func AwaitSuspension(t *testing.T, a *Actor) {
	t.Helper()
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(a.Cmd.Process.Pid, &status, syscall.WUNTRACED, nil)
		if err == unix.EINTR {
			continue
		}
		Must(t, err)
		if !status.Stopped() {
			t.Fatalf("it has ended: %#x", status)
		}
		return
	}
}

// GoOn lets a suspended process go on.
func GoOn(t *testing.T, a *Actor) {
	t.Helper()
	Must(t, a.Cmd.Process.Signal(syscall.SIGCONT))
}
