package semtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/procsem/semaphore"
)

// A Rendezvous is where the processes that a test starts wait for each other, so that none begins its work before
// all are ready for it. [NewRendezvous] makes one. It is for one test, whose goroutine calls its methods.
//
//	r := semtest.NewRendezvous(t)
//	for _, cmd := range commands {
//		r.Start(cmd) // a program that calls semtest.Arrive when it is ready
//	}
//	r.Release() // all go on
//
// When the test ends, processes that still run are killed. If the test itself is killed, those that have arrived, or
// arrive then, learn of it ([Arrive]), and what is left of the semaphores they remove.
type Rendezvous struct {
	t        testing.TB
	base     string
	dir      string               // where the test shows that it runs; "": where semaphores are
	release  *semaphore.Semaphore // of value 0; each child that may go on waits for a permit
	started  int
	children []*child // that were not released yet
}

// rendezvousVariable tells a child where it is to arrive.
const rendezvousVariable = "SEMTEST_RENDEZVOUS"

type child struct {
	number  int
	cmd     *exec.Cmd
	arrived *semaphore.Semaphore // of value 0; the child posts it
	ended   context.Context
	err     error // of its end, when it has ended
}

// NewRendezvous makes a place for processes to meet. If that fails the test ends by t.Fatal.
func NewRendezvous(t testing.TB) *Rendezvous {
	t.Helper()
	r := &Rendezvous{t: t, base: uniqueName()}
	if runtime.GOOS != "windows" { // where no file is removed before the garbage collector unmaps it
		r.dir = t.TempDir()
	}
	r.release = r.open(releaseName(r.base), semaphore.WithValue(0))
	// While the test runs it holds this: a child learns by it that the test was killed.
	alive := r.open(aliveName(r.base), aliveOptions(r.dir)...)
	if err := alive.Wait(); err != nil {
		t.Fatalf("semtest: %v", err)
	}
	return r
}

func aliveName(base string) string          { return base + ".up" }
func releaseName(base string) string        { return base + ".go" }
func arrivalName(base string, i int) string { return fmt.Sprintf("%s.%d", base, i) }

// aliveOptions are those of the semaphore that the test holds while it runs. It is in a directory that the test names, for the
// process may have another SEMAPHORE_DIR.
func aliveOptions(dir string) []semaphore.Option {
	opts := []semaphore.Option{semaphore.WithRecovery(true)}
	if dir != "" {
		opts = append(opts, semaphore.WithDir(dir))
	}
	return opts
}

// open makes a semaphore that is removed when the test ends.
func (r *Rendezvous) open(name string, opts ...semaphore.Option) *semaphore.Semaphore {
	r.t.Helper()
	s, err := semaphore.Open(name, append(opts, semaphore.WithExclusive(true))...)
	if err != nil {
		r.t.Fatalf("semtest: %v", err)
	}
	r.t.Cleanup(func() {
		// In this order: on Windows the last Close removes it.
		if err := errors.Join(s.Unlink(), s.Close()); err != nil {
			r.t.Errorf("semtest: %v", err)
		}
	})
	return s
}

// Start starts a process that is to arrive. The variable by which it finds the
// rendezvous is added to its environment. wait waits for its end, and returns what cmd.Wait does; it may be called often. If the
// process cannot be started the test ends by t.Fatal.
//
// cmd.Wait is called at once, to notice the end. So the test must not call it, nor use cmd.StdoutPipe or StderrPipe, which
// it closes: cmd.Stdout may be a buffer, or a pipe of the test's own. If cmd.WaitDelay is 0 Start sets it to a second: else a process that
// the command has left behind, and that has its output, would hide the end.
func (r *Rendezvous) Start(cmd *exec.Cmd) (wait func() error) {
	r.t.Helper()
	r.started++
	c := &child{number: r.started, cmd: cmd, arrived: r.open(arrivalName(r.base, r.started), semaphore.WithValue(0))}
	cmd.Env = append(cmd.Environ(), fmt.Sprintf("%s=%s %d %s", rendezvousVariable, r.base, r.started, r.dir))
	if cmd.WaitDelay == 0 {
		cmd.WaitDelay = time.Second
	}
	if err := cmd.Start(); err != nil {
		r.t.Fatalf("semtest: %v", err)
	}
	ended, end := context.WithCancel(context.Background())
	c.ended = ended
	go func() {
		c.err = cmd.Wait()
		end()
	}()
	wait = func() error {
		<-ended.Done()
		return c.err
	}
	r.t.Cleanup(func() {
		cmd.Process.Kill()
		wait()
	})
	r.children = append(r.children, c)
	return wait
}

