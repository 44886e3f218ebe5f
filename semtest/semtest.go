// Package semtest is for tests that share something with the tests of other processes. "go test ./..." runs the test
// binaries of several packages at once, and each of them, or several checkouts of a CI host, may use
// the same database, port or device.
//
//	func TestMigration(t *testing.T) {
//		semtest.Acquire(t, "database", 1) // until the test ends
//		...
//	}
//
// [Acquire] is for a test, [Main] for all tests of a binary. [Name] is for tests of programs that use semaphores,
// and [Rendezvous] for tests that start processes which are to work at the same time.
//
// The limits are recoverable semaphores ([semaphore.OpenLimit]). So what a test holds comes
// back also if it panics, calls [os.Exit] or is killed. On systems that have none (AIX, say) a test that calls Acquire
// fails, and Main returns 1, with [semaphore.ErrUnsupported].
//
// # Names
//
// A name is that of the module whose tests are run, and of the user who runs them: the tests of two modules that both
// call something "database" do not meet, and those of two checkouts of one module do. A name that begins with a slash is
// the machine's: "/database" is the semaphore "database", for the tests of all modules, for
// every program, and for the command procsem; other users may use it if an option [semaphore.WithMode] lets them.
//
// The semaphores stay when the tests have ended, as that of any other name that is limited;
// "procsem unlink --idle" removes those that nobody uses.
package semtest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"os/user"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/procsem/semaphore"
)

// Acquire takes one of n permits of that name, which the test has until it and its subtests have ended (Cleanup), or until it
// calls Release. n is the limit for all: [semaphore.OpenLimit] says what happens if others ask for another one. See the
// package's documentation for names. [semaphore.Permit.Slots] says which of the n permits it is, by which tests can share out ports, say.
//
// It waits for a permit in the order of arrival. If that lasts longer than a second the test's log says who
// holds the permits, by process id and package, and again when that has changed. It ends the test by t.Fatal if the semaphore cannot be opened, and if there is no permit
// shortly before the deadline of the test binary (-timeout), which would kill it, and says who held them then. (Benchmarks
// and fuzz tests have no deadline.) Like t.Fatal it is to be called by the goroutine of the test.
//
// A test that holds a permit and asks for another one of the same name may wait for itself. So may a test that calls t.Parallel
// after Acquire: it pauses with the permit, and others wait. A fuzz test calls Acquire in the function that is
// fuzzed, for the processes that go test -fuzz starts are others than its own.
func Acquire(t testing.TB, name string, n int, opts ...semaphore.Option) *semaphore.Permit {
	t.Helper()
	if _, ok := t.(*testing.F); ok && flagIsSet("test.fuzz", "test.fuzzworker") {
		t.Fatalf("semtest: Acquire(%q) before Fuzz, whose workers are processes that would wait for this one; it has to be called in the function that is fuzzed", name)
	}
	ctx, cancel := contextOf(t)
	defer cancel()
	s, p, err := acquire(ctx, t, name, n, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(p.Release(), s.Close()); err != nil {
			t.Errorf("semtest: giving back: %v", err)
		}
	})
	return p
}

// Main runs the tests of a binary while it holds one of n permits of that name, and returns the exit status, that of m.Run, or 1 if there is no permit:
//
//	func TestMain(m *testing.M) { os.Exit(semtest.Main(m, "database", 1)) }
//
// [os.Exit] runs no deferred function; the permit is given back before. It waits like Acquire, and says so on
// standard error; the time counts as part of the binary's -timeout, and when that is nearly over
// it returns 1 without having run a test.
//
// A process that a test starts, and which is a test binary with Main of the same name, too, as
// the workers of go test -fuzz are, needs no permit of its own. But a test that calls Acquire for the same name
// may wait for its own binary.
func Main(m *testing.M, name string, n int, opts ...semaphore.Option) int {
	if !flag.Parsed() {
		flag.Parse()
	}
	if flagIsSet("test.list") { // which runs no test
		return m.Run()
	}
	began := time.Now()
	ctx := context.Background()
	timeout, bounded := timeoutFlag()
	if bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, before(began.Add(timeout)))
		defer cancel()
	}
	if heldAbove(name, n, opts) {
		return m.Run()
	}
	s, p, err := acquire(ctx, onStderr{}, name, n, opts)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer s.Close()
	os.Setenv(heldVariable, fmt.Sprintf("%s%d %s/", os.Getenv(heldVariable), os.Getpid(), s.Name()))
	if bounded {
		// "go test" kills the binary a minute after the timeout, reckoned from its start.
		flag.Set("test.timeout", max(timeout-time.Since(began), time.Millisecond).String())
	}
	code := m.Run()
	if err := p.Release(); err != nil {
		fmt.Fprintf(os.Stderr, "semtest: giving back: %v\n", err)
		return max(code, 1)
	}
	return code
}

