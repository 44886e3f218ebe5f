//go:build linux || windows

package command

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/procsem/semaphore/internal/engine"
)

// Where there is no terminal a wait speaks with -v only: a line, and another one when its place has changed.
func TestWaitSpeaksWithoutTerminal(t *testing.T) {
	t.Parallel()
	name, dir := newName(t), tempDir(t)
	holder, _ := startHolder(t, name, filepath.Join(dir, "held"), "--label", "deploy")
	waiter, _ := startWaiter(t, name, filepath.Join(dir, "held"))
	speaks := func(args ...string) *lines {
		t.Helper()
		cmd := procsemCommand(t, args...)
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		start(t, cmd)
		return readLines(stderr)
	}
	silent := speaks("run", name, "-c", "exit 0")
	eventually(t, "it waits", func() bool { return len(shown(t, name).Waiters) == 2 })
	run := speaks("run", "-v", name, "-c", "exit 0")
	eventually(t, "it waits too", func() bool { return len(shown(t, name).Waiters) == 3 })
	idle := speaks("wait", "--idle", "-v", name)
	by := fmt.Sprintf(`held by %d \(deploy\) for %s`, holder.Process.Pid, aTime)
	placed(t, run, `procsem: `+name+`: waiting, 3rd of 3, for `+aTime+`; `+by)
	placed(t, idle, `procsem: `+name+`: waiting until nobody uses it \(3 wait\), for `+aTime+`; `+by)
	kill(t, waiter.Process.Pid)
	placed(t, run, `procsem: `+name+`: waiting, 2nd of 2, for `+aTime+`; `+by)
	select {
	case line := <-silent.next:
		t.Errorf("without -v: %s", line)
	default:
	}
	several := speaks("run", "-v", "-k", "all", name, "-c", "exit 0")
	placed(t, several, `procsem: `+name+`: waiting for all permits, 3rd of 3, for `+aTime+`; `+by)
	also := speaks("run", "-v", "--also", name, newName(t), "-c", "exit 0")
	placed(t, also, `procsem: `+name+`: waiting, 4th of 4, for `+aTime+`; `+by)
}

// Nobody can tell who holds a permit of a bare count.
func TestWaitForBareCountSpeaks(t *testing.T) {
	t.Parallel()
	name := newSemaphore(t, 0)
	cmd := procsemCommand(t, "wait", "-v", name)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, cmd)
	lineOn(t, readLines(stderr), `procsem: `+name+`: waiting, for `+aTime)
	if got := run(t, "post", name); got.status != 0 {
		t.Fatalf("post: %+v", got)
	}
	if got := wait(t, cmd); got.status != 0 {
		t.Errorf("%+v", got)
	}
}

// With -q no command says anything but errors.
func TestQuiet(t *testing.T) {
	name, s := newRecoverable(t, 1)
	if err := s.SetLimit(1); err != nil {
		t.Fatal(err)
	}
	bare := newSemaphore(t, 1)
	for _, tt := range []struct {
		args   []string
		status int
		loud   string
	}{
		{[]string{"run", "-n", "2", name, "-c", "exit 3"}, 3, "resize has set its limit to 1"},
		{[]string{"run", "--posix", "-n", "2", bare, "-c", "exit 3"}, 3, "exists: its value stands"},
		{[]string{"create", name}, 0, "exists"},
		{[]string{"run", "--max-hold", "0.01", name, "--", self(t), helperArg + "stay"}, statusTimedOut, "--max-hold"},
	} {
		quiet := slices.Insert(slices.Clone(tt.args), 1, "-q")
		if got := run(t, tt.args...); got.status != tt.status || !strings.Contains(got.stderr, tt.loud) {
			t.Errorf("%q: %+v, want %q", tt.args, got, tt.loud)
		}
		if got := run(t, quiet...); got.status != tt.status || got.stderr != "" {
			t.Errorf("%q: %+v, want nothing said", quiet, got)
		}
	}
	if err := s.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := run(t, "try", bare); got.status != 0 {
		t.Fatalf("%+v", got)
	}
	for _, args := range [][]string{
		{"run", "-w", "0", name, "-c", "exit 3"}, {"run", "-w", "0.01", name, "-c", "exit 3"}, {"run", "-k", "all", "-w", "0", name, "-c", "exit 3"},
		{"wait", "--idle", "-w", "0", name}, {"wait", "-w", "0", bare}, {"try", bare},
	} {
		quiet := slices.Insert(slices.Clone(args), 1, "-q")
		if got := run(t, args...); got.status != statusTempFail || !isOneLine(got.stderr) {
			t.Errorf("%q: %+v, want status 75 and a line", args, got)
		}
		if got := run(t, quiet...); got.status != statusTempFail || got.stderr != "" {
			t.Errorf("%q: %+v, want status 75 and nothing said", quiet, got)
		}
	}
	if got := run(t, "run", "-q", "-n", "0", name, "-c", "exit 3"); got.status != statusUsage || !isOneLine(got.stderr) {
		t.Errorf("an error: %+v", got)
	}
}

