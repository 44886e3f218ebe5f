//go:build unix || windows

package semaphore_test

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/oldkernel"
	"github.com/procsem/semaphore/internal/testhook"
)

// helpers are what the test binary does instead of testing when it is started
// as a helper process.
var helpers = map[string]func(args []string) int{
	"actor":  actorMain,
	"create": createMain,
	"exit":   exitMain,
}

const (
	helperVariable = "SEMAPHORE_TEST_HELPER"
	netVariable    = "SEMAPHORE_TEST_NET" // "on" or "off"

	portableVariable = "SEMAPHORE_TEST_PORTABLE"

	// libcVariable names a header of testdata/libc that this build was made with.
	libcVariable = "SEMAPHORE_TEST_LIBC"
)

var helpersUsed struct {
	sync.Mutex
	names map[string]bool
}

// useHelper notes that a test uses a helper, or would if it were not skipped.
func useHelper(name string) {
	helpersUsed.Lock()
	defer helpersUsed.Unlock()
	if helpersUsed.names == nil {
		helpersUsed.names = make(map[string]bool)
	}
	helpersUsed.names[name] = true
}

func helper(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	if helpers[name] == nil {
		t.Fatalf("no helper %q", name)
	}
	useHelper(name)
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self, args...)
	// The race detector would keep each process for a second at its end.
	cmd.Env = append(os.Environ(), helperVariable+"="+name, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	return cmd
}

// expectedRescues counts those that tests have provoked in this process.
var expectedRescues int

// scratchMade is what scratch has made.
var scratchMade string

func TestMain(m *testing.M) {
	maps.Copy(helpers, platformHelpers)
	maps.Copy(helpers, nativeHelpers)
	oldkernel.Pretend()
	if os.Getenv(libcVariable) == "macos" {
		testhook.MaxName = 29
	}
	// The net must not hide that a wake-up was lost. Where nobody is killed,
	// nobody needs it; tests that kill turn it on.
	net := os.Getenv(netVariable)
	setSafetyNet(net == "on" || net == "" && !kernelTells())
	if name := os.Getenv(helperVariable); name != "" {
		if os.Getenv(portableVariable) != "" {
			portable()
		}
		os.Exit(helpers[name](os.Args[1:]))
	}
	code := m.Run()
	if testing.Verbose() {
		fmt.Println("paths:", paths())
	}
	if scratchMade != "" {
		os.RemoveAll(scratchMade)
	}
	if code == 0 && flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.list").Value.String() == "" && flag.Lookup("test.skip").Value.String() == "" {
		code = checkWholeRun()
	}
	os.Exit(code)
}

// checkWholeRun finds what no single test can: helpers that nobody uses, and
// semaphores that were left behind.
func checkWholeRun() int {
	code := 0
	for name := range helpers {
		if !helpersUsed.names[name] {
			fmt.Printf("FAIL: helper %q was not used by any test\n", name)
			code = 1
		}
	}
	if n := int(testhook.Rescued.Load()) - expectedRescues; n != 0 && kernelTells() {
		fmt.Printf("FAIL: the safety net rescued %d waiters\n", n)
		code = 1
	}
	for _, dir := range storeDirs {
		left, _ := filepath.Glob(filepath.Join(dir, "*"+namePrefix()+"*"))
		if len(left) > 0 {
			fmt.Printf("FAIL: left behind: %v\n", left)
			code = 1
		}
	}
	return code
}

// times is how often a test repeats something that starts processes: a tenth with
// -short, for emulators.
func times(n int) int {
	if testing.Short() {
		return max(1, n/10)
	}
	return n
}

// missing skips a test for want of a tool or privilege, which in CI, as root or on
// Windows, is a failure.
func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" && os.Geteuid() <= 0 {
		t.Fatalf("missing: %s", what)
	}
	t.Skipf("missing: %s", what)
}

// eachStore runs f with each set of actors that share semaphores.
func eachStore(t *testing.T, f func(t *testing.T, kinds []string)) {
	for store, kinds := range sharing() {
		t.Run(store, func(t *testing.T) {
			if kinds == nil {
				t.Skipf("not in this build: an engine for the store of %s", store)
			}
			f(t, kinds)
		})
	}
}

func engineOf(kind string) (e semaphore.Engine) {
	for e.String() != kind {
		e++
	}
	return e
}

// Processes of every kind work under one limit; as many as the limit allows
// are inside, and never more.
func TestLimitAcrossProcesses(t *testing.T) {
	eachStore(t, func(t *testing.T, kinds []string) {
		const limit, each = 2, 2
		rounds := times(150)
		s := open(t, uniqueName(t), engineOf(kinds[0]), semaphore.WithValue(limit))
		dir := tempDir(t)
		var actors []*actor
		for _, kind := range append(kinds, kinds[0]) {
			for range each {
				a := startActor(t, kind)
				a.ok("open /%s", s.Name())
				actors = append(actors, a)
			}
		}
		for _, a := range actors {
			a.send("rounds %d %d %s", rounds, limit, dir)
		}
		for _, a := range actors {
			if got := a.answer(); got != "ok" {
				t.Errorf("%s actor: %s", a.kind, got)
			}
		}
		becomes(t, s, limit)
		// That the witness sees: with more permits than the limit there are
		// more inside.
		for range 4 {
			must(t, s.Post())
		}
		for seen := false; !seen && !t.Failed(); {
			for _, a := range actors {
				a.send("rounds %d %d %s", rounds, limit, dir)
			}
			for _, a := range actors {
				seen = strings.HasSuffix(a.answer(), "inside") || seen
			}
		}
	})
}

