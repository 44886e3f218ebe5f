//go:build unix || windows

package command

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRunNeverExceedsLimit(t *testing.T) {
	const limit, total = 2, 6
	name, dir := newName(t), tempDir(t)
	args := append([]string{"run", "-n", "2", name, "--"}, helperCommand(t, "witness", dir, "2", "6")...)
	outcomes := make([]outcome, total)
	var wg sync.WaitGroup
	for i := range outcomes {
		cmd := procsemCommand(t, args...)
		var stdout strings.Builder
		cmd.Stdout = &stdout
		start(t, cmd)
		wg.Go(func() {
			cmd.Wait()
			outcomes[i] = outcome{status: cmd.ProcessState.ExitCode(), stdout: stdout.String()}
		})
	}
	wg.Wait()
	most := 0
	for _, o := range outcomes {
		if o.status != 0 {
			t.Errorf("a run ended with status %d, stdout %q", o.status, o.stdout)
			continue
		}
		most = max(most, atoi(strings.TrimSpace(o.stdout)))
	}
	if most != limit {
		t.Errorf("at most %d held permits at once, want %d", most, limit)
	}
	checkValue(t, name, limit)
}

func TestRunPassesStatusThrough(t *testing.T) {
	dir := tempDir(t)
	notExecutable := filepath.Join(dir, "procsem-test-noexec")
	if err := os.WriteFile(notExecutable, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range append(platformStatuses(t),
		statusTest{"success", []string{"-c", "exit 0"}, 0},
		statusTest{"failure", append([]string{"--"}, helperCommand(t, "exit", "3")...), 3},
		statusTest{"shell line", []string{"-c", "exit 4"}, 4},
		statusTest{"not found in PATH", []string{"--", "procsem-no-such-command"}, 127},
		statusTest{"empty", []string{"--", ""}, 127},
		statusTest{"no such file", []string{"--", filepath.Join(dir, "none")}, 127},
		statusTest{"not executable", []string{"--", notExecutable}, 126},
		statusTest{"not executable in PATH", []string{"--", "procsem-test-noexec"}, 126},
		statusTest{"a directory", []string{"--", dir}, 126},
	) {
		for _, how := range hows("--close", "--posix") {
			t.Run(tt.name+" "+how, func(t *testing.T) {
				name, args := newName(t), []string{"run", how, "-n", "1"}
				if how == "--posix" {
					name, args = newSemaphore(t, 1), []string{"run", how}
				}
				cmd := procsemCommand(t, append(append(args, name), tt.args...)...)
				cmd.Env = append(cmd.Env, "PATH="+os.Getenv("PATH")+string(filepath.ListSeparator)+dir)
				got := runCmd(t, cmd)
				status := got.status
				if how == "--no-fork" && got.signal != 0 {
					status = statusSignal + int(got.signal) // as a shell reports it
				}
				if status != tt.want {
					t.Errorf("status = %d, want %d; stderr: %s", status, tt.want, got.stderr)
				}
				if says := tt.want == 126 || tt.want == 127; says != isOneLine(got.stderr) {
					t.Errorf("stderr = %q; want a line: %v", got.stderr, says)
				}
				checkValue(t, name, 1)
			})
		}
	}
}

type statusTest struct {
	name string
	args []string
	want int
}

// inPlace is -F (--no-fork) where procsem supports it, else -o (--close).
var inPlace = map[bool]string{true: "-F", false: "-o"}[canBecome]

// hows returns the flags to test run with: the given ones, --posix=false, which changes
// nothing, and --no-fork where procsem supports it.
func hows(flags ...string) []string {
	flags = append(flags, "--posix=false")
	if canBecome {
		flags = append(flags, "--no-fork")
	}
	return flags
}

func isOneLine(stderr string) bool {
	return strings.HasPrefix(stderr, "procsem: ") && strings.Index(stderr, "\n") == len(stderr)-1
}

func TestRunPassesFlagsAndStreamsOn(t *testing.T) {
	name := newName(t)
	args := append([]string{"run", "-n", "4", name, "--"}, helperCommand(t, "streams", "-n", "8", "--", "--help", "a b", `"`, "")...)
	cmd := procsemCommand(t, args...)
	cmd.Stdin = strings.NewReader("from stdin\n")
	got := runCmd(t, cmd)
	want := outcome{stdout: "-n 8 -- --help a b \"  from stdin\n", stderr: "to stderr\n"}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(outcome{})); diff != "" {
		t.Errorf("outcome (-want +got):\n%s", diff)
	}
	checkValue(t, name, 4)
}

func TestRunWithoutPermitGivesUp(t *testing.T) {
	bare := newSemaphore(t, 0)
	owned, s := newRecoverable(t, 1)
	if err := s.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		args []string
		want int
	}{
		{owned, []string{"-w", "0"}, 75},
		{owned, []string{"--timeout", "0.01"}, 75},
		{owned, []string{"-w", "0", inPlace, "-E", "9"}, 9},
		{bare, []string{"--posix", "-w", "0"}, 75},
		{bare, []string{"--posix", "--timeout", "0.01"}, 75},
		{bare, []string{"--posix", "-w", "10ms", "-E", "9"}, 9},
		{bare, []string{"--posix", "-w", "0", "--conflict-exit-code", "0"}, 0},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			args := append([]string{"run"}, tt.args...)
			got := run(t, append(args, tt.name, "--", "echo", "the command ran")...)
			if got.status != tt.want || got.stdout != "" || !isOneLine(got.stderr) {
				t.Errorf("got %+v, want status %d, no output of the command and a line on stderr", got, tt.want)
			}
		})
	}
}