func TestScene(t *testing.T) {
	for n, want := range map[int]string{1: "1st", 2: "2nd", 3: "3rd", 4: "4th", 11: "11th", 12: "12th", 13: "13th", 21: "21st", 22: "22nd", 101: "101st", 111: "111th"} {
		if got := ordinal(n); got != want {
			t.Errorf("ordinal(%d) = %s, want %s", n, got, want)
		}
	}
	now := time.Now()
	s := scene{name: "build", what: "waiting", place: 3, of: 5, holders: crowd{first: []named{{"", 4711, "make -j2 with many arguments", now.Add(-3 * time.Minute), false}}}}
	began := now.Add(-12 * time.Second)
	for _, tt := range []struct {
		width  int
		others int
		want   string
	}{
		{0, 0, "procsem: build: waiting, 3rd of 5, for 12s; held by 4711 (make -j2 with many arguments) for 3m"},
		{0, 1, "procsem: build: waiting, 3rd of 5, for 12s; held by 4711 (make -j2 with many arguments) for 3m and 1 more"},
		{90, 0, "procsem: build: waiting, 3rd of 5, for 12s; held by 4711 (make -j2 with many …) for 3m"},
		{79, 0, "procsem: build: waiting, 3rd of 5, for 12s; held by 4711 (make -j2 …) for 3m"},
		{40, 0, "procsem: build: waiting, 3rd of 5, for …"},
		{1, 0, "…"},
	} {
		s.holders.others = tt.others
		if got := s.line(began, tt.width); got != tt.want {
			t.Errorf("of width %d:\n%s, want\n%s", tt.width, got, tt.want)
		}
	}
	other := s
	other.holders.first = []named{{"", 4711, "make -j2 with many arguments", now, true}}
	if !s.same(other) {
		t.Error("a scene has changed with the time alone")
	}
	other.place = 2
	if s.same(other) {
		t.Error("another place is the same scene")
	}
	if got := (named{"", 4711, "make", now, true}).text(mostCommand); got != "4711 (make) for less than 1s" {
		t.Errorf("got %s", got)
	}
}

// The handle that waits is the one that was opened when ours was: another namespace's process may have our id.
func TestOwnHandle(t *testing.T) {
	own := engine.ObservedHandle{Holder: engine.Holder{PID: os.Getpid(), Opened: time.Now(), Waiting: true, Want: 1}}
	foreign := own
	foreign.Opened = own.Opened.Add(-time.Second)
	holds := own
	holds.Waiting = false
	o := observation{Observation: engine.Observation{Handles: []engine.ObservedHandle{foreign, holds, own}}}
	if got := ownHandle(o, own.Opened.Add(time.Millisecond).UnixNano()); got != &o.Handles[2] {
		t.Errorf("got %+v", got)
	}
	if got := ownHandle(o, 0); got != nil {
		t.Errorf("a handle that is not open yet: %+v", got)
	}
}

// A teller that ends at once says nothing, and what others print passes.
func TestTellerThatEndsAtOnce(t *testing.T) {
	var b bytes.Buffer
	inv := &invocation{stderr: &b, notices: &b}
	teller := inv.speak(newRun(inv), "build", 1, func(*teller) scene { t.Error("it looked"); return scene{} })
	fmt.Fprint(inv.notices, "notice\n")
	teller.end()
	teller.end()
	fmt.Fprint(inv.notices, "another\n")
	if got := b.String(); got != "notice\nanother\n" {
		t.Errorf("printed %q", got)
	}
}

// A gate is a stream that takes output only when it is opened.
type gate struct {
	entered chan struct{} // is sent to when a write has begun
	opened  chan struct{}
	wrote   bytes.Buffer
}

func (g *gate) Write(b []byte) (int, error) {
	g.entered <- struct{}{}
	<-g.opened
	return g.wrote.Write(b)
}

// A write that blocks does not hold up the end of the wait, and is not followed by another one.
func TestTellerEndsWhileItsWriteBlocks(t *testing.T) {
	t.Parallel()
	g := &gate{entered: make(chan struct{}, 1), opened: make(chan struct{})}
	inv := &invocation{stderr: g, notices: g}
	cmd := newRun(inv)
	if err := cmd.Flags().Set(verboseFlag, "true"); err != nil {
		t.Fatal(err)
	}
	teller := inv.speak(cmd, "build", 1, func(*teller) scene { return scene{name: "build", what: "waiting"} })
	receive(t, g.entered, "a line")
	ended := make(chan struct{})
	go func() { teller.end(); close(ended) }()
	receive(t, ended, "the end, while a write blocks")
	close(g.opened)
	if _, err := fmt.Fprint(inv.notices, "notice\n"); err != nil {
		t.Fatal(err)
	}
	if got := g.wrote.String(); !regexp.MustCompile(`\Aprocsem: build: waiting, for ` + aTime + `\nnotice\n\z`).MatchString(got) {
		t.Errorf("printed %q", got)
	}
}

func receive(t *testing.T, from <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-from:
	case <-time.After(deadline):
		t.Fatalf("not within %v: %s", deadline, what)
	}
}