// A post in a process of one kind wakes a wait in another of each kind, and
// thousands of them keep the count.
func TestPostWakesAcrossProcesses(t *testing.T) {
	needSleeping(t)
	eachStore(t, func(t *testing.T, kinds []string) {
		for _, creator := range kinds {
			for _, waiter := range kinds {
				for _, poster := range kinds {
					t.Run(creator+" "+waiter+" "+poster, func(t *testing.T) {
						name := uniqueName(t)
						c, w, p := startActor(t, creator), startActor(t, waiter), startActor(t, poster)
						c.ok("create /%s 0", name)
						w.ok("open /%s", name)
						p.ok("open /%s", name)
						c.expect("EEXIST", "create /%s 0", name)
						c.ok("open /%s", name)
						w.expect("EAGAIN", "trywait")
						w.send("waits 1")
						waitFor(t, "a sleeping waiter", w.sleeping)
						p.ok("posts 1")
						if got := w.answer(); got != "ok" {
							t.Fatal(got)
						}
						n := times(1500)
						w.send("waits %d", n) // blocked and unblocked, as it comes
						p.ok("posts %d", n+1)
						if got := w.answer(); got != "ok" {
							t.Fatal(got)
						}
						value := func(want string) {
							c.send("value")
							if got := c.answer(); got != want && !(creator == "libc" && got == syscall.ENOSYS.Error()) {
								t.Fatalf("%s actor, value: got %q, want %q", creator, got, want)
							}
						}
						value("ok 1")
						w.ok("trywait")
						value("ok 0")
						c.ok("unlink")
						if unlinkFrees(engineOf(kinds[0])) {
							c.expect("ENOENT", "unlink")
							w.expect("ENOENT", "open /%s", name)
						}
					})
				}
			}
		}
	})
}

func createMain(args []string) int {
	var engine semaphore.Engine
	fmt.Sscan(args[1], &engine)
	fmt.Println("ready")
	fmt.Scanln() // the starting gun, for all at once
	_, err := semaphore.Open(args[0], semaphore.WithEngine(engine), semaphore.WithExclusive(args[2] == "true"))
	switch {
	case err == nil:
		fmt.Println("won")
	case errors.Is(err, fs.ErrExist):
		fmt.Println("exists")
	case errors.Is(err, semaphore.ErrKindMismatch):
		fmt.Println("mismatch")
	default:
		fmt.Println(err)
	}
	fmt.Scanln()
	return 0
}

// race starts one process for each engine of the list, which create the name
// at the same moment, and counts their answers.
func race(t *testing.T, name string, exclusive bool, engines []semaphore.Engine) map[string]int {
	t.Helper()
	var actors []*actor
	for _, e := range engines {
		a := startActorCommand(t, "create", helper(t, "create", name, fmt.Sprint(int(e)), fmt.Sprint(exclusive)))
		if got := a.answer(); got != "ready" {
			t.Fatal(got)
		}
		actors = append(actors, a)
	}
	for _, a := range actors {
		a.send("")
	}
	got := make(map[string]int)
	for i, a := range actors {
		answer := a.answer()
		got[answer]++
		if answer == "won" {
			got[engines[i].String()]++
		}
	}
	for _, a := range actors {
		a.send("")
	}
	return got
}

func TestExclusiveCreationHasOneWinner(t *testing.T) {
	eachEngine(t, func(t *testing.T, e semaphore.Engine) {
		for range times(10) {
			got := race(t, uniqueName(t), true, []semaphore.Engine{e, e, e, e, e, e, e, e})
			if got["won"] != 1 || got["exists"] != 7 {
				t.Errorf("got %v, want one winner of eight", got)
			}
		}
	})
}

// Creators killed in the middle leave nothing that a later Open trips over, and
// no file either. (glibc's sem_open leaves its temporary one.)
func TestKilledCreators(t *testing.T) {
	useHelper("create")
	eachEngine(t, func(t *testing.T, e semaphore.Engine) {
		if e == semaphore.EngineLibc || e == semaphore.EngineAuto && hasEngine(semaphore.EngineLibc) {
			return
		}
		dir := tempDir(t)
		t.Setenv("SEMAPHORE_DIR", dir)
		for range times(40) {
			name := uniqueName(t)
			a := startActorCommand(t, "create", helper(t, "create", name, fmt.Sprint(int(e)), "false"))
			if got := a.answer(); got != "ready" {
				t.Fatal(got)
			}
			a.send("")
			time.Sleep(time.Duration(rand.Int64N(int64(400 * time.Microsecond)))) // the moment to be killed at
			must(t, a.cmd.Process.Kill())
			a.cmd.Wait()
			s, err := semaphore.Open(name, semaphore.WithEngine(e))
			must(t, err)
			must(t, s.TryWait())
			must(t, s.Post())
			must(t, s.Unlink())
			must(t, s.Close())
		}
		var left []string
		waitFor(t, "an empty directory", func() bool {
			runtime.GC() // on Windows a file that was removed goes when nobody has it mapped
			left, _ = filepath.Glob(filepath.Join(dir, "*"))
			return len(left) == 0 || runtime.GOOS != "windows"
		})
		if len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
}
