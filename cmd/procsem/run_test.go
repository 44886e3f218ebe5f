//go:build unix

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRunNeverExceedsLimit(t *testing.T) {
	const limit, total = 2, 6
	name, dir := newName(t), t.TempDir()
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
		t.Errorf("at most %d were inside at once, want %d", most, limit)
	}
	checkValue(t, name, limit)
}

func TestRunPassesStatusThrough(t *testing.T) {
	dir := t.TempDir()
	notExecutable := filepath.Join(dir, "procsem-test-noexec")
	if err := os.WriteFile(notExecutable, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		args []string
		want int
	}{
		{"success", []string{"--", "true"}, 0},
		{"failure", []string{"--", "sh", "-c", "exit 3"}, 3},
		{"shell line", []string{"-c", "exit 4"}, 4},
		{"SIGKILL", []string{"-c", "kill -KILL $$"}, 128 + int(syscall.SIGKILL)},
		{"SIGTERM", []string{"-c", "kill -TERM $$"}, 128 + int(syscall.SIGTERM)},
		{"not found in PATH", []string{"--", "procsem-no-such-command"}, 127},
		{"no such file", []string{"--", dir + "/none"}, 127},
		{"not executable", []string{"--", notExecutable}, 126},
		{"not executable in PATH", []string{"--", "procsem-test-noexec"}, 126},
		{"a directory", []string{"--", dir}, 126},
	} {
		for _, how := range []string{"--posix=false", "--close", "--no-fork", "--posix"} {
			t.Run(tt.name+" "+how, func(t *testing.T) {
				name := newName(t)
				cmd := procsemCommand(t, append([]string{"run", how, name}, tt.args...)...)
				cmd.Env = append(cmd.Env, "PATH="+os.Getenv("PATH")+":"+dir)
				got := runCmd(t, cmd)
				status := got.status
				if how == "--no-fork" && got.signal != 0 {
					status = 128 + int(got.signal) // a shell says so
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

func isOneLine(stderr string) bool {
	return strings.HasPrefix(stderr, "procsem: ") && strings.Index(stderr, "\n") == len(stderr)-1
}

func TestRunLeavesCommandItsFlagsAndStreams(t *testing.T) {
	name := newName(t)
	cmd := procsemCommand(t, "run", "-n", "4", name, "--", "sh", "-c", `printf "%s " "$@"; cat; echo to stderr >&2`, "sh", "-n", "8", "--", "--help")
	cmd.Stdin = strings.NewReader("from stdin\n")
	got := runCmd(t, cmd)
	want := outcome{stdout: "-n 8 -- --help from stdin\n", stderr: "to stderr\n"}
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
		{owned, []string{"-w", "0", "-F", "-E", "9"}, 9},
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

func TestRunTakesExistingPOSIXSemaphoreAsItIs(t *testing.T) {
	name := newSemaphore(t, 3)
	got := run(t, "run", "--posix", "-n", "4", name, "--", "true")
	if got.status != 0 || !isOneLine(got.stderr) || !strings.Contains(got.stderr, "-n 4") {
		t.Errorf("got %+v, want status 0 and a notice about -n 4", got)
	}
	got = run(t, "run", "--posix", name, "--", "true")
	if got.status != 0 || got.stderr != "" {
		t.Errorf("without -n: got %+v, want status 0 and no notice", got)
	}
	checkValue(t, name, 3)
}

func TestRunCreatesWithLimit(t *testing.T) {
	for _, flag := range []string{"-n", "--limit", "-j", "--jobs"} {
		for _, kind := range []string{"--posix=false", "--posix"} {
			name := newName(t)
			got := run(t, "run", kind, flag, "5", name, "--", "true")
			if got.status != 0 || got.stderr != "" {
				t.Errorf("%s %s: got %+v, want status 0 and silence", kind, flag, got)
			}
			checkValue(t, name, 5)
		}
	}
}

// startListener starts a procsem that runs listen, and returns when that is
// ready.
func startListener(t *testing.T, name, how string) (signal func(syscall.Signal), heard *lines, end func() outcome) {
	t.Helper()
	cmd := procsemCommand(t, append([]string{"run", how, name, "--"}, helperCommand(t, "listen")...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, cmd)
	heard = readLines(out)
	heard.want(t, "ready")
	return func(sig syscall.Signal) {
		t.Helper()
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}, heard, func() outcome { return wait(t, cmd) }
}

func TestRunPassesSignalsOn(t *testing.T) {
	for _, how := range []string{"--posix=false", "--no-fork", "--posix"} {
		t.Run(how, func(t *testing.T) { testRunPassesSignalsOn(t, how) })
	}
}

func testRunPassesSignalsOn(t *testing.T, how string) {
	name := newName(t)
	signal, heard, end := startListener(t, name, how)
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2} {
		signal(sig)
		heard.want(t, unixName(sig))
	}
	// Without a terminal in whose foreground we are, these too.
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		signal(sig)
		heard.want(t, unixName(sig))
	}
	checkValue(t, name, 0)
	signal(syscall.SIGTERM)
	heard.want(t, "SIGTERM")
	if got := end(); got.status != 7 {
		t.Errorf("got %+v, want the command's status, 7", got)
	}
	checkValue(t, name, 1)
}

func TestRunGivesBackWhenSignalKillsCommand(t *testing.T) {
	name := newName(t)
	cmd := procsemCommand(t, "run", name, "-c", "echo ready; exec cat")
	if _, err := cmd.StdinPipe(); err != nil { // kept open: cat reads for ever
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, cmd)
	readLines(out).want(t, "ready")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got, want := wait(t, cmd).status, 128+int(syscall.SIGTERM); got != want {
		t.Errorf("status = %d, want %d", got, want)
	}
	checkValue(t, name, 1)
}

func TestSignalEndsWait(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		eachFull(t, unixName(sig), func(t *testing.T, flags []string, name, notice string, open func()) {
			t.Parallel()
			args := append([]string{"run", "-n", "1", name}, flags...)
			cmd := procsemCommand(t, append(args, "--", "echo", "the command ran")...)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			stderr, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			var stdout strings.Builder
			cmd.Stdout = &stdout
			start(t, cmd)
			// The notice comes after the signals are caught, so it is
			// procsem's own doing that it dies of one.
			said := readLines(stderr)
			said.want(t, notice)
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			for line := range said.next {
				t.Errorf("stderr: %s", line)
			}
			got := wait(t, cmd)
			if got.signal != sig && !quitElsewhere(sig, got) {
				t.Errorf("got %+v, want death of %v", got, sig)
			}
			if stdout.String() != "" {
				t.Error("the command ran")
			}
			open()
			checkValue(t, name, 1)
		})
	}
}

// eachFull runs f for each way of procsem to wait for a permit, with a semaphore
// that has none, what procsem says when it has found that, and a function that
// makes one.
func eachFull(t *testing.T, title string, f func(t *testing.T, flags []string, name, notice string, open func())) {
	check := func(t *testing.T, args ...string) {
		t.Helper()
		if got := run(t, args...); got.status != 0 {
			t.Errorf("%q: %+v", args, got)
		}
	}
	for way, flags := range map[string][]string{"recoverable": nil, "in place": {"-F"}} {
		t.Run(title+" "+way, func(t *testing.T) {
			name, s := newRecoverable(t, 1)
			if err := s.SetLimit(0); err != nil {
				t.Fatal(err)
			}
			f(t, flags, name, "procsem: "+name+": procsem resize has set its limit to 0, -n 1 is not used",
				func() { t.Helper(); check(t, "resize", name, "1") })
		})
	}
	t.Run(title+" posix", func(t *testing.T) {
		name := newSemaphore(t, 0)
		f(t, []string{"--posix"}, name, "procsem: "+name+" exists: its value stands (0 free now), -n 1 is not used",
			func() { t.Helper(); check(t, "post", name) })
	})
}

func TestSignalForCommandIsKeptUntilItRuns(t *testing.T) {
	eachFull(t, "SIGUSR1", func(t *testing.T, flags []string, name, notice string, open func()) {
		args := append([]string{"run", "-n", "1", name}, flags...)
		cmd := procsemCommand(t, append(args, "--", "cat")...)
		if _, err := cmd.StdinPipe(); err != nil { // kept open: cat reads for ever
			t.Fatal(err)
		}
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		start(t, cmd)
		readLines(stderr).want(t, notice)
		if err := cmd.Process.Signal(syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		open()
		want := outcome{status: 128 + int(syscall.SIGUSR1)}
		if slices.Contains(flags, "-F") {
			want = outcome{status: -1, signal: syscall.SIGUSR1} // it is the command that we see
		}
		if got := wait(t, cmd); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		checkValue(t, name, 1)
	})
}

func TestSignalsIgnoredAtStartStayIgnored(t *testing.T) {
	for _, how := range []string{"--posix=false", "--no-fork"} {
		t.Run(how, func(t *testing.T) { testSignalsIgnoredAtStart(t, how) })
	}
}

func testSignalsIgnoredAtStart(t *testing.T, how string) {
	name := newName(t)
	args := append([]string{"-c", `trap "" INT HUP; exec "$@"`, "sh"}, self(t), "run", how, name, "--")
	cmd := procsemCommand(t)
	cmd.Path, cmd.Args = "/bin/sh", append(append([]string{"sh"}, args...), helperCommand(t, "listen")...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, cmd)
	heard := readLines(out)
	heard.want(t, "ignored: SIGINT")
	heard.want(t, "ignored: SIGHUP")
	heard.want(t, "ready")
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1} {
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	heard.want(t, "SIGUSR1")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	heard.want(t, "SIGTERM")
	if got := wait(t, cmd); got.status != 7 {
		t.Errorf("got %+v, want the command's status, 7", got)
	}
	checkValue(t, name, 1)
}
