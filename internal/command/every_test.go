//go:build unix || windows

package command

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Of many runs one starts its command, whether they come one after the other or at once.
func TestEveryStartsOnce(t *testing.T) {
	for _, how := range hows() {
		name := newName(t)
		args := append([]string{"run", how, "--every", "1h", "-w", "0", "-n", "3", name, "--"}, helperCommand(t, "exit", "7")...)
		var said []*lines
		for range 8 {
			cmd := procsemCommand(t, args...)
			stderr, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			start(t, cmd)
			said = append(said, readLines(stderr))
			t.Cleanup(func() { cmd.Wait() })
		}
		started, refused := 0, 0
		for _, l := range said {
			line, some := <-l.next
			switch {
			case !some:
				started++
			case strings.Contains(line, "no permit"):
			case strings.Contains(line, "--every 1h allows the next one at "):
				refused++
			default:
				t.Errorf("%s: said %q", how, line)
			}
		}
		if started != 1 {
			t.Errorf("%s: %d of 8 started the command, want one (%d were refused)", how, started, refused)
		}
		got := run(t, args...)
		if got.status != 75 || !isOneLine(got.stderr) || !strings.Contains(got.stderr, `the last start under "`+name+`" was `) {
			t.Errorf("%s: a later one: %+v, want status 75 and one line", how, got)
		}
		checkValue(t, name, 3)
	}
}

// The statuses and messages of a start that is not allowed yet, and what does not count.
func TestEveryGivesUp(t *testing.T) {
	name := newName(t)
	command := helperCommand(t, "exit", "0")
	every := func(flags ...string) outcome {
		t.Helper()
		return run(t, append(append(append([]string{"run"}, flags...), name, "--"), command...)...)
	}
	if got := every(); got != (outcome{}) { // without --every
		t.Fatal(got)
	}
	if got := every("--every", "1h"); got != (outcome{}) {
		t.Fatalf("the first one: %+v", got)
	}
	for _, tt := range []struct {
		flags  string
		status int
		says   string
	}{
		{"--every 1h -w 0", 75, "--every 1h allows the next one at "},
		{"--every 2h -w 10 -E 9", 9, "--every 2h allows"},
		{"--every 1h -w 30m", 75, " ago, and --every 1h allows"},
		{"--every 30d -w 1w", 75, time.Now().Add(30 * 24 * time.Hour).Format("the next one at 2006-")},
		{"--every 2562047h -w 0", 75, "--every 2562047h allows"},
		{"-w 0", 0, ""},
		{"--every 1ns", 0, ""},
	} {
		got := every(strings.Fields(tt.flags)...)
		if got.status != tt.status || !strings.Contains(got.stderr, tt.says) || isOneLine(got.stderr) != (tt.status != 0) {
			t.Errorf("%s: %+v, want status %d and a line with %q", tt.flags, got, tt.status, tt.says)
		}
	}
}

// One that has to wait does, and starts no earlier.
func TestEveryWaits(t *testing.T) {
	const every = 300 * time.Millisecond
	name, began := newName(t), time.Now()
	args := append([]string{"run", "-n", "2", "--every", "300ms", name, "--"}, helperCommand(t, "exit", "0")...)
	for range 2 { // at once
		start(t, procsemCommand(t, args...))
	}
	if got := run(t, append([]string{"run", "-w", "30"}, args[3:]...)...); got != (outcome{}) { // also with a timeout
		t.Fatal(got)
	}
	if got := run(t, args...); got != (outcome{}) {
		t.Fatal(got)
	}
	// The last one of two at least.
	if took := time.Since(began); took < every {
		t.Errorf("two starts within %v, and --every %v", took, every)
	}
}

