//go:build linux || windows

package command

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/names"
	"github.com/procsem/semaphore/internal/permits"
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
	diff := gocmp.Diff(want, got, part, gocmp.AllowUnexported(handle{}, process{}), cmpopts.SortSlices(func(a, b handle) bool { return a.PID < b.PID }),
		cmpopts.IgnoreFields(process{}, "Started", "User", "args"),
		cmpopts.IgnoreFields(handle{}, "Opened", "Since", "Waited", "waited", "Arrived", "Numbers", "Run", "Child"))
	if diff != "" {
		t.Errorf("show --json (-want +got):\n%s", diff)
	}
	for _, h := range append(got.Holders, got.Waiters...) {
		if h.Since.IsZero() != (h.Waited == nil) || !h.Since.IsZero() && h.Since.Before(h.Opened.Add(-time.Second)) {
			t.Errorf("process %d: opened %v, since %v, waited %v", h.PID, h.Opened, h.Since, h.Waited)
		}
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
	big, _ := startWaiter(t, name, filepath.Join(dir, "2"), "-k", "2")
	all, _ := startWaiter(t, name, filepath.Join(dir, "2"), "-k", "all")
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
			{process: process{PID: waiter.Process.Pid, Command: "run " + name}, State: stateRunning, Waiting: true, Want: 1, Place: 1},
			{process: process{PID: big.Process.Pid, Command: "run -k 2 " + name}, State: stateRunning, Waiting: true, Want: 2, Place: 2},
			{process: process{PID: all.Process.Pid, Command: "run -k all " + name}, State: stateRunning, Waiting: true, Want: -1, Place: 3},
		},
	}, shown(t, name))
	if canBecome && command != second.Process.Pid {
		t.Errorf("command %d, procsem %d", command, second.Process.Pid)
	}
	text := run(t, "show", name).stdout
	for _, want := range []string{"limit    2\n", "free     0\n", "holders  2\n", "waiters  3\n", fmt.Sprintf("\n%d ", first.Process.Pid), fmt.Sprintf("\n%d ", holder), "HOLDER", "WAITER", "WANTS", " all ", "PLACE", filepath.Join(dir, "1") + "\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("show: no %q in\n%s", want, text)
		}
	}
}

// show has the labels, and of a holder that had to wait how long it has its permit and how long it had
// waited; of others it says that this is not known.
func TestShowTimesAndLabels(t *testing.T) {
	started := time.Now()
	name, s := newRecoverable(t, 1)
	file := filepath.Join(tempDir(t), "held")
	p, err := s.TryAcquire()
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"run", "--label", "deploy 4711", name, "--"}, helperCommand(t, "hold", file)...)
	cmd := procsemCommand(t, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, cmd)
	eventually(t, "it waits", func() bool { return len(shown(t, name).Waiters) == 1 })
	v := shown(t, name)
	if h := v.Holders[0]; len(v.Holders) != 1 || h.Label != "" || !h.Since.IsZero() || h.Waited != nil {
		t.Errorf("a holder that did not have to wait: %+v", v.Holders)
	}
	if h := v.Waiters[0]; h.Label != "deploy 4711" || !h.Since.IsZero() || h.Waited != nil {
		t.Errorf("the waiter: %+v", h)
	}
	json := run(t, "show", "--json", name).stdout
	for _, absent := range []string{`"since"`, `"waited_seconds"`} {
		if strings.Contains(json, absent) {
			t.Errorf("%s though it is not known:\n%s", absent, json)
		}
	}
	wants := func(pid int, want map[string]string) {
		t.Helper()
		text := run(t, "show", name).stdout
		for column, want := range want {
			if got := cell(t, text, pid, column); got != want {
				t.Errorf("%s of %d: %q, want %q in\n%s", column, pid, got, want, text)
			}
		}
	}
	wants(os.Getpid(), map[string]string{"WAITED": "-", "PERMIT": "0", "LABEL": "-", "CHILD": "-"})
	if held := cell(t, run(t, "show", name).stdout, os.Getpid(), "HELD"); !strings.HasPrefix(held, "<") {
		t.Errorf("HELD of one that did not have to wait: %q, want a bound", held)
	}
	wants(cmd.Process.Pid, map[string]string{"LABEL": "deploy 4711", "PLACE": "1", "WANTS": "1"})

	if err := p.Release(); err != nil {
		t.Fatal(err)
	}
	said := readLines(out)
	command, err := strconv.Atoi(<-said.next)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { killIfThere(command) })
	v = shown(t, name)
	ended := time.Now()
	if len(v.Holders) != 1 {
		t.Fatalf("%+v", v)
	}
	h := v.Holders[0]
	if h.Label != "deploy 4711" || h.Since.Before(started.Add(-time.Second)) || h.Since.After(ended.Add(time.Second)) || h.Waited == nil || *h.Waited <= 0 || *h.Waited > ended.Sub(started).Seconds() {
		t.Errorf("the holder: %+v, waited %v", h, h.Waited)
	}
	child := "-"
	if runtime.GOOS == "linux" {
		child = strconv.Itoa(command)
	}
	wants(cmd.Process.Pid, map[string]string{"PERMIT": "0", "LABEL": "deploy 4711", "CHILD": child})
	text := run(t, "show", name).stdout
	for _, column := range []string{"HELD", "WAITED"} {
		if d, err := time.ParseDuration(cell(t, text, cmd.Process.Pid, column)); err != nil || d < 0 || d > time.Since(started) {
			t.Errorf("%s of the holder: %v, %v in\n%s", column, d, err, text)
		}
	}
}

