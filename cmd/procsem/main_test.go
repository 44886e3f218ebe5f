//go:build unix

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/procsem/semaphore"
	"golang.org/x/sys/unix"
)

// helperEnv makes the test binary something else: procsem itself, or a command
// for it to run.
const helperEnv = "PROCSEM_TEST_HELPER"

var helpers = map[string]func(args []string) int{
	"procsem": func(args []string) int {
		return procsem(append([]string{"procsem"}, args...), os.Stdin, os.Stdout, os.Stderr)
	},
	"witness": witness,
	"listen":  listen,
	"hold":    hold,
	"held":    held,
}

func TestMain(m *testing.M) {
	name := os.Getenv(helperEnv)
	if name == "" {
		os.Exit(m.Run())
	}
	// A helper that dies of SIGQUIT is to leave no core file.
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		panic(err)
	}
	// Whatever helper comes next names itself (helperCommand).
	os.Unsetenv(helperEnv)
	os.Exit(helpers[name](os.Args[1:]))
}

// deadline only catches hangs.
const deadline = 30 * time.Second

var namesMade atomic.Int32

// newName returns the name of a semaphore that does not exist, and unlinks it
// in the end.
func newName(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("ps%d-%d-%s", os.Getpid(), namesMade.Add(1), t.Name())
	name = strings.ReplaceAll(name[:min(len(name), 30)], "/", "_")
	t.Cleanup(func() {
		if err := semaphore.Unlink(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("cleaning up: %v", err)
		}
	})
	return name
}

// newSemaphore creates a POSIX semaphore and returns its name.
func newSemaphore(t *testing.T, value int) string {
	t.Helper()
	name := newName(t)
	s, err := semaphore.Open(name, semaphore.WithExclusive(true), semaphore.WithValue(value))
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	return name
}

// newRecoverable creates a recoverable semaphore and returns its name and a
// handle.
func newRecoverable(t *testing.T, limit int) (name string, s *semaphore.Semaphore) {
	t.Helper()
	name = newName(t)
	s, err := semaphore.Open(name, semaphore.WithExclusive(true), semaphore.WithRecovery(true), semaphore.WithValue(limit))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return name, s
}

// valueOf returns the free permits of a semaphore of whichever kind.
func valueOf(t *testing.T, name string) int {
	t.Helper()
	s, err := openExisting(name)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n, err := s.Value()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func checkValue(t *testing.T, name string, want int) {
	t.Helper()
	if got := valueOf(t, name); got != want {
		t.Errorf("value of %s = %d, want %d", name, got, want)
	}
}

// self is the test binary.
func self(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// helperCommand is the command line of a helper that procsem is to run.
func helperCommand(t *testing.T, helper string, args ...string) []string {
	t.Helper()
	return append([]string{"env", helperEnv + "=" + helper, self(t)}, args...)
}

// procsemCommand is a procsem that was not started yet.
func procsemCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(self(t), args...)
	// A program with the race detector sleeps for a second at its exit unless
	// told not to.
	gorace := "GORACE=atexit_sleep_ms=0 " + os.Getenv("GORACE")
	cmd.Env = append(os.Environ(), gorace, helperEnv+"=procsem")
	return cmd
}

type outcome struct {
	status         int            // -1 if it was killed
	signal         syscall.Signal // which killed it
	stdout, stderr string
}

// run runs procsem to its end.
func run(t *testing.T, args ...string) outcome {
	t.Helper()
	return runCmd(t, procsemCommand(t, args...))
}

func runCmd(t *testing.T, cmd *exec.Cmd) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	start(t, cmd)
	o := wait(t, cmd)
	o.stdout, o.stderr = stdout.String(), stderr.String()
	return o
}

// start starts a procsem in a process group of its own (unless it gets a
// session), which is killed when the test ends with somebody left in it.
func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if cmd.ProcessState == nil {
			cmd.Wait()
		}
	})
}

func wait(t *testing.T, cmd *exec.Cmd) outcome {
	t.Helper()
	hung := time.AfterFunc(deadline, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	err := cmd.Wait()
	if !hung.Stop() {
		t.Fatalf("%q did not end within %v", cmd.Args[1:], deadline)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	o := outcome{status: cmd.ProcessState.ExitCode()}
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		o.signal = ws.Signal()
	}
	return o
}

// lines reads what a running process writes, line by line.
type lines struct {
	from io.Reader
	next chan string
}

func readLines(from io.Reader) *lines {
	l := &lines{from, make(chan string, 100)}
	go func() {
		defer close(l.next)
		for s := bufio.NewScanner(from); s.Scan(); {
			l.next <- strings.TrimSpace(s.Text())
		}
	}()
	return l
}

func (l *lines) want(t *testing.T, want string) {
	t.Helper()
	if got := l.read(t); got != want {
		t.Fatalf("read %q, want %q", got, want)
	}
}

func (l *lines) read(t *testing.T) string {
	t.Helper()
	select {
	case got, ok := <-l.next:
		if !ok {
			t.Fatal("nothing more to read")
		}
		return got
	case <-time.After(deadline):
		t.Fatalf("nothing to read within %v", deadline)
	}
	panic("not reached")
}

// listen, a helper, says which signals reach it. SIGTERM ends it with status 7.
func listen([]string) int {
	heard := make(chan os.Signal, 100)
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2} {
		if signal.Ignored(sig) {
			fmt.Println("ignored:", unix.SignalName(sig.(syscall.Signal)))
		} else {
			signal.Notify(heard, sig)
		}
	}
	fmt.Println("ready")
	for sig := range heard {
		fmt.Println(unix.SignalName(sig.(syscall.Signal)))
		if sig == syscall.SIGTERM {
			break
		}
	}
	return 7
}

// witness, a helper, holds a record lock on a file of its own in a directory,
// as all who are inside at the same time do, until it has seen n of them, or
// as many have left as leaves it alone. The kernel drops the lock at its death
// at the latest, and procsem gives back after that. It prints the most that it
// saw.
func witness(args []string) int {
	dir, n, total := args[0], atoi(args[1]), atoi(args[2])
	own := filepath.Join(dir, fmt.Sprintf("inside.%d", os.Getpid()))
	f, err := os.Create(own)
	if err == nil {
		err = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	most := 0
	for start := time.Now(); time.Since(start) < deadline; time.Sleep(time.Millisecond) {
		others, _ := filepath.Glob(filepath.Join(dir, "inside.*"))
		inside := 1
		for _, path := range others {
			if path != own && locked(path) { // closing one's own file would unlock it
				inside++
			}
		}
		most = max(most, inside)
		left, _ := filepath.Glob(filepath.Join(dir, "left.*"))
		if inside >= n || len(left) == total-1 {
			fmt.Println(most)
			os.WriteFile(filepath.Join(dir, fmt.Sprintf("left.%d", os.Getpid())), nil, 0o600)
			f.Close()
			return 0
		}
	}
	fmt.Fprintln(os.Stderr, "still waiting for company; most seen:", most)
	return 1
}

func locked(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	err = unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock)
	return err == nil && lock.Type != unix.F_UNLCK
}

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}
