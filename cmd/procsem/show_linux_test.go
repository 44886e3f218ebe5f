package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/proc"
)

func shown(t *testing.T, name string) view {
	t.Helper()
	got := run(t, "show", "--json", name)
	var v view
	if err := json.Unmarshal([]byte(got.stdout), &v); err != nil || got.status != 0 || got.stderr != "" {
		t.Fatalf("%v, %+v", err, got)
	}
	return v
}

// checkView compares what does not vary; commands are checked by a part of them.
func checkView(t *testing.T, want, got view) {
	t.Helper()
	part := gocmp.FilterPath(func(p gocmp.Path) bool { return p.Last().String() == ".Command" }, gocmp.Comparer(func(a, b string) bool {
		return (a == "") == (b == "") && (strings.Contains(a, b) || strings.Contains(b, a))
	}))
	diff := gocmp.Diff(want, got, part, gocmp.AllowUnexported(handle{}), cmpopts.SortSlices(func(a, b handle) bool { return a.PID < b.PID }),
		cmpopts.IgnoreFields(process{}, "Started", "User"), cmpopts.IgnoreFields(handle{}, "Opened"))
	if diff != "" {
		t.Errorf("show --json (-want +got):\n%s", diff)
	}
	for _, h := range append(got.Holders, got.Waiters...) {
		if h.Opened.IsZero() || h.Started.IsZero() || h.Started.After(h.Opened.Add(3*time.Second)) {
			t.Errorf("process %d: started %v, opened %v", h.PID, h.Started, h.Opened)
		}
		if h.State == stateRunning && h.User == "" {
			t.Errorf("process %d: no user", h.PID)
		}
	}
}

func TestShowHoldersAndWaiters(t *testing.T) {
	name, dir := newName(t), t.TempDir()
	first, _ := startHolder(t, name, filepath.Join(dir, "1"), "-n", "2")
	second, command := startHolder(t, name, filepath.Join(dir, "2"), "-F")
	waiter, _ := startWaiter(t, name, filepath.Join(dir, "2"))
	checkView(t, view{
		Name: name, Kind: kindRecoverable, Limit: ptr(2), Free: ptr(0),
		Holders: []handle{
			{process: process{PID: first.Process.Pid, Command: "run -n 2 " + name}, State: stateRunning, Permits: 1},
			{process: process{PID: command, Command: dir + "/2"}, State: stateRunning, Permits: 1},
		},
		Waiters: []handle{
			{process: process{PID: waiter.Process.Pid, Command: "run " + name}, State: stateRunning, Waiting: true},
		},
	}, shown(t, name))
	if command != second.Process.Pid {
		t.Errorf("command %d, procsem %d", command, second.Process.Pid)
	}
	text := run(t, "show", name).stdout
	for _, want := range []string{"limit  2\n", "free   0\n", fmt.Sprintf("\n%d ", first.Process.Pid), fmt.Sprintf("\n%d ", command), "HOLDER", "WAITER", "run -n 2 " + name} {
		if !strings.Contains(text, want) {
			t.Errorf("show: no %q in\n%s", want, text)
		}
	}
}

// Each orphan is found to keep the permit of its own procsem, and those of the
// living keep nobody's.
func TestShowTellsWhoKeepsPermitsOfTheGone(t *testing.T) {
	name, dir := newName(t), t.TempDir()
	var want []handle
	var orphans []int
	for i := range 3 {
		file := filepath.Join(dir, fmt.Sprint("file", i))
		cmd, command := startHolder(t, name, file, "-n", "4")
		h := handle{process: process{PID: cmd.Process.Pid, Command: "run -n 4 " + name}, State: stateRunning, Permits: 1}
		if i != 1 {
			kill(t, cmd.Process.Pid)
			wait(t, cmd)
			orphans = append(orphans, command)
			h.Command, h.State = "", stateGone
			h.KeptBy = []process{{PID: command, Command: file}}
		}
		want = append(want, h)
	}
	checkView(t, view{Name: name, Kind: kindRecoverable, Limit: ptr(4), Free: ptr(1), Holders: want, Waiters: []handle{}}, shown(t, name))
	text := run(t, "show", name).stdout
	for _, want := range []string{"(gone; these still have its lock:)", fmt.Sprintf("\n  %d ", orphans[0]), filepath.Join(dir, "file2")} {
		if !strings.Contains(text, want) {
			t.Errorf("show: no %q in\n%s", want, text)
		}
	}
	for _, pid := range orphans {
		kill(t, pid)
	}
	eventually(t, "their permits are back", func() bool { return len(shown(t, name).Holders) == 1 })
	checkValue(t, name, 3)
}

// A process that was killed and not yet waited for is gone, and looking does not
// disturb: nothing is created, nobody is shown who only looks.
func TestShowOfZombie(t *testing.T) {
	name, file := newName(t), filepath.Join(t.TempDir(), "held")
	cmd, command := startHolder(t, name, file)
	kill(t, cmd.Process.Pid)
	eventually(t, "it is seen to be gone", func() bool {
		hs := shown(t, name).Holders
		return len(hs) == 1 && hs[0].State == stateGone && len(hs[0].KeptBy) == 1 && hs[0].KeptBy[0].PID == command
	})
	kill(t, command)
	wait(t, cmd)
}

func TestLookTrustsNoProcessID(t *testing.T) {
	self, err := proc.Look(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, tt := range []struct {
		what   string
		holder semaphore.Holder
		want   string
	}{
		{"itself", semaphore.Holder{PID: os.Getpid(), Started: self.Started, Opened: now}, stateRunning},
		{"another one that had its id", semaphore.Holder{PID: os.Getpid(), Started: self.Started.Add(-time.Hour), Opened: now}, stateUnseen},
		{"itself, start not known", semaphore.Holder{PID: os.Getpid(), Opened: now}, stateRunning},
		{"another one, start not known", semaphore.Holder{PID: os.Getpid(), Opened: self.Started.Add(-time.Hour)}, stateUnseen},
		{"no process", semaphore.Holder{PID: 1<<31 - 1, Started: self.Started, Opened: now}, stateUnseen},
	} {
		if got := (lockView{}).look(tt.holder).State; got != tt.want {
			t.Errorf("%s: %s, want %s", tt.what, got, tt.want)
		}
	}
}

// needNamespaces skips the test where processes can't get a pid namespace.
func needNamespaces(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("missing: root")
	}
	probe := exec.Command("true")
	probe.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if err := probe.Run(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("missing: namespaces: %v", err)
	}
}

// A holder in another pid namespace is found by its lock, under the id that it
// has here.
func TestShowOfOtherPidNamespace(t *testing.T) {
	needNamespaces(t)
	name, file := newName(t), filepath.Join(t.TempDir(), "held")
	cmd := procsemCommand(t, append([]string{"run", "-F", name, "--"}, helperCommand(t, "hold", file)...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Cloneflags: syscall.CLONE_NEWPID}
	start(t, cmd)
	readLines(out).want(t, "1")
	checkView(t, view{
		Name: name, Kind: kindRecoverable, Limit: ptr(1), Free: ptr(0), Waiters: []handle{},
		Holders: []handle{{process: process{PID: cmd.Process.Pid, Command: file}, State: stateRunning, Permits: 1}},
	}, shown(t, name))
}