// cell returns what show has printed of a process in a column.
func cell(t *testing.T, text string, pid int, column string) string {
	t.Helper()
	var from, to int
	for line := range strings.Lines(text) {
		if at := strings.Index(line, column); at >= 0 {
			rest := line[at+len(column):]
			from, to = at, at+len(column)+len(rest)-len(strings.TrimLeft(rest, " "))
		} else if cells := strings.Fields(line); len(cells) > 0 && cells[0] == strconv.Itoa(pid) {
			runes := []rune(line)
			return strings.TrimSpace(string(runes[from:to]))
		}
	}
	t.Fatalf("no %s of %d in\n%s", column, pid, text)
	return ""
}

// What is written over the times and the label of a slot, show shows harmlessly.
func TestShowOfTimesAndLabelWrittenOver(t *testing.T) {
	name, s := newRecoverable(t, 1)
	if err := s.Wait(); err != nil {
		t.Fatal(err)
	}
	const sinceAt = permits.SlotsAt + 64
	dir, err := names.Dir()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, names.FileName(names.Recoverable, name)), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, tt := range []struct {
		since, waited int64
		label         string
		held, wait    string // what show says
		shows         string
	}{
		{math.MaxInt64, math.MaxInt64, "\xff\x1b[31m", "0s", "106751d23h", "\"\ufffd\\x1b[31m\""},
		{math.MinInt64, 1, "a\nb", "<", "-", `"a\nb"`},
		{1, -1, "a\x00\xff", "<", "-", "a"},
		{-1, math.MinInt64, "\x00a", "<", "-", "-"},
	} {
		var b [48]byte
		binary.NativeEndian.PutUint64(b[0:], uint64(tt.since))
		binary.NativeEndian.PutUint64(b[8:], uint64(tt.waited))
		copy(b[16:], tt.label)
		if _, err := f.WriteAt(b[:], sinceAt); err != nil {
			t.Fatal(err)
		}
		got := run(t, "show", name)
		if got.status != 0 || got.stderr != "" {
			t.Errorf("%d, %d, %q: %+v", tt.since, tt.waited, tt.label, got)
		}
		for column, want := range map[string]string{"HELD": tt.held, "WAITED": tt.wait, "PERMIT": "0", "LABEL": tt.shows} {
			if got := cell(t, got.stdout, os.Getpid(), column); got != want && !(want == "<" && strings.HasPrefix(got, want)) {
				t.Errorf("%d, %d, %q: %s %q, want %q", tt.since, tt.waited, tt.label, column, got, want)
			}
		}
		h := shown(t, name).Holders[0]
		if known := tt.held != "<"; h.Since.IsZero() == known || (h.Waited == nil) == known || !utf8.ValidString(h.Label) {
			t.Errorf("%d, %d, %q: %+v", tt.since, tt.waited, tt.label, h)
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
		if got := (&lockView{}).look(engine.ObservedHandle{Holder: tt.holder}).State; got != tt.want {
			t.Errorf("%s: %s, want %s", tt.what, got, tt.want)
		}
	}
}
