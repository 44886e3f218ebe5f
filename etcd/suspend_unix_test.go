//go:build unix

package etcd

import (
	"os"
	"syscall"
	"testing"
)

// suspend stops a child of this process, and returns when it stands still.
func suspend(t *testing.T, p *os.Process) {
	must(t, p.Signal(syscall.SIGSTOP))
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(p.Pid, &status, syscall.WUNTRACED, nil)
		if err == syscall.EINTR {
			continue
		}
		must(t, err)
		if !status.Stopped() {
			t.Fatalf("it has ended: %v", status)
		}
		return
	}
}

func resume(t *testing.T, p *os.Process) { must(t, p.Signal(syscall.SIGCONT)) }
