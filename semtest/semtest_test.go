//go:build (unix && !aix && !filelock_fcntl) || windows

package semtest_test

import (
	"context"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/testkit"
	"github.com/procsem/semaphore/semtest"
)

// A fake is a test that the tests end as they like.
type fake struct {
	testing.TB // of which it uses nothing: each method that is called has to be here
	ctx        context.Context
	deadline   time.Time // zero: none
	mu         sync.Mutex
	logged     []string
	failed     []string
	cleanups   []func()
}

func (f *fake) Helper()                     {}
func (f *fake) Context() context.Context    { return f.ctx }
func (f *fake) Deadline() (time.Time, bool) { return f.deadline, !f.deadline.IsZero() }
func (f *fake) Cleanup(do func())           { f.cleanups = append(f.cleanups, do) }
func (f *fake) Errorf(format string, args ...any) {
	f.failed = append(f.failed, fmt.Sprintf(format, args...))
}
func (f *fake) Fatalf(format string, args ...any) { f.Errorf(format, args...); runtime.Goexit() }
func (f *fake) Fatal(args ...any)                 { f.Errorf("%s", fmt.Sprint(args...)); runtime.Goexit() }

func (f *fake) TempDir() string {
	dir, err := os.MkdirTemp("", "semtest")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (f *fake) Log(args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.logged = append(f.logged, fmt.Sprint(args...))
}

func (f *fake) log() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.logged, "\n")
}

// run runs a test to its end, its cleanups too.
func run(deadline time.Time, test func(f *fake)) *fake {
	ctx, cancel := context.WithCancel(context.Background())
	f := &fake{ctx: ctx, deadline: deadline}
	var ended sync.WaitGroup
	ended.Go(func() {
		defer func() {
			cancel()
			for i := len(f.cleanups) - 1; i >= 0; i-- {
				f.cleanups[i]()
				f.cleanups[i] = nil // on Windows a file is gone when its memory is
			}
		}()
		test(f)
	})
	ended.Wait()
	return f
}

// mainVariable makes this binary one whose TestMain is that of the documentation.
const mainVariable = "SEMTEST_TEST_MAIN"

// goTest runs the test of an example, as "go test" does. Its semaphores are in a directory of its own.
func goTest(test func(t testing.TB)) {
	const variable = "SEMAPHORE_DIR"
	if before, was := os.LookupEnv(variable); was {
		defer os.Setenv(variable, before)
	} else {
		defer os.Unsetenv(variable)
	}
	f := run(time.Time{}, func(f *fake) {
		os.Setenv(variable, testkit.TempDir(f))
		test(f)
	})
	for _, failed := range f.failed {
		fmt.Println(failed) // which no example expects
	}
}

func TestMain(m *testing.M) {
	if os.Getenv("EXAMPLE_WORKER") != "" {
		worker()
		return
	}
	if name := os.Getenv(mainVariable); name != "" {
		os.Exit(semtest.Main(m, name, 1))
	}
	os.Exit(testkit.Main(m, testkit.Helpers{"arrive": arriveMain, "arrived": arrivedMain, "end": endMain, "hold": holdMain, "leave": leaveMain, "never": neverMain, "test": testMain}))
}

// machineName returns a name that means the same to the tests of all modules.
func machineName(t *testing.T) (name, slashed string) {
	name = semtest.Name(t)
	return name, "/" + name
}

func open(t *testing.T, name string, n int) *semaphore.Semaphore {
	t.Helper()
	s, err := semaphore.OpenLimit(name, n)
	testkit.Must(t, err)
	t.Cleanup(func() { testkit.Must(t, s.Close()) })
	return s
}

func TestAcquire(t *testing.T) {
	name, slashed := machineName(t)
	watch := open(t, name, 2)
	f := run(time.Time{}, func(f *fake) {
		a, b := semtest.Acquire(f, slashed, 2), semtest.Acquire(f, slashed, 2)
		testkit.Becomes(t, watch, 0)
		testkit.Must(t, a.Release())
		testkit.Becomes(t, watch, 1)
		if a.Slots() != nil || len(b.Slots()) != 1 {
			t.Errorf("slots %v after Release and %v before, want none and one", a.Slots(), b.Slots())
		}
		holders, err := watch.Holders()
		testkit.Must(t, err)
		if want := "...com/procsem/semaphore/semtest"; len(holders) != 1 || holders[0].Label != want {
			t.Errorf("holders %+v, want one with label %q", holders, want)
		}
	})
	testkit.Becomes(t, watch, 2)
	if f.failed != nil || f.logged != nil {
		t.Errorf("failed with %q, logged %q; want neither", f.failed, f.logged)
	}
	for _, tt := range []struct {
		name string
		n    int
		want string
	}{{slashed, 3, "another limit is in force"}, {"", 1, "invalid name"}, {"a/b", 1, `"a/b"`}, {slashed, 0, "0"}} {
		f := run(time.Time{}, func(f *fake) { semtest.Acquire(f, tt.name, tt.n) })
		if len(f.failed) != 1 || !strings.Contains(f.failed[0], tt.want) {
			t.Errorf("%q, %d: failed with %q, want %q", tt.name, tt.n, f.failed, tt.want)
		}
	}
}

