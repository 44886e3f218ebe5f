package command

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// While a run waits for the time it holds no permit and keeps nobody from running, and when it is killed it leaves
// nothing behind, not even a start.
func TestEveryHoldsNothingWhileItWaits(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT} {
		name := newName(t)
		if got := run(t, "run", "--every", "1h", name, "true"); got != (outcome{}) {
			t.Fatal(got)
		}
		cmd := procsemCommand(t, "run", "--every", "1h", name, "true")
		start(t, cmd)
		eventually(t, "the run has the semaphore open", func() bool { return hasOpen(cmd.Process.Pid, "rec."+name) })
		for range 5 {
			if got := run(t, "run", "-w", "0", name, "true"); got != (outcome{}) {
				t.Errorf("beside one that waits for the time: %+v", got)
			}
		}
		checkValue(t, name, 1)
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if got := wait(t, cmd); got.signal != sig {
			t.Errorf("it ended with %+v, want that signal %v killed it", got, sig)
		}
		checkValue(t, name, 1)
		if got := run(t, "run", "-w", "0", "--every", "1ns", name, "true"); got != (outcome{}) {
			t.Errorf("after that: %+v", got)
		}
	}
}

// When it is time but no permit is free, a run waits for one in line, and if another one has started by then it
// gives the permit back.
func TestEveryLooksAgainWithPermit(t *testing.T) {
	name, s := newRecoverable(t, 1)
	if err := s.TryWait(); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(tempDir(t), "out")
	const waiters = 4
	for range waiters {
		start(t, procsemCommand(t, "run", "--every", "1h", name, "-c", "echo started >>"+out))
	}
	eventually(t, "all wait for the permit", func() bool {
		o, err := observe(name)
		if err != nil {
			t.Fatal(err)
		}
		_, waiting := o.count()
		return waiting == waiters
	})
	if err := s.Post(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "one has started, and the others have given the permit back", func() bool {
		o, err := observe(name)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := os.ReadFile(out)
		return len(got) > 0 && len(o.Handles) == 0
	})
	if got, err := os.ReadFile(out); string(got) != "started\n" {
		t.Errorf("the commands wrote %q, %v; want that one was started", got, err)
	}
}

// hasOpen reports whether a process has a file of that name open.
func hasOpen(pid int, name string) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	fds, _ := os.ReadDir(dir)
	for _, fd := range fds {
		if path, err := os.Readlink(filepath.Join(dir, fd.Name())); err == nil && strings.HasSuffix(path, "/"+name) {
			return true
		}
	}
	return false
}