// heldVariable tells the processes that a test starts which permits Main holds for them: an entry for each has the process
// and the semaphore's name, in which there is no slash.
const heldVariable = "SEMTEST_HELD"

// heldAbove reports whether a test binary that runs this one holds a permit of that name. That the
// variable says so is not enough: the binary may have ended.
func heldAbove(name string, n int, opts []semaphore.Option) bool {
	held := os.Getenv(heldVariable)
	if held == "" {
		return false
	}
	s, err := open(name, n, opts)
	if err != nil {
		return false // which acquire reports
	}
	defer s.Close()
	holders, err := s.Holders()
	return err == nil && slices.ContainsFunc(holders, func(h semaphore.Holder) bool {
		return h.Permits > 0 && slices.Contains(strings.Split(held, "/"), fmt.Sprintf("%d %s", h.PID, s.Name()))
	})
}

// Name returns a name that no other test has, of at most 29 bytes, as is allowed everywhere. When the test and its subtests have
// ended semaphores of that name, of whichever kind, are removed (not those in directories of their own, [semaphore.WithDir]). It is for tests of
// programs that use semaphores, not for Acquire.
func Name(t testing.TB) string {
	t.Helper()
	name := uniqueName()
	t.Cleanup(func() {
		if err := semaphore.Unlink(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("semtest: removing %s: %v", name, err)
		}
	})
	return name
}

func uniqueName() string { return fmt.Sprintf("semtest.%016x", rand.Uint64()) }

// speakAfter is for how long a wait says nothing, and how often it looks then who holds the permits.
var speakAfter = time.Second

// A log is a test's, or another one.
type log interface {
	Helper()
	Log(...any)
}

type onStderr struct{}

func (onStderr) Helper()        {}
func (onStderr) Log(all ...any) { fmt.Fprintln(os.Stderr, all...) }

func acquire(ctx context.Context, log log, name string, n int, opts []semaphore.Option) (*semaphore.Semaphore, *semaphore.Permit, error) {
	log.Helper()
	failed := func(err error) (*semaphore.Semaphore, *semaphore.Permit, error) {
		return nil, nil, fmt.Errorf("semtest: %w", err)
	}
	s, err := open(name, n, opts)
	if err != nil {
		return failed(err)
	}
	// One that is free is taken, however near the deadline is.
	if p, err := s.TryAcquire(); err == nil {
		return s, p, nil
	} else if !errors.Is(err, semaphore.ErrWouldBlock) {
		s.Close()
		return failed(err)
	}
	began := time.Now()
	type result struct {
		permit *semaphore.Permit
		err    error
	}
	done := make(chan result, 1)
	go func() {
		p, err := s.Acquire(ctx)
		done <- result{p, err}
	}()
	look := time.NewTicker(speakAfter)
	defer look.Stop()
	held, told := "", ""
	for {
		select {
		case r := <-done:
			if r.err == nil {
				return s, r.permit, nil
			}
			err := r.err
			if err == context.DeadlineExceeded {
				held = holders(s)
				err = fmt.Errorf("no permit of %q (limit %d) after %v, and the deadline of the tests is near; held by %s", s.Name(), n, time.Since(began).Round(time.Second/10), held)
				if strings.Contains(held, thisBinary) {
					err = fmt.Errorf("%w; does a test hold one that has called t.Parallel after Acquire, or that waits for this one?", err)
				}
			}
			s.Close()
			return failed(err)
		case <-look.C:
			if held = holders(s); held != told {
				log.Log(fmt.Sprintf("semtest: has waited %v for a permit of %q (limit %d); held by %s", time.Since(began).Round(time.Second/10), s.Name(), n, held))
				told = held
			}
		}
	}
}