// A test gives up when its deadline is near, and says who has the permit. A permit that is free it takes even then.
func TestAcquireNearTheDeadline(t *testing.T) {
	name, slashed := machineName(t)
	holder := open(t, name, 1)
	soon := time.Now().Add(300 * time.Millisecond)
	testkit.Must(t, holder.Wait())
	f := run(soon, func(f *fake) {
		semtest.Acquire(f, slashed, 1)
		t.Error("there is a permit too many")
	})
	pattern := `^semtest: no permit of "` + name + `" \(limit 1\) after [\d.]+m?s, and the deadline of the tests is near; held by ` +
		fmt.Sprint(os.Getpid()) + ` \(this test binary\); does a test hold one that has called t.Parallel after Acquire, .*\?$`
	if got := strings.Join(f.failed, "\n"); !regexp.MustCompile(pattern).MatchString(got) {
		t.Errorf("failed with %q, want it to match %s", got, pattern)
	}
	testkit.Must(t, holder.Post())
	if f := run(soon, func(f *fake) { semtest.Acquire(f, slashed, 1) }); f.failed != nil {
		t.Errorf("after the deadline, with a free permit: failed with %q", f.failed)
	}
	testkit.Becomes(t, holder, 1)
}

// The log says who holds the permits, by the package of their tests, and says it again only when that has changed. A wait
// without a deadline goes on.
func TestAcquireLogsHolders(t *testing.T) {
	name, slashed := machineName(t)
	cmd := testkit.Helper(t, "hold", slashed)
	in, err := cmd.StdinPipe()
	testkit.Must(t, err)
	testkit.Must(t, cmd.Start())
	watch := open(t, name, 1)
	testkit.Becomes(t, watch, 0)
	defer semtest.SpeakAfter(10 * time.Millisecond)()
	f := run(time.Time{}, func(f *fake) {
		go func() {
			for f.log() == "" {
				time.Sleep(time.Millisecond)
			}
			in.Close() // it gives back
		}()
		semtest.Acquire(f, slashed, 1)
	})
	testkit.Must(t, cmd.Wait())
	lines := strings.Split(f.log(), "\n")
	if want := fmt.Sprintf("held by %d (...com/procsem/semaphore/semtest)", cmd.Process.Pid); f.failed != nil || !strings.HasSuffix(lines[0], want) {
		t.Errorf("failed with %q, logged %q; want %q", f.failed, lines, want)
	}
	held := func(line string) string { _, held, _ := strings.Cut(line, "held by "); return held }
	for i := range lines[1:] {
		if held(lines[i]) == held(lines[i+1]) {
			t.Errorf("said twice: %q", lines)
		}
	}
}

// holdMain is a test that holds a permit until it is told to end.
func holdMain(args []string) int {
	run(time.Time{}, func(f *fake) {
		semtest.Acquire(f, args[0], 1)
		io.Copy(io.Discard, os.Stdin)
	})
	return 0
}

// Names belong to a module unless they begin with a slash.
func TestNamesOfModules(t *testing.T) {
	short := fmt.Sprintf("t%d", os.Getpid())
	f := run(time.Time{}, func(f *fake) {
		semtest.Acquire(f, short, 1)
		_, err := semaphore.OpenLimit(short, 1, semaphore.WithCreate(false))
		testkit.WantErr(t, "the name without the module", err, fs.ErrNotExist)
		h := fnv.New32a()
		u, err := user.Current()
		testkit.Must(t, err)
		fmt.Fprint(h, "github.com/procsem/semaphore ", u.Uid)
		s, err := semaphore.OpenLimit(fmt.Sprintf("%s.%08x", short, h.Sum32()), 1, semaphore.WithCreate(false))
		testkit.Must(t, err)
		defer s.Unlink()
		defer s.Close()
		testkit.WantErr(t, "the name of the module and the user", s.TryWait(), semaphore.ErrWouldBlock)
	})
	if f.failed != nil {
		t.Errorf("failed with %q", f.failed)
	}
}

