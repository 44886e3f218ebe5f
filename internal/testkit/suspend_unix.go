//go:build unix && !aix

package testkit

import (
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Suspend suspends a process, and returns when it stands still.
func Suspend(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	Must(t, cmd.Process.Signal(syscall.SIGSTOP))
	AwaitSuspension(t, cmd)
}

// AwaitSuspension waits until a process is suspended.
func AwaitSuspension(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(cmd.Process.Pid, &status, syscall.WUNTRACED, nil)
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
func GoOn(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	Must(t, cmd.Process.Signal(syscall.SIGCONT))
}