const thisBinary = "this test binary"

// open opens a limit for the tests of this binary.
func open(name string, n int, opts []semaphore.Option) (*semaphore.Semaphore, error) {
	if err := semaphore.CheckName(name); err != nil {
		return nil, err
	}
	return semaphore.OpenLimit(qualified(name), n, append([]semaphore.Option{semaphore.WithLabel(label(binary().tests))}, opts...)...)
}

// holders says who holds the permits.
func holders(s *semaphore.Semaphore) string {
	all, err := s.Holders()
	if err != nil {
		return err.Error()
	}
	var holders []string
	for _, h := range all {
		if h.Permits == 0 {
			continue
		}
		who := "unknown"
		switch {
		case h.PID == os.Getpid():
			who = thisBinary
		case h.Label != "":
			who = h.Label
		}
		holders = append(holders, fmt.Sprintf("%d (%s)", h.PID, who))
	}
	if holders == nil {
		return "nobody at this moment"
	}
	return strings.Join(holders, ", ")
}

// A program is a test binary.
type program struct{ module, tests string } // the import path of what it tests

var binary = sync.OnceValue(func() program {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return program{module: os.Args[0], tests: os.Args[0]}
	}
	p := program{module: info.Main.Path, tests: strings.TrimSuffix(info.Path, ".test")}
	if p.module == "" { // "go test file_test.go"
		p.module = p.tests
	}
	return p
})

// qualified returns the name that a semaphore has for the tests of this module by this user, who could not use
// another one's. The slash of the machine's names is one that package semaphore ignores.
func qualified(name string) string {
	if strings.HasPrefix(name, "/") {
		return name
	}
	h := fnv.New32a()
	fmt.Fprint(h, binary().module, " ", userID())
	return fmt.Sprintf("%s.%08x", name, h.Sum32())
}

// userID returns what tells this user from others: on Unix a number, on Windows a text.
var userID = sync.OnceValue(func() string {
	if u, err := user.Current(); err == nil {
		return u.Uid
	}
	return fmt.Sprint(os.Getuid())
})

// label returns the end of a path that fits into a label.
func label(path string) string {
	const most, cut = 32, "..."
	if len(path) <= most {
		return path
	}
	path = path[len(path)-most+len(cut):]
	for !utf8.RuneStart(path[0]) {
		path = path[1:]
	}
	return cut + path
}

// contextOf returns a context that ends when a test may wait no longer.
func contextOf(t testing.TB) (context.Context, context.CancelFunc) {
	if t, ok := t.(interface{ Deadline() (time.Time, bool) }); ok { // a benchmark has none
		if deadline, ok := t.Deadline(); ok {
			return context.WithDeadline(context.Background(), before(deadline))
		}
	}
	return context.WithCancel(context.Background())
}

// before returns the time at which a test gives up for a deadline: early enough to clean up and to report.
func before(deadline time.Time) time.Time {
	return deadline.Add(-max(min(time.Until(deadline)/20, 10*time.Second), 100*time.Millisecond))
}

// timeoutFlag returns the value of -test.timeout, and false if there is no timeout.
func timeoutFlag() (time.Duration, bool) {
	f := flag.Lookup("test.timeout")
	if f == nil {
		return 0, false
	}
	d, err := time.ParseDuration(f.Value.String())
	return d, err == nil && d > 0
}

// flagIsSet reports whether one of those flags of test binaries is on.
func flagIsSet(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		f := flag.Lookup(name)
		return f != nil && f.Value.String() != "" && f.Value.String() != "false"
	})
}