func TestName(t *testing.T) {
	var names []string
	f := run(time.Time{}, func(f *fake) {
		for range 2 {
			name := semtest.Name(f)
			names = append(names, name)
			testkit.Must(t, semaphore.CheckName(name))
			if len(name) > 29 {
				t.Errorf("%q has %d bytes", name, len(name))
			}
			s, err := semaphore.OpenLimit(name, 1)
			testkit.Must(t, err)
			testkit.Must(t, s.Close())
		}
		semtest.Name(f) // of which nothing is made
	})
	if f.failed != nil || names[0] == names[1] {
		t.Errorf("failed with %q, names %q", f.failed, names)
	}
	for _, name := range names {
		_, err := semaphore.OpenLimit(name, 1, semaphore.WithCreate(false))
		testkit.WantErr(t, "what was made under "+name, err, fs.ErrNotExist)
	}
}

// A test binary holds its permit while its tests run, and gives it back however they end.
func TestBinary(t *testing.T) {
	if slashed := os.Getenv(mainVariable); slashed != "" { // a test of such a binary
		s, err := semaphore.OpenLimit(slashed, 1)
		testkit.Must(t, err)
		testkit.WantErr(t, "a permit while the binary has it", s.TryWait(), semaphore.ErrWouldBlock)
		fmt.Printf("timeout %s\n", flag.Lookup("test.timeout").Value)
		switch os.Getenv("SEMTEST_TEST_END") {
		case "exit":
			os.Exit(5)
		case "fail":
			t.FailNow()
		case "nested": // a process of this test's, of the same binary, needs no permit of its own
			cmd := exec.Command(os.Args[0], "-test.run=^TestBinary$", "-test.timeout=1h")
			cmd.Env = append(os.Environ(), "SEMTEST_TEST_END=")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		}
		return
	}
	name, slashed := machineName(t)
	watch := open(t, name, 1)
	binary := func(end string, flags ...string) (cmd *exec.Cmd, out *testkit.SyncBuffer) {
		self, err := os.Executable()
		testkit.Must(t, err)
		out = new(testkit.SyncBuffer)
		cmd = exec.Command(self, append(flags, "-test.run=^TestBinary$")...)
		cmd.Env = append(os.Environ(), mainVariable+"="+slashed, "SEMTEST_TEST_END="+end)
		cmd.Stdout, cmd.Stderr = out, out
		return cmd, out
	}
	for _, tt := range []struct {
		end    string
		status int
	}{{"", 0}, {"fail", 1}, {"exit", 5}, {"nested", 0}} {
		cmd, out := binary(tt.end, "-test.timeout=1h")
		cmd.Run()
		if cmd.ProcessState.ExitCode() != tt.status || !strings.Contains(out.String(), "timeout ") {
			t.Errorf("%q: status %d, printed %s; want %d", tt.end, cmd.ProcessState.ExitCode(), out, tt.status)
		}
		testkit.Becomes(t, watch, 1)
	}

	testkit.Must(t, watch.Wait())
	// That another binary has held a permit for it does not count when that has ended.
	t.Setenv("SEMTEST_HELD", fmt.Sprintf("%d %s/", 1<<30, name))
	cmd, out := binary("", "-test.timeout=1s")
	cmd.Run()
	held := fmt.Sprintf(`held by %d \(unknown\)`, os.Getpid())
	pattern := `(?m)^semtest: no permit of "` + name + `" \(limit 1\) after [\d.]+m?s, and the deadline of the tests is near; ` + held + `$`
	if got := strings.ReplaceAll(out.String(), "\r", ""); cmd.ProcessState.ExitCode() != 1 || !regexp.MustCompile(pattern).MatchString(got) {
		t.Errorf("no permit in time: status %d, printed %q; want 1, %s", cmd.ProcessState.ExitCode(), got, pattern)
	}

	cmd, out = binary("", "-test.list=TestName")
	testkit.Must(t, cmd.Run())
	if !strings.Contains(out.String(), "TestNamesOfModules") {
		t.Errorf("-list without a permit printed %s", out)
	}

	cmd, out = binary("", "-test.timeout=1h")
	testkit.Must(t, cmd.Start())
	said := `(?m)^semtest: has waited [\d.]+s for a permit of "` + name + `" \(limit 1\); ` + held + `\r?$`
	testkit.WaitFor(t, "the binary says that it waits", func() bool { return regexp.MustCompile(said).MatchString(out.String()) })
	testkit.Must(t, watch.Post())
	testkit.Must(t, cmd.Wait())
	if got := out.String(); !strings.Contains(got, "timeout 59m") {
		t.Errorf("it had an hour with the wait, and printed %s", got)
	}
	testkit.Becomes(t, watch, 1)
}
