//go:build unix || windows

package command

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/testkit"
)

// The test binary is procsem itself if helperEnv is set, and a helper, a command for
// procsem to run, if its first argument is helperArg with the helper's name.
const (
	helperEnv = "PROCSEM_TEST_HELPER"
	helperArg = "procsem-test-helper="
)

var helpers = map[string]func(args []string) int{
	"witness": witness,
	"listen":  listen,
	"hold":    hold,
	"held":    held,
	"exit":    exit,
	"streams": streams,
	"leave":   leave,
	"stay":    stay,
}

func TestMain(m *testing.M) {
	testkit.OldKernel()
	if os.Getenv(helperEnv) != "" || os.Getenv(backgroundVariable) != "" {
		os.Unsetenv(helperEnv) // the command must not become procsem too
		becomeHelper()
		os.Exit(procsem(append([]string{"procsem"}, os.Args[1:]...), os.Stdin, os.Stdout, os.Stderr))
	}
	if len(os.Args) > 1 {
		if name, ok := strings.CutPrefix(os.Args[1], helperArg); ok {
			becomeHelper()
			os.Exit(helpers[name](os.Args[2:]))
		}
	}
	hearInterrupts()
	os.Exit(m.Run())
}

// listenStatus is the exit status of the helper listen.
const listenStatus = 7

// aTime matches what procsem says of a time: on a slow machine also "1m5s".
const aTime = `[0-9dhms.]+`

// deadline is long, as it only serves to catch hangs.
const deadline = 2 * time.Minute

// A random prefix makes the names of each run differ from those that an earlier run may
// have left. Process ids would not do: under Wine they are reused at once.
var (
	thisRun   = fmt.Sprintf("ps%06x", rand.Uint32()>>8)
	namesMade atomic.Int32
)

// portableName is the length of a semaphore's name that all systems allow.
const portableName = 29

// newName returns the name of a semaphore that does not exist, and unlinks it when the
// test ends.
func newName(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("%s-%d-%s", thisRun, namesMade.Add(1), t.Name())
	name = strings.ReplaceAll(name[:min(len(name), portableName)], "/", "_")
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
	if posixLasts {
		s.Close()
	} else {
		t.Cleanup(func() { s.Close() })
	}
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

// valueOf returns the number of free permits of a semaphore of either kind.
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

// self returns the path of the test binary.
func self(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// helperCommand returns the command line of a helper, for procsem to run.
func helperCommand(t *testing.T, helper string, args ...string) []string {
	t.Helper()
	return append([]string{self(t), helperArg + helper}, args...)
}

// procsemCommand returns a procsem that is not started yet.
func procsemCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(self(t), args...)
	// Without this setting a program with the race detector sleeps for a second
	// when it exits.
	gorace := "GORACE=atexit_sleep_ms=0 " + os.Getenv("GORACE")
	cmd.Env = append(os.Environ(), gorace, helperEnv+"=1")
	return cmd
}

type outcome struct {
	status         int            // -1 if it was killed
	signal         syscall.Signal // that killed it
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
	o.stdout, o.stderr = strings.ReplaceAll(stdout.String(), eol, "\n"), strings.ReplaceAll(stderr.String(), eol, "\n")
	return o
}

// start starts a procsem. If it still runs when the test ends, it is killed, and its
// command with it.
func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	group(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		killGroup(cmd)
		if cmd.ProcessState == nil {
			cmd.Wait()
		}
	})
}

func wait(t *testing.T, cmd *exec.Cmd) outcome {
	t.Helper()
	hung := time.AfterFunc(deadline, func() { killGroup(cmd) })
	err := cmd.Wait()
	if !hung.Stop() {
		t.Fatalf("%q did not end within %v", cmd.Args[1:], deadline)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{status: cmd.ProcessState.ExitCode(), signal: signalOf(cmd.ProcessState)}
}

// lines reads what a running process writes, line by line.
type lines struct{ next chan string }

func readLines(from io.Reader) *lines {
	l := &lines{make(chan string, 100)}
	go func() {
		defer close(l.next)
		for s := bufio.NewScanner(from); s.Scan(); {
			l.next <- strings.TrimSpace(s.Text())
		}
	}()
	return l
}

// placed waits for a line of procsem's that matches. On a slow machine it may have said before that it waits, when it did not know
// its place yet.
func placed(t *testing.T, said *lines, pattern string) {
	t.Helper()
	got := said.read(t)
	if regexp.MustCompile(`: waiting( for all permits| until nobody uses it)?, for `).MatchString(got) {
		got = said.read(t)
	}
	if !regexp.MustCompile("^" + pattern + "$").MatchString(got) {
		t.Fatalf("read %q, want a match of %s", got, pattern)
	}
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

// witness, a helper, finds out how many commands hold permits at the same time. Each
// witness holds a file of its own in a directory, and counts the files that are held.
// It ends when it has counted n, or when all the other witnesses are inside too or have left, and
// prints the highest count. The kernel drops its hold on the file at the latest when it ends,
// and procsem gives the permit back only after that.
func witness(args []string) int {
	dir, n, total := args[0], atoi(args[1]), atoi(args[2])
	own := filepath.Join(dir, fmt.Sprintf("inside.%d", os.Getpid()))
	f, err := holdFile(own)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	most := 0
	for start := time.Now(); time.Since(start) < deadline; time.Sleep(time.Millisecond) {
		others, _ := filepath.Glob(filepath.Join(dir, "inside.*"))
		inside := 1
		for _, path := range others {
			if path != own && isHeld(path) { // isHeld closes the file, which would unlock our own
				inside++
			}
		}
		most = max(most, inside)
		left, _ := filepath.Glob(filepath.Join(dir, "left.*"))
		if inside >= n || inside+len(left) >= total {
			fmt.Println(most)
			os.WriteFile(filepath.Join(dir, fmt.Sprintf("left.%d", os.Getpid())), nil, 0o600)
			f.Close()
			return 0
		}
	}
	fmt.Fprintln(os.Stderr, "the other witnesses did not come; highest count:", most)
	return 1
}

// exit, a helper, ends with the status that is its argument.
func exit(args []string) int {
	status, err := strconv.ParseUint(args[0], 10, 32)
	if err != nil {
		panic(err)
	}
	return int(uint32(status))
}

// streams, a helper, prints its arguments and its standard input, and a line on
// standard error.
func streams(args []string) int {
	fmt.Print(strings.Join(args, " "), " ")
	io.Copy(os.Stdout, os.Stdin)
	fmt.Fprintln(os.Stderr, "to stderr")
	return 0
}

// leave, a helper, leaves a process running in the background and prints its id.
func leave([]string) int { return leaveWith(nil) }

func leaveWith(attr *syscall.SysProcAttr) int {
	cmd := exec.Command(os.Args[0], helperArg+"stay")
	cmd.SysProcAttr = attr
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(cmd.Process.Pid)
	return 0
}

// stay, a helper, runs until it is killed.
func stay([]string) int {
	time.Sleep(10 * deadline)
	return 1
}

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}