// Release waits until all processes that were started since the last Release have arrived, and lets them go on. If one ends before it has
// arrived, or the deadline of the test binary is near, the test ends by t.Fatal, which says of which.
func (r *Rendezvous) Release() {
	r.t.Helper()
	ctx, cancel := contextOf(r.t)
	defer cancel()
	type arrival struct {
		child int
		err   error
	}
	arrivals := make(chan arrival, len(r.children))
	missing := make([]int, len(r.children))
	for i, c := range r.children {
		missing[i] = i
		go func() { arrivals <- arrival{i, c.awaitArrival(ctx)} }()
	}
	for range r.children {
		a := <-arrivals
		if a.err == context.DeadlineExceeded {
			r.t.Fatalf("semtest: not arrived, and the deadline of the tests is near: %s", r.describe(missing))
		}
		if a.err != nil {
			r.t.Fatalf("semtest: %s %v", r.describe([]int{a.child}), a.err)
		}
		missing = slices.DeleteFunc(missing, func(i int) bool { return i == a.child })
	}
	if len(r.children) == 0 {
		return
	}
	if err := r.release.PostN(len(r.children)); err != nil {
		r.t.Fatalf("semtest: %v", err)
	}
	r.children = nil
}

// awaitArrival returns nil when the child has arrived.
func (c *child) awaitArrival(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.ended, func() { cancel(errEnded) })()
	err := c.arrived.WaitContext(ctx)
	if err == nil || context.Cause(ctx) != errEnded {
		return err
	}
	if c.arrived.TryWait() == nil {
		return nil // it had arrived before it ended
	}
	how := "with status 0"
	if c.err != nil {
		how = fmt.Sprintf("(%v)", c.err)
	}
	return fmt.Errorf("ended %s before it had arrived", how)
}

var errEnded = errors.New("ended")

// describe names children.
func (r *Rendezvous) describe(which []int) string {
	var names []string
	for _, i := range which {
		c := r.children[i]
		names = append(names, fmt.Sprintf("process %d of %d (%d, %s)", c.number, r.started, c.cmd.Process.Pid, c.cmd))
	}
	return strings.Join(names, ", ")
}

// Arrive is called, once, by a process that [Rendezvous.Start] has started, when it is ready. It returns when all are. It returns an
// error if the test has ended meanwhile, or if the process was not started so.
func Arrive() error {
	value := os.Getenv(rendezvousVariable)
	os.Unsetenv(rendezvousVariable) // it is not for processes that this one starts
	var base string
	var number int
	_, err := fmt.Sscanf(value, "%s %d", &base, &number)
	_, dir, found := strings.Cut(strings.TrimPrefix(value, base+" "), " ")
	if err != nil || !found {
		return fmt.Errorf("semtest: %s is %q; only a process that Rendezvous.Start has started can arrive, and once", rendezvousVariable, value)
	}
	var open []*semaphore.Semaphore
	defer func() {
		for _, s := range open {
			s.Close()
		}
	}()
	for _, of := range []struct {
		name string
		opts []semaphore.Option
	}{
		{arrivalName(base, number), nil},
		{releaseName(base), nil},
		{aliveName(base), aliveOptions(dir)},
	} {
		s, err := semaphore.Open(of.name, append(of.opts, semaphore.WithCreate(false))...)
		if errors.Is(err, fs.ErrNotExist) {
			return errGone
		}
		if err != nil {
			return fmt.Errorf("semtest: %w", err)
		}
		open = append(open, s)
	}
	arrival, release, alive := open[0], open[1], open[2]
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		if alive.WaitContext(ctx) == nil { // the test holds it as long as it runs
			cancel()
		}
	}()
	if err := arrival.Post(); err != nil {
		return fmt.Errorf("semtest: %w", err)
	}
	switch err := release.WaitContext(ctx); {
	case err == context.Canceled:
		removeAll(base)
		return errGone
	case err != nil:
		return fmt.Errorf("semtest: %w", err)
	}
	return nil
}

var errGone = errors.New("semtest: the test has ended before all had arrived")

// removeAll removes what a test that was killed has left. Others may do so at the same moment.
func removeAll(base string) {
	semaphore.Unlink(releaseName(base))
	semaphore.Unlink(aliveName(base))
	for number := 1; ; number++ {
		if err := semaphore.Unlink(arrivalName(base, number)); err != nil {
			return
		}
	}
}