// One that would wait for itself when it is time says so before.
func TestEveryWithinItself(t *testing.T) {
	name := newName(t)
	command := helperCommand(t, "exit", "7")
	if got := run(t, append([]string{"run", "--every", "1h", name, "--"}, command...)...); got.status != 7 {
		t.Fatal(got)
	}
	within := func(flags ...string) outcome {
		t.Helper()
		outer := append([]string{"run", name, "--"}, helperCommand(t, "procsem")...)
		return run(t, append(append(append(append(outer, "run"), flags...), name, "--"), command...)...)
	}
	if got := within("--every", "1h"); got.status != statusDeadlock || !strings.Contains(got.stderr, "would wait for itself") {
		t.Errorf("got %+v, want status 70 at once", got)
	}
	if got := within("--every", "1h", "-w", "0"); got.status != statusTempFail {
		t.Errorf("-w 0: %+v, want status 75", got)
	}
	checkValue(t, name, 1)
}

// A command that is not there uses no start up.
func TestEveryOfMissingCommand(t *testing.T) {
	name := newName(t)
	for range 2 {
		got := run(t, "run", "--every", "1h", "-w", "0", name, "procsem-no-such-command")
		if got.status != 127 || !strings.Contains(got.stderr, "the NAME is the word before it") {
			t.Errorf("got %+v, want status 127", got)
		}
	}
	if got := run(t, append([]string{"run", "--every", "1h", "-w", "0", name, "--"}, helperCommand(t, "exit", "0")...)...); got.status != 0 {
		t.Errorf("the command that is there: %+v", got)
	}
}

// The time is the file's: a semaphore that is made anew knows of no start, and one that lives on in another
// process does.
func TestEveryIsKeptInFile(t *testing.T) {
	name, dir := newName(t), tempDir(t)
	every := func() int {
		cmd := procsemCommand(t, append([]string{"run", "--every", "1h", "-w", "0", name, "--"}, helperCommand(t, "exit", "0")...)...)
		cmd.Env = append(cmd.Env, "SEMAPHORE_DIR="+dir)
		return runCmd(t, cmd).status
	}
	if first, second := every(), every(); first != 0 || second != 75 {
		t.Errorf("the first one ended with %d, the second one with %d", first, second)
	}
	files, err := filepath.Glob(filepath.Join(dir, "rec.*"))
	if err != nil || len(files) != 1 || os.Remove(files[0]) != nil {
		t.Fatal(files, err)
	}
	if got := every(); got != 0 {
		t.Errorf("after the file was removed: %d", got)
	}
}

func TestShortTimes(t *testing.T) {
	for d, want := range map[time.Duration]string{
		time.Hour: "1h", 36 * time.Hour: "36h", 90 * time.Minute: "1h30m", 5 * time.Minute: "5m", 10 * time.Minute: "10m", 61 * time.Second: "1m1s",
		time.Hour + time.Second: "1h0m1s", 30 * time.Second: "30s", 1500 * time.Millisecond: "1.5s",
	} {
		if got := short(d); got != want {
			t.Errorf("short(%v) = %q, want %q", d, got, want)
		}
	}
	for d, want := range map[time.Duration]time.Duration{
		time.Second: time.Second, 4*time.Second + 1: 4*time.Second + time.Millisecond, 20*time.Second + 1: 21 * time.Second, time.Minute: time.Minute,
	} {
		if got := roundedUp(d); got != want {
			t.Errorf("roundedUp(%v) = %v, want %v", d, got, want)
		}
	}
}

// While it waits for its time it says so, and with -q nothing when it gives up.
func TestEverySpeaks(t *testing.T) {
	t.Parallel()
	name := newName(t)
	args := append([]string{"--every", "1h", name, "--"}, helperCommand(t, "exit", "0")...)
	if got := run(t, append([]string{"run"}, args...)...); got.status != 0 {
		t.Fatalf("%+v", got)
	}
	if got := run(t, append([]string{"run", "-q", "-w", "0"}, args...)...); got.status != statusTempFail || got.stderr != "" {
		t.Errorf("-q: %+v", got)
	}
	cmd := procsemCommand(t, append([]string{"run", "-v"}, args...)...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, cmd)
	placed(t, readLines(stderr), "procsem: "+name+": waiting until --every allows a start, at .*")
}
