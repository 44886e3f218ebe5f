//go:build linux || windows

package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/procsem/semaphore/internal/engine"
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

// checkView compares views except for times and users. Of two commands one must contain
// the other.
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
	name, dir := newName(t), tempDir(t)
	first, _ := startHolder(t, name, filepath.Join(dir, "1"), "-n", "2")
	second, command := startHolder(t, name, filepath.Join(dir, "2"), inPlace)
	waiter, _ := startWaiter(t, name, filepath.Join(dir, "2"))
	holder := command
	if !canBecome {
		holder = second.Process.Pid
	}
	checkView(t, view{
		Name: name, Kind: kindRecoverable, Limit: ptr(2), Free: ptr(0),
		Holders: []handle{
			{process: process{PID: first.Process.Pid, Command: "run -n 2 " + name}, State: stateRunning, Permits: 1},
			{process: process{PID: holder, Command: filepath.Join(dir, "2")}, State: stateRunning, Permits: 1},
		},
		Waiters: []handle{
			{process: process{PID: waiter.Process.Pid, Command: "run " + name}, State: stateRunning, Waiting: true},
		},
	}, shown(t, name))
	if canBecome && command != second.Process.Pid {
		t.Errorf("command %d, procsem %d", command, second.Process.Pid)
	}
	text := run(t, "show", name).stdout
	for _, want := range []string{"limit  2\n", "free   0\n", fmt.Sprintf("\n%d ", first.Process.Pid), fmt.Sprintf("\n%d ", holder), "HOLDER", "WAITER", "run -n 2 " + name} {
		if !strings.Contains(text, want) {
			t.Errorf("show: no %q in\n%s", want, text)
		}
	}
}

func TestLookNeedsMoreThanProcessID(t *testing.T) {
	self, err := proc.Look(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, tt := range []struct {
		what   string
		holder engine.Holder
		want   string
	}{
		{"itself", engine.Holder{PID: os.Getpid(), Started: self.Started, Opened: now}, stateRunning},
		{"another process with its id", engine.Holder{PID: os.Getpid(), Started: self.Started.Add(-time.Hour), Opened: now}, stateUnseen},
		{"itself, start not known", engine.Holder{PID: os.Getpid(), Opened: now}, stateRunning},
		{"another process, start not known", engine.Holder{PID: os.Getpid(), Opened: self.Started.Add(-time.Hour)}, stateUnseen},
		{"no process", engine.Holder{PID: math.MaxInt32, Started: self.Started, Opened: now}, stateUnseen},
	} {
		if got := (lockView{}).look(engine.ObservedHandle{Holder: tt.holder}).State; got != tt.want {
			t.Errorf("%s: %s, want %s", tt.what, got, tt.want)
		}
	}
}
