package proc_test

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/procsem/semaphore/internal/proc"
)

// Of a process's group its ancestors are not others, nor are zombies; all else is, its siblings and its children.
func TestOtherInGroup(t *testing.T) {
	start := func(group int, name string, args ...string) *exec.Cmd {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: group}
		if _, err := cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		return cmd
	}
	finds := func(pid, before int, want ...int) {
		t.Helper()
		var other int
		var known bool
		for began := time.Now(); ; time.Sleep(time.Millisecond) {
			other, known = proc.OtherInGroup(pid, before)
			for _, pid := range want {
				if known && other == pid {
					return
				}
			}
			if time.Since(began) > 20*time.Second {
				t.Fatalf("of %d: %d, %v; want %v", pid, other, known, want)
			}
		}
	}
	shell := start(0, "sh", "-c", "cat; exit 0").Process.Pid
	children := proc.ChildrenOf(shell)
	for began := time.Now(); len(children) == 0; time.Sleep(time.Millisecond) {
		if children = proc.ChildrenOf(shell); time.Since(began) > 20*time.Second {
			t.Skip("the kernel lists no children")
		}
	}
	finds(children[0], 0, 0)
	finds(shell, 0, children[0])

	sibling := start(shell, "cat")
	finds(children[0], 0, sibling.Process.Pid)
	finds(children[0], sibling.Process.Pid, sibling.Process.Pid)
	finds(children[0], os.Getpid(), sibling.Process.Pid) // of another group
	finds(shell, 0, children[0], sibling.Process.Pid)
	if err := sibling.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	finds(children[0], sibling.Process.Pid, 0)
	sibling.Wait()
	finds(children[0], sibling.Process.Pid, 0)
	if _, known := proc.OtherInGroup(sibling.Process.Pid, 0); known {
		t.Error("the group of a process that is gone is known")
	}
}
