//go:build unix

package command

import (
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// startListener starts a procsem that runs listen, and returns when listen is ready.
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

func TestRunForwardsSignals(t *testing.T) {
	for _, how := range []string{"--posix=false", "--no-fork", "--posix"} {
		t.Run(how, func(t *testing.T) { testRunForwardsSignals(t, how) })
	}
}

func testRunForwardsSignals(t *testing.T, how string) {
	name := newName(t)
	signal, heard, end := startListener(t, name, how)
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2} {
		signal(sig)
		heard.want(t, unixName(sig))
	}
	// These are forwarded as well, as procsem has no terminal.
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		signal(sig)
		heard.want(t, unixName(sig))
	}
	checkValue(t, name, 0)
	signal(syscall.SIGTERM)
	heard.want(t, "SIGTERM")
	if got := end(); got.status != listenStatus {
		t.Errorf("got %+v, want the command's status, %d", got, listenStatus)
	}
	checkValue(t, name, 1)
}

func TestRunReleasesPermitWhenSignalKillsCommand(t *testing.T) {
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
	if got, want := wait(t, cmd).status, statusSignal+int(syscall.SIGTERM); got != want {
		t.Errorf("status = %d, want %d", got, want)
	}
	checkValue(t, name, 1)
}

func TestSignalEndsWait(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		eachFull(t, unixName(sig), func(t *testing.T, flags []string, name, notice string, open func()) {
			t.Parallel()
			args := append([]string{"run", "-n", "1"}, flags...)
			cmd := procsemCommand(t, append(args, name, "--", "echo", "the command ran")...)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			stderr, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			var stdout strings.Builder
			cmd.Stdout = &stdout
			start(t, cmd)
			// procsem prints the notice after it has begun to catch the
			// signals, so it kills itself when it gets one.
			said := readLines(stderr)
			said.want(t, notice)
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			for line := range said.next {
				t.Errorf("stderr: %s", line)
			}
			got := wait(t, cmd)
			if got.signal != sig && !endedByQuit(sig, got) {
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

// endedByQuit reports whether procsem has ended because of SIGQUIT but not died of it:
// only on Linux can it restore the signal's default action.
func endedByQuit(sig syscall.Signal, got outcome) bool {
	return runtime.GOOS != "linux" && sig == syscall.SIGQUIT && got.status == statusSignal+int(sig)
}

func TestSignalForCommandIsKeptUntilItRuns(t *testing.T) {
	eachFull(t, "SIGUSR1", func(t *testing.T, flags []string, name, notice string, open func()) {
		args := append([]string{"run", "-n", "1"}, flags...)
		cmd := procsemCommand(t, append(args, name, "--", "cat")...)
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
		want := outcome{status: statusSignal + int(syscall.SIGUSR1)}
		if slices.Contains(flags, "-F") {
			want = outcome{status: -1, signal: syscall.SIGUSR1} // the process is the command now
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
	if got := wait(t, cmd); got.status != listenStatus {
		t.Errorf("got %+v, want the command's status, %d", got, listenStatus)
	}
	checkValue(t, name, 1)
}