func TestRunUsesExistingPOSIXSemaphoreUnchanged(t *testing.T) {
	name := newSemaphore(t, 3)
	got := run(t, "run", "--posix", "-n", "4", name, "-c", "exit 0")
	if got.status != 0 || !isOneLine(got.stderr) || !strings.Contains(got.stderr, "-n 4") {
		t.Errorf("got %+v, want status 0 and a notice about -n 4", got)
	}
	got = run(t, "run", "--posix", name, "-c", "exit 0")
	if got.status != 0 || got.stderr != "" {
		t.Errorf("without -n: got %+v, want status 0 and no notice", got)
	}
	checkValue(t, name, 3)
}

func TestRunCreatesWithLimit(t *testing.T) {
	for _, flag := range []string{"-n", "--limit", "-j", "--jobs"} {
		for _, kind := range []string{"--posix=false", "--posix"} {
			name := newName(t)
			got := run(t, "run", kind, flag, "5", name, "-c", "exit 0")
			if got.status != 0 || got.stderr != "" {
				t.Errorf("%s %s: got %+v, want status 0 and no output", kind, flag, got)
			}
			if kind != "--posix" || posixLasts {
				checkValue(t, name, 5)
			}
		}
	}
}

// eachFull runs f for each way in which procsem waits for a permit. f gets the flags of
// run, a semaphore without free permits, the notice that "run -n 1" prints before it
// waits, and a function that adds a permit.
func eachFull(t *testing.T, title string, f func(t *testing.T, flags []string, name, notice string, open func())) {
	check := func(t *testing.T, args ...string) {
		t.Helper()
		if got := run(t, args...); got.status != 0 {
			t.Errorf("%q: %+v", args, got)
		}
	}
	ways := map[string][]string{"recoverable": nil}
	if canBecome {
		ways["in place"] = []string{"-F"}
	}
	for way, flags := range ways {
		t.Run(title+" "+way, func(t *testing.T) {
			name, s := newRecoverable(t, 1)
			if err := s.SetLimit(0); err != nil {
				t.Fatal(err)
			}
			f(t, flags, name, "procsem: "+name+": procsem resize has set its limit to 0, -n 1 is not used; procsem resize "+name+" --default ends that",
				func() { t.Helper(); check(t, "resize", name, "1") })
		})
	}
	t.Run(title+" posix", func(t *testing.T) {
		name := newSemaphore(t, 0)
		f(t, []string{"--posix"}, name, "procsem: "+name+" exists: its value stands (0 free now), -n 1 is not used",
			func() { t.Helper(); check(t, "post", name) })
	})
}

// After the name the command begins, whatever it looks like, and -- may be omitted. Options may
// be written in one word with their arguments.
func TestWhereTheCommandBegins(t *testing.T) {
	exits := helperCommand(t, "exit", "3")
	for _, tt := range [][]string{
		{"-n4", "NAME"}, {"-n", "4", "NAME", "--"}, {"-j4", "NAME"}, {"--jobs", "4", "NAME"}, {"--limit=4", "NAME", "--"},
		{"-w5", "-n4", "NAME"}, {"-on4", "NAME"}, {"-w.5", "-E9", "-n4", "--", "NAME"}, {"--mode=0600", "NAME"},
	} {
		name := newName(t)
		args := []string{"run"}
		for _, arg := range tt {
			args = append(args, strings.ReplaceAll(arg, "NAME", name))
		}
		if got := run(t, append(args, exits...)...); got.status != 3 || got.stderr != "" {
			t.Errorf("%q: got %+v, want the command's status", tt, got)
		}
		if limit := len(tt) > 1 && tt[0] != "--mode=0600"; limit {
			checkValue(t, name, 4)
		}
	}
	// The options of the command are its own.
	got := run(t, append(append([]string{"run", newName(t)}, helperCommand(t, "streams")...), "-n", "4", "--", "--help")...)
	if want := "-n 4 -- --help "; got.stdout != want {
		t.Errorf("got %+v, want the command's output %q", got, want)
	}
}

// Two names are a name and a command, which is not there; the message says so.
func TestTwoNames(t *testing.T) {
	name := newName(t)
	got := run(t, "run", name, "procsem-test-second", "--", "true")
	if says := `"procsem-test-second": command not found; the NAME is the word before it, "` + name + `"`; got.status != 127 || !strings.Contains(got.stderr, says) {
		t.Errorf("got %+v, want %q", got, says)
	}
	if got := run(t, "run", name, "--", "procsem-test-second"); got.status != 127 || strings.Contains(got.stderr, "NAME") {
		t.Errorf("got %+v, want no word about the name", got)
	}
}
