//go:build amd64 && !race && !filelock_fcntl

// The sweep: a process is stepped through an operation, instruction by instruction,
// and killed at a boundary between two of them; the next process at the next boundary,
// until a process was killed at every boundary.

package sweep_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/testhook"
	. "github.com/procsem/semaphore/internal/testkit"
)

var (
	sweepFull    = flag.Bool("sweep.full", false, "kill at every point of the sweep, not at a few")
	sweepOnly    = flag.String("sweep.only", "", "sweep only operations whose name contains this")
	sweepBounded = flag.Int("sweep.points", 20, "points of each operation, unless all are swept")
	sweepSamples = flag.Int("sweep.samples", 1000, "points of each long operation that are sampled evenly, beside writes, system calls and internal/futex")
)

// thorough reports whether to sweep long operations too.
func thorough() bool { return *sweepFull || Times(*sweepBounded) >= 50 }

func TestMain(m *testing.M) { os.Exit(Main(m, Helpers{"sweep": sweepMain})) }

// A swept operation is one that the sweep goes through. Beside the handle that dies there
// are two handles of the test: one holds permits, and on the other one a goroutine waits.
type swept struct {
	name  string
	limit int
	held  int // permits that the test holds

	// work prepares the operation, in the helper, and does a few times whatever is
	// different the first time.
	work func(name string) (operation func() error)

	every  bool // kill at every instruction
	long   bool // too long to be stepped through unless there is time
	late   bool // the test opens the semaphore when the helper is dead
	limits []int
	listed bool // it is in the table of what a crash leaves
	net    bool // after a death it may need the safety net to wake the waiter
	yields bool // it yields to other goroutines, for which a goroutine that is locked to its thread needs another thread
	loose  bool // other threads of the helper have a part in it
	wait   waitFrom
	dead   int                // not 0: the limit; another process holds all permits and has died, or dies while the helper sleeps
	gone   bool               // another process was a waiter and has died, and nobody has noticed yet
	wants  error              // the operation's error
	hold   func(p *prey)      // called after the test has taken the permits that it holds
	before func(p *prey)      // called just before the operation
	opts   []semaphore.Option // of Open when the helper is dead
}

// waitFrom is when the test's waiter begins to wait.
type waitFrom int

const (
	fromStop  waitFrom = iota // when the helper has stopped at the point where it dies
	fromStart                 // before the operation
	fromSleep                 // when the helper sleeps; then a permit is given back
	fromDeath                 // when the helper is dead
)

func sweptOpen(name string, opts ...semaphore.Option) *semaphore.Semaphore {
	s, err := semaphore.Open(name, append([]semaphore.Option{semaphore.WithRecovery(true)}, opts...)...)
	sweepMust(err)
	return s
}

// sweptHandle opens a handle, and takes and gives back on it often enough that the
// operation does nothing for the first time.
func sweptHandle(name string, opts ...semaphore.Option) *semaphore.Semaphore {
	s := sweptOpen(name, opts...)
	for range 3 {
		if s.TryWait() == nil {
			sweepMust(s.Post())
			p, err := s.TryAcquire()
			sweepMust(err)
			sweepMust(p.Release())
		}
	}
	return s
}

// sweptOpener opens and closes another semaphore first.
func sweptOpener(opts ...semaphore.Option) func(name string) func() error {
	return func(name string) func() error {
		other := name + ".other"
		for range 2 {
			sweepMust(sweptHandle(other, opts...).Close())
		}
		sweepMust(semaphore.Unlink(other))
		return func() error {
			_, err := semaphore.Open(name, append([]semaphore.Option{semaphore.WithRecovery(true)}, opts...)...)
			return err
		}
	}
}

// sweptResizer changes the limit as procsem does, which has no handle; that of another semaphore
// first.
func sweptResizer(limit int) func(name string) func() error {
	resize := func(name string) error {
		all := engine.Registered()
		i := slices.IndexFunc(all, func(e *engine.Engine) bool { return e.SetLimit != nil })
		return all[i].SetLimit(name, limit, &engine.Options{})
	}
	return func(name string) func() error {
		other := name + ".other"
		sweepMust(sweptHandle(other).Close())
		sweepMust(resize(other))
		sweepMust(semaphore.Unlink(other))
		return func() error { return resize(name) }
	}
}

// sweptOperations returns the operations on a handle with those options.
func sweptOperations() []*swept {
	var ops []*swept
	for _, path := range []struct {
		name string
		opts []semaphore.Option
	}{
		{"", nil},
		{" (slow)", []semaphore.Option{semaphore.WithLogger(slog.New(slog.DiscardHandler))}},
		{" (strict)", []semaphore.Option{semaphore.WithStrict(true)}},
	} {
		took := func(f func(s *semaphore.Semaphore) func() error) func(string) func() error {
			return func(name string) func() error {
				s := sweptHandle(name, path.opts...)
				sweepMust(s.TryWait())
				return f(s)
			}
		}
		handle := func(name string) *semaphore.Semaphore { return sweptHandle(name, path.opts...) }
		acquired := func(name string) func() error {
			p, err := handle(name).TryAcquire()
			sweepMust(err)
			return p.Release
		}
		post := took(func(s *semaphore.Semaphore) func() error { return s.Post })
		ops = append(ops,
			&swept{name: "TryWait" + path.name, listed: path.name == "", limit: 1, every: true, work: func(name string) func() error { return handle(name).TryWait }},
			&swept{name: "Wait" + path.name, limit: 1, every: true, work: func(name string) func() error { return handle(name).Wait }},
			&swept{name: "TryAcquire" + path.name, limit: 1, every: true, work: func(name string) func() error {
				s := handle(name)
				return func() error { _, err := s.TryAcquire(); return err }
			}},
			&swept{name: "Post" + path.name, limit: 1, every: true, work: post},
			&swept{name: "Post to a waiter" + path.name, listed: path.name == "", limit: 1, every: true, work: post, wait: fromStart},
			&swept{name: "Release" + path.name, listed: path.name == "", limit: 1, every: true, work: acquired},
			&swept{name: "Release to a waiter" + path.name, limit: 1, every: true, work: acquired, wait: fromStart},
		)
	}
	plain := func(f func(s *semaphore.Semaphore) func() error) func(string) func() error {
		return func(name string) func() error { return f(sweptHandle(name)) }
	}
	served := plain(func(s *semaphore.Semaphore) func() error {
		return func() error { return waitServing(s, 1) }
	})
	gathered := plain(func(s *semaphore.Semaphore) func() error {
		return func() error { return waitServing(s, 2) }
	})
	const large = 130 // three groups of the summary
	return append(ops,
		&swept{name: "TryWait, nothing free", limit: 1, held: 1, every: true, wants: semaphore.ErrWouldBlock, work: plain(func(s *semaphore.Semaphore) func() error {
			return s.TryWait
		})},
		// The summary says that the second group has a free word, but it has none; the
		// free word is in the first group, and not where the helper looks first.
		&swept{name: "TryWait in a large table", limit: large, every: true, before: func(p *prey) {
			p.take(large) // the words 0, 64 to 129, 1 to 63
			p.give(2)
			p.take(1)
			p.give(67)
		}, work: plain(func(s *semaphore.Semaphore) func() error { return s.TryWait })},
		// The word that is given back is in the second group, in which no word is free
		// according to the summary.
		&swept{name: "Post in a large table", limit: large, held: large, every: true, hold: func(p *prey) {
			p.give(2)
		}, before: func(p *prey) {
			sweepWant(p.holder.TryWait(), semaphore.ErrWouldBlock)
		}, work: func(name string) func() error {
			s := sweptHandle(name)
			sweepMust(s.TryWait())
			return s.Post
		}},
		&swept{name: "PostN of two to a waiter", limit: 2, every: true, wait: fromStart, work: plain(func(s *semaphore.Semaphore) func() error {
			sweepMust(s.TryWait())
			sweepMust(s.TryWait())
			return func() error { return s.PostN(2) }
		})},
		&swept{name: "Wait, blocked, then served", listed: true, yields: true, limit: 1, held: 1, wait: fromSleep, work: served},
		&swept{name: "TryAcquireN of two", limit: 3, every: true, work: plain(func(s *semaphore.Semaphore) func() error {
			return func() error { _, err := s.TryAcquireN(2); return err }
		})},
		&swept{name: "TryAcquireN of too many", limit: 3, held: 2, wants: semaphore.ErrWouldBlock, work: plain(func(s *semaphore.Semaphore) func() error {
			return func() error { _, err := s.TryAcquireN(2); return err }
		})},
		&swept{name: "Release of two to a waiter", listed: true, limit: 2, every: true, wait: fromStart, work: plain(func(s *semaphore.Semaphore) func() error {
			p, err := s.TryAcquireN(2)
			sweepMust(err)
			return p.Release
		})},
		// It gathers the one that is free, sleeps, and gathers the one that is given back.
		&swept{name: "AcquireN, gathering, then served", listed: true, yields: true, limit: 2, held: 1, wait: fromSleep, work: gathered},
		&swept{name: "AcquireN that finds a dead owner", yields: true, limit: 2, dead: 2, work: gathered},
		&swept{name: "AcquireN, gathering, given up", listed: true, limit: 2, held: 1, every: true, wants: semaphore.ErrWouldBlock, work: plain(func(s *semaphore.Semaphore) func() error {
			return func() error { return gatherInVain(s) }
		})},
		&swept{name: "Wait, blocked, served by an exit", yields: true, limit: 1, dead: 1, wait: fromSleep, work: served},
		&swept{name: "WaitContext, blocked, its caller's thread", limit: 1, held: 1, wait: fromSleep, loose: true, work: plain(func(s *semaphore.Semaphore) func() error {
			ctx, cancel := context.WithCancel(context.Background())
			return func() error { defer cancel(); return s.WaitContext(ctx) }
		})},
		&swept{name: "Open, the first one", long: true, limit: 2, late: true, wait: fromDeath, opts: []semaphore.Option{semaphore.WithValue(2)}, work: sweptOpener(semaphore.WithValue(2))},
		&swept{name: "Open, no owner is left", limit: 3, dead: 2, late: true, wait: fromDeath, opts: []semaphore.Option{semaphore.WithValue(3)}, work: sweptOpener(semaphore.WithValue(3))},
		&swept{name: "Open, other owners are there", listed: true, long: true, limit: 2, held: 1, work: sweptOpener(semaphore.WithValue(2))},
		&swept{name: "Open, a dead owner's slot", limit: 2, dead: 2, held: 0, work: sweptOpener()},
		&swept{name: "Open, a slot of a dead waiter", limit: 1, held: 1, gone: true, work: sweptOpener()},
		&swept{name: "Close", listed: true, limit: 2, wait: fromStart, work: func(name string) func() error {
			sweepMust(sweptHandle(name).Close())
			s := sweptHandle(name)
			sweepMust(s.TryWait())
			_, err := s.TryAcquire()
			sweepMust(err)
			return s.Close
		}},
		&swept{name: "SetLimit, raised", listed: true, limit: 1, held: 1, limits: []int{1, 3}, net: true, wait: fromStart, work: plain(func(s *semaphore.Semaphore) func() error {
			return func() error { return s.SetLimit(3) }
		})},
		&swept{name: "SetLimit, lowered", listed: true, limit: 3, held: 2, limits: []int{3, 1}, wait: fromStart, work: plain(func(s *semaphore.Semaphore) func() error {
			sweepMust(s.TryWait())
			return func() error { return s.SetLimit(1) }
		})},
		&swept{name: "resize without a slot, raised", long: true, limit: 1, held: 1, limits: []int{1, 3}, net: true, wait: fromStart, work: sweptResizer(3)},
		&swept{name: "resize without a slot, lowered", long: true, limit: 3, held: 3, limits: []int{3, 1}, work: sweptResizer(1)},
		&swept{name: "a start at most once in a period", limit: 1, held: 1, work: plain(func(s *semaphore.Semaphore) func() error {
			start := func() error { _, err := engine.StartEvery(s, 1, true); return err }
			sweepMust(start())
			return start
		})},
		&swept{name: "TryWait that finds a dead owner", limit: 2, dead: 2, work: plain(func(s *semaphore.Semaphore) func() error { return s.TryWait })},
		&swept{name: "Wait that finds a dead owner", listed: true, yields: true, limit: 2, dead: 2, work: served},
		&swept{name: "Value that finds a dead owner", limit: 2, dead: 2, work: plain(func(s *semaphore.Semaphore) func() error {
			return func() error { _, err := s.Value(); return err }
		})},
	)
}

// gatherInVain is an AcquireN that gathers what is free, and is cancelled then, without a queue and
// before its server sleeps.
func gatherInVain(s *semaphore.Semaphore) error {
	r := testhook.Inspect(s).Backend.(engine.Recoverable)
	r.Owner().Join()
	place := r.Owner().Ticket()
	_, err := r.GatherTurn(place, 2)
	r.StopGathering(place)
	if r.Owner().Leave() {
		r.Owner().PassOn(nil, false, func([]permits.DyingOwner) bool { return false })
	}
	return err
}

// waitServing is a wait for n permits that finds too few, on a handle that has no other waiter. Its
// caller is also the queue's server, so that one thread does everything.
func waitServing(s *semaphore.Semaphore, n int) error {
	t := &ownTurn{Backend: testhook.Inspect(s).Backend.(engine.Backend), n: n, began: permits.Clock()}
	t.Serve(t)
	return t.err
}

// An ownTurn is the engine.Turn of one waiter, without a queue. The engine calls only Enroll,
// Look, Pass and Fail.
type ownTurn struct {
	engine.Backend
	engine.Turn
	began  time.Duration
	n      int // permits
	place  uint64
	none   func()
	served int
	err    error
}

func (t *ownTurn) Enroll(place func() uint64, none func()) {
	if place != nil {
		t.place, t.none = place(), none
	}
}

func (t *ownTurn) Look() (done bool) {
	if t.err == nil && t.served == 0 {
		switch err := t.take(); err {
		case nil:
			t.Backend.(engine.Recoverable).Owner().Stamp(t.began)
			t.served++
			t.none()
		case engine.ErrWouldBlock:
		default:
			t.err = err
		}
	}
	return t.served > 0 || t.err != nil
}

func (t *ownTurn) take() (err error) {
	r := t.Backend.(engine.Recoverable)
	if t.n == 1 {
		_, err = r.TakeTurn(t.place, false)
	} else {
		_, err = r.GatherTurn(t.place, t.n)
	}
	return err
}

func (t *ownTurn) Pass(func()) bool { return false }

func (t *ownTurn) Fail(err error) { t.err = err }

// The marks are system calls that nothing else makes.
const markNumber = 12345

func sweepMark(failed uintptr) {
	syscall.RawSyscall(unix.SYS_GETPRIORITY, unix.PRIO_PROCESS, markNumber, failed)
}

// sweepMain is the helper. Its arguments are "hold", the semaphore's name and limit; or
// "wait" and the semaphore's name; or an operation's name, the semaphore's, and whether
// the other threads will be "stopped" or "running".
func sweepMain(args []string) int {
	runtime.LockOSThread()
	if args[0] == "hold" {
		var opts []semaphore.Option
		if n, _ := strconv.Atoi(args[2]); n > 0 {
			opts = append(opts, semaphore.WithValue(n))
		}
		s := sweptOpen(args[1], opts...)
		for s.TryWait() == nil {
		}
		fmt.Println(unix.Gettid())
		io.Copy(io.Discard, os.Stdin) // until the test ends, in whichever way
		return 0
	}
	if args[0] == "wait" {
		go sweptOpen(args[1]).Wait()
		fmt.Println(unix.Gettid())
		io.Copy(io.Discard, os.Stdin)
		return 0
	}
	ops := sweptOperations()
	op := ops[slices.IndexFunc(ops, func(op *swept) bool { return op.name == args[0] })]
	operation := op.work(args[1])
	fmt.Println(unix.Gettid())
	var b [1]byte
	if n, _, _ := syscall.RawSyscall(unix.SYS_READ, 0, uintptr(unsafe.Pointer(&b)), 1); n != 1 {
		return 1
	}
	runtime.Gosched() // the read took long, and the scheduler wants us to yield
	if op.yields && args[2] == "stopped" {
		runtime.UnlockOSThread()
	}
	sweepMark(0)
	err := operation()
	failed := uintptr(0)
	if !errors.Is(err, op.wants) {
		failed = 1
	}
	sweepMark(failed)
	if failed != 0 {
		fmt.Fprintln(os.Stderr, op.name, err)
	}
	for { // until the kill; all goroutines blocked would be a deadlock to the runtime
		time.Sleep(time.Hour)
	}
}

// A complaint is what complain panics with: what is wrong at a point.
type complaint string

func complain(format string, args ...any) { panic(complaint(fmt.Sprintf(format, args...))) }

func sweepMust(err error) {
	if err != nil {
		complain("%v", err)
	}
}

func sweepWant(err, want error) {
	if !errors.Is(err, want) {
		complain("got %v, want %v", err, want)
	}
}

// A prey is a helper that is stepped through an operation and killed, with the handles
// and processes that it leaves behind.
type prey struct {
	t      *testing.T
	op     *swept
	number int // of the goroutine that kills it
	name   string

	holder  *semaphore.Semaphore // has permits
	permits []*semaphore.Permit
	waiter  *semaphore.Semaphore
	waiting <-chan error // result of the waiter's Wait; nil: it does not wait yet

	helper *exec.Cmd
	in     io.WriteCloser
	pid    int
	tid    int   // of the thread that is stepped
	traced []int // all threads that we trace
	frozen bool  // all but that one are stopped

	trapped map[uint64]byte // what was in the place of instructions that trap
	planted bool            // these trap now
	hops    bool            // the stepped thread runs on to one of those
	mem     *os.File        // the helper's memory

	mark   uint64
	ended  bool // it was killed, and waited for
	vdsoAt uint64

	doomed   *exec.Cmd // holds all permits until killDoomed
	doomedIn io.WriteCloser
	cameBack bool // a permit was given back for the helper that sleeps
	sleptAt  uint64

	file   []byte // the semaphore's
	inode  uint64
	mapped []uint64 // where the helper has mapped it
	left   []string // what the dead helper has left, and is not mended yet
	mended []string // what was left, and what mended it
}

var preys atomic.Int64

// newPrey starts a helper, and lets it run to the beginning of the operation.
func newPrey(t *testing.T, op *swept, number int, others string) *prey {
	p := &prey{t: t, op: op, number: number, name: fmt.Sprintf("%ssweep%d", NamePrefix(), preys.Add(1))}
	defer func() {
		if r := recover(); r != nil {
			p.end()
			panic(r)
		}
	}()
	if !op.late {
		p.holder = sweptOpen(p.name, semaphore.WithValue(op.limit))
		p.waiter = sweptOpen(p.name)
		p.take(op.held)
	}
	if op.hold != nil {
		op.hold(p)
	}
	p.helper, p.in, p.tid = p.start(op.name, p.name, others)
	p.pid = p.helper.Process.Pid
	if op.dead > 0 {
		p.doomed, p.doomedIn, _ = p.start("hold", p.name, fmt.Sprint(op.dead))
		if op.wait != fromSleep {
			p.killDoomed()
		}
	}
	if op.gone {
		p.doomed, p.doomedIn, _ = p.start("wait", p.name)
		p.await("the sleep of the waiter that dies", func() bool { return p.waits(p.doomed.Process.Pid) })
		p.killDoomed()
	}
	if op.before != nil {
		op.before(p)
	}
	if op.wait == fromStart {
		p.beginToWait()
	}
	p.catch()
	return p
}

// start starts a helper and returns it, its input, and its thread when it is ready.
func (p *prey) start(args ...string) (*exec.Cmd, io.WriteCloser, int) {
	cmd := Helper(p.t, "sweep", args...)
	// So that the runtime does nothing in between that is not part of the operation.
	cmd.Env = append(cmd.Env, "GOGC=off", "GODEBUG=asyncpreemptoff=1")
	in, err := cmd.StdinPipe()
	sweepMust(err)
	out, err := cmd.StdoutPipe()
	sweepMust(err)
	sweepMust(cmd.Start())
	defer out.Close()
	line, err := bufio.NewReader(out).ReadString('\n')
	sweepMust(err)
	tid, err := strconv.Atoi(strings.TrimSpace(line))
	sweepMust(err)
	return cmd, in, tid
}

// take takes n permits; give gives back one of them.
func (p *prey) take(n int) {
	for range n {
		permit, err := p.holder.TryAcquire()
		sweepMust(err)
		p.permits = append(p.permits, permit)
	}
}

func (p *prey) give(i int) {
	sweepMust(p.permits[i].Release())
	p.permits = slices.Delete(p.permits, i, i+1)
}

// killDoomed kills the process that holds all permits.
func (p *prey) killDoomed() {
	p.doomed.Process.Kill()
	p.doomed.Wait()
	p.doomedIn.Close()
	p.doomed = nil
}

// waits reports whether a waiter of that process sleeps.
func (p *prey) waits(pid int) bool {
	return slices.ContainsFunc(p.table().Holders(), func(h permits.Holder) bool {
		return h.PID == pid && h.Waits && h.Doing == permits.Waiting
	})
}

// beginToWait returns when the waiter sleeps, or has a permit.
func (p *prey) beginToWait() {
	p.waiting = InBackground(p.waiter.Wait)
	p.await("the waiter's sleep", func() bool { return len(p.waiting) > 0 || p.waits(os.Getpid()) })
}

func (p *prey) await(what string, cond func() bool) {
	for deadline := time.Now().Add(Hang); !cond(); time.Sleep(20 * time.Microsecond) {
		if time.Now().After(deadline) {
			complain("%s: not after %v; limit and permits %s", what, Hang, p.state())
		}
	}
}

// state describes the semaphore, for people.
func (p *prey) state() string {
	t := p.table()
	if t == nil {
		return ""
	}
	n, _ := t.Limit()
	return fmt.Sprintf("%d, %+v, %d waiters are counted", n, t.Holders(), t.Waiters())
}

// kill kills the helper, and waits until all of it is gone.
func (p *prey) kill() {
	if p.ended || p.helper == nil {
		return
	}
	p.ended = true
	unix.Kill(p.pid, unix.SIGKILL)
	// The first thread last: no wait for it returns before the others are gone.
	threads := slices.DeleteFunc(slices.Clone(p.traced), func(tid int) bool { return tid == p.pid })
	for _, tid := range append(threads, p.pid) {
		for {
			var status unix.WaitStatus
			_, err := unix.Wait4(tid, &status, unix.WALL, nil)
			if err == unix.EINTR || err == nil && !status.Exited() && !status.Signaled() {
				continue
			}
			break
		}
	}
	p.in.Close()
	if p.mem != nil {
		p.mem.Close()
	}
	p.helper.Process.Release()
}

// survive checks that the semaphore works when the helper is dead, and mends what it left.
func (p *prey) survive() {
	if p.op.late {
		p.holder = sweptOpen(p.name, p.op.opts...)
		p.waiter = sweptOpen(p.name)
		p.mendedBy("Open")
	}
	if p.waiting == nil {
		p.waiting = InBackground(p.waiter.Wait)
	}
	n, err := p.holder.Limit()
	sweepMust(err)
	if n != p.op.limit && !slices.Contains(p.op.limits, n) {
		complain("the limit is %d", n)
	}
	if p.doomed != nil {
		if len(p.waiting) > 0 {
			complain("the waiter has a permit too many: %s", p.state())
		}
		p.killDoomed()
	}
	if len(p.permits) >= n {
		// The waiter must not get a permit until one is given back.
		if len(p.waiting) > 0 {
			complain("the waiter has a permit too many: %s", p.state())
		}
		sweepWant(p.holder.TryWait(), semaphore.ErrWouldBlock)
		p.mendedBy("waiter or TryWait")
		for len(p.permits) >= n {
			p.give(0)
		}
	}
	start := time.Now()
	select {
	case err := <-p.waiting:
		sweepMust(err)
	case <-time.After(Hang):
		complain("the waiter sleeps on: limit %s", p.state())
	}
	if p.op.net && time.Since(start) > 300*time.Millisecond {
		p.mendedBy("safety net") // it looks after a second
	} else {
		p.mendedBy("waiter")
	}
	if p.op.gone {
		// Whoever scans must not find the dead waiter again and again.
		holder := testhook.Inspect(p.holder).Backend.(engine.Recoverable).Owner()
		p.await("an end of the reaping", func() bool { return !holder.Reap(false).Again })
	}
	// The next Open finds an intact file, and the slot of the dead owner.
	next := sweptOpen(p.name)
	defer next.Close()
	p.mendedBy("Open")
	if n := p.locked(); n != 3 {
		complain("%d slots are locked, of 3 handles", n)
	}
	handles := 3
	if p.op.dead > 0 {
		handles++
	}
	if slots := Table(next).Slots(); slots > handles {
		complain("%d slots are in use, of %d handles", slots, handles)
	}
	free := n - len(p.permits) - 1
	if got, err := next.Value(); got != free || err != nil {
		complain("value %d (%v), want %d: limit %s", got, err, free, p.state())
	}
	taken := 0
	for next.TryWait() == nil {
		taken++
	}
	if taken != free {
		complain("%d permits could be taken, %d should be free: limit %s", taken, free, p.state())
	}
	for range taken {
		sweepMust(next.Post())
	}
	p.await("the end of the wait", func() bool { return testhook.Inspect(p.waiter).Inside == 0 })
	sweepMust(p.waiter.Post())
	for len(p.permits) > 0 {
		p.give(0)
	}
	if got, err := next.Value(); got != n || err != nil {
		complain("value %d (%v) in the end, want %d: limit %s", got, err, n, p.state())
	}
	if w := Table(next).Waiters(); w != 0 {
		complain("%d waiters are still counted after a give", w)
	}
	if len(p.left) > 0 {
		complain("the dead owner has left %s for ever", p.left)
	}
}

// locked returns how many slots are locked; those of dead owners are not.
func (p *prey) locked() (n int) {
	f, err := os.Open(StoreFile(Recoverable, p.name))
	sweepMust(err)
	defer f.Close()
	for s := range int64(8) {
		locked, err := filelock.ByteLocked(f, permits.SlotByte+s, 1)
		sweepMust(err)
		if locked {
			n++
		}
	}
	return n
}

// end clears up.
func (p *prey) end() {
	p.kill()
	if p.doomed != nil {
		p.killDoomed()
	}
	for _, s := range []*semaphore.Semaphore{p.holder, p.waiter} {
		if s != nil {
			s.Close()
		}
	}
	if p.file != nil {
		unix.Munmap(p.file)
	}
	semaphore.Unlink(p.name)
	semaphore.Unlink(p.name + ".other")
}

// A target is a point at which a helper is to be killed.
type target struct {
	boundary
	k     int // how many instructions after the mark
	class class
	thaw  bool // the other threads are running, not stopped

	// The target is met the nth time that its instruction is the next one, after the
	// previous event of the module and before its next event. (In between Go's runtime
	// allocates and schedules, slightly differently each time.)
	nth           int
	since, before event

	sleepAt uint64 // the instruction at which the helper waits for its other threads
}

// An event is a system call or a write by the module: the nth time that its instruction
// is the next one, from the beginning or since another event.
type event struct {
	pc  uint64 // 0 for none
	nth int
}

// arrival returns a function that has to be called with each instruction that is next, or
// at least with those at to.since, to and to.before. It reports when the target is met, and
// when it cannot be met any more.
func (to target) arrival() func(pc uint64) (met, missed bool) {
	var seen [3]int
	passed := to.since.pc == 0
	return func(pc uint64) (met, missed bool) {
		if !passed {
			if pc == to.since.pc {
				seen[0]++
				passed = seen[0] == to.since.nth
			}
			return false, false
		}
		if pc == to.pc {
			seen[1]++
		}
		if pc == to.before.pc {
			seen[2]++
		}
		met = pc == to.pc && seen[1] == to.nth
		return met, !met && pc == to.before.pc && seen[2] == to.before.nth
	}
}

// class is the reason why a point was chosen.
type class int

const (
	each    class = iota // all of them are
	write                // before or after a write to the semaphore's file
	call                 // before or after a system call
	futexes              // in internal/futex: sleeping, and the robust list, by which the kernel reports our exit
	sample
	classes
)

var classNames = [classes]string{"instructions", "writes", "system calls", "internal/futex", "sampled"}

// plan chooses from a trace the points at which to kill.
func (op *swept) plan(trace []boundary) (chosen []target) {
	first, last := -1, -1
	for k, b := range trace {
		if ofModule(b.pc, "") {
			if first < 0 {
				first = k
			}
			last = k
		}
	}
	if first < 0 {
		complain("the operation is not in the trace")
	}
	var rest []target
	var to target
	times, since := make(map[uint64]int), make(map[uint64]int)
	for k, b := range trace[:min(last+2, len(trace))] {
		if k == 0 || trace[k-1].event() {
			if k > 0 {
				to.since = event{trace[k-1].pc, times[trace[k-1].pc]}
			}
			to.before = nextEvent(trace[k:])
			clear(since)
		}
		times[b.pc]++
		since[b.pc]++
		to.boundary, to.k, to.nth = b, k, since[b.pc]
		switch {
		case k < first:
			continue
		case op.loose && !ofModule(b.pc, ""):
			continue
		case op.every:
			to.class = each
		case op.loose:
			to.class = sample
		case b.write, k > first && trace[k-1].write:
			to.class = write
		case b.call, k > first && trace[k-1].call:
			to.class = call
		case ofModule(b.pc, "internal/futex."):
			to.class = futexes
		default:
			to.class = sample
		}
		if to.class == sample {
			rest = append(rest, to)
		} else {
			chosen = append(chosen, to)
		}
	}
	return append(chosen, evenly(rest, *sweepSamples)...)
}

// nextEvent returns the first event of a trace.
func nextEvent(trace []boundary) (e event) {
	k := slices.IndexFunc(trace, boundary.event)
	if k < 0 {
		return event{}
	}
	e.pc = trace[k].pc
	for _, b := range trace[:k+1] {
		if b.pc == e.pc {
			e.nth++
		}
	}
	return e
}

// evenly returns n of them, at equal distances.
func evenly(all []target, n int) (some []target) {
	if n >= len(all) {
		return all
	}
	for i := range n {
		some = append(some, all[(2*i+1)*len(all)/(2*n)])
	}
	return some
}

// A sweep is the sweep of one operation.
type sweep struct {
	t       *testing.T
	op      *swept
	trace   []boundary
	sleepAt uint64
	hops    bool // to each target, as hardware breakpoints do not work

	sync.Mutex
	tried    [classes]int
	mended   map[int][]string // by instruction of the trace: what each helper left, and what mended it
	unmet    int              // targets that no helper reached
	failures int
}

// learn steps a helper through the operation to its end, and returns false if the helper was
// not served.
func (sw *sweep) learn() bool {
	p := newPrey(sw.t, sw.op, 0, "stopped")
	defer p.end()
	var trace []boundary
	ended := p.step(func(b boundary) bool {
		trace = append(trace, b)
		return false
	})
	p.leaves()
	p.kill()
	p.survive()
	// In the shortest trace the runtime did the least on its own.
	if ended && (sw.trace == nil || len(trace) < len(sw.trace)) {
		sw.trace = trace
		sw.sleepAt = max(sw.sleepAt, p.sleptAt)
	}
	return ended
}

// astray reports whether a library was called, as the runtime of a program with cgo does to start a thread. That takes
// it tens of thousands of steps more, to which no other helper comes.
func (sw *sweep) astray() bool {
	return slices.ContainsFunc(sw.trace, func(b boundary) bool { return !here(b.pc) })
}

// strike kills a helper at the target. It returns what the helper left, and what mended it.
func (sw *sweep) strike(number int, to target, stepping bool) (met bool, mended string) {
	others := "stopped"
	if to.thaw {
		others = "running"
	}
	p := newPrey(sw.t, sw.op, number, others)
	defer p.end()
	at := ""
	defer func() {
		if r := recover(); r != nil {
			panic(fmt.Sprintf("at instruction %d, %s%s, other threads %s: %v", to.k, location(to.pc), at, others, r))
		}
	}()
	if stepping {
		arrived := to.arrival()
		p.step(func(b boundary) (stop bool) {
			var missed bool
			met, missed = arrived(b.pc)
			return met || missed
		})
		if to.thaw {
			p.thaw() // not before: there is time for much else between two steps
		}
	} else if sw.hops {
		met = p.hop(to)
		if to.thaw {
			p.thaw()
		}
	} else {
		if to.thaw {
			p.thaw()
		}
		met = p.leap(to)
	}
	if !met {
		at = " (not met)"
	}
	if met && (sw.op.wait == fromStop || sw.op.wait == fromSleep && !p.cameBack) {
		p.beginToWait()
	}
	p.leaves()
	p.kill()
	p.survive()
	slices.Sort(p.mended)
	return met, strings.Join(p.mended, ", ")
}

// hit is strike, with more attempts if the helper does not come to the target.
func (sw *sweep) hit(number int, to target) {
	defer func() {
		if r := recover(); r != nil {
			sw.Lock()
			defer sw.Unlock()
			sw.failures++
			sw.t.Errorf("%s: %v", sw.op.name, r)
		}
	}()
	met, mended := false, ""
	for attempt := 0; attempt < 4 && !met; attempt++ {
		if attempt == 2 {
			to.thaw = false // better than not at all
		}
		met, mended = sw.strike(number, to, attempt == 3 && to.k < 3000 || sw.hops && sw.op.loose)
	}
	sw.Lock()
	defer sw.Unlock()
	if met {
		sw.tried[to.class]++
		sw.mended[to.k] = append(sw.mended[to.k], mended)
	} else {
		sw.unmet++
		if *sweepFull {
			sw.t.Logf("%s: no helper came to instruction %d, %s", sw.op.name, to.k, location(to.pc))
		}
	}
}

// all kills a helper at each target.
func (sw *sweep) all(targets []target) {
	var hunters sync.WaitGroup
	queue := make(chan target)
	for number := range runtime.NumCPU() {
		hunters.Go(func() {
			// Only the thread that traces a helper may control it. (The thread ends with
			// this goroutine, which also kills the helpers that it traces.)
			runtime.LockOSThread()
			for to := range queue {
				sw.hit(number, to)
			}
		})
	}
	for _, to := range targets {
		sw.Lock()
		enough := sw.failures >= 10
		sw.Unlock()
		if enough {
			break
		}
		queue <- to
	}
	close(queue)
	hunters.Wait()
}

func (sw *sweep) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if sw.op.net {
		defer Rescuing()()
	}
	for attempt := 0; attempt < 6; attempt++ {
		if sw.learn() && !sw.astray() && (!thorough() || attempt >= 2 && len(sw.trace) > 20000) {
			break
		}
	}
	if sw.trace == nil {
		complain("no end of the operation")
	}
	if sw.op.listed && !slices.ContainsFunc(sw.trace, func(b boundary) bool { return b.write }) {
		complain("no write is seen")
	}
	var targets []target
	for n, to := range sw.op.plan(sw.trace) {
		to.thaw, to.sleepAt = n%2 == 1, sw.sleepAt
		targets = append(targets, to)
		if to.class != sample && to.class != futexes {
			to.thaw = !to.thaw
			targets = append(targets, to)
		}
	}
	if !*sweepFull {
		targets = evenly(targets, Times(*sweepBounded))
	}
	sw.all(targets)
}

// breakpoints reports whether hardware breakpoints work.
func breakpoints(t *testing.T) bool {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p := newPrey(t, sweptOperations()[0], 0, "stopped") // a short one
	defer p.end()
	return p.breaks()
}

// report collects a table in Markdown.
type report struct{ strings.Builder }

func (r *report) row(cells ...any) {
	for _, cell := range cells {
		fmt.Fprintf(r, "| %v ", cell)
	}
	r.WriteString("|\n")
}

func TestSweep(t *testing.T) {
	UseHelper("sweep")
	if !KernelReports() || !HasByteLocks() {
		t.Skip("not on this system: futex_waitv, or OFD locks, which the sweep is about")
	}
	// A goroutine that steps a helper blocks its thread without the scheduler's
	// knowledge: let there be threads enough for the others.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2*runtime.NumCPU() + 2))
	var points, crashes report
	points.row("operation", "steps", "points tried", classNames[0], classNames[1], classNames[2], classNames[3], classNames[4], "not met", "failures")
	points.WriteString(strings.Repeat("|---", 10) + "|\n")
	crashes.row("operation", "dies before", "in", "times", "points", "leaves (mended by)")
	crashes.WriteString(strings.Repeat("|---", 6) + "|\n")
	all := sweep{op: &swept{name: "all"}}
	total := func(sw *sweep) (n int) {
		for class, tried := range sw.tried {
			n += tried
			if sw != &all {
				all.tried[class] += tried
			}
		}
		return n
	}
	perform := func(name string, f func()) {
		defer func() {
			switch r := recover().(type) {
			case nil:
			case error:
				if !errors.Is(r, errNoPtrace) {
					panic(r)
				}
				Missing(t, r.Error())
			default:
				t.Errorf("%s: %v", name, r)
			}
		}()
		f()
	}
	hops := true
	perform("breakpoints", func() { hops = !breakpoints(t) })
	if hops {
		t.Log("hardware breakpoints do not work here, as in some virtual machines: helpers are stopped by instructions that trap")
	}
	for _, op := range sweptOperations() {
		if !strings.Contains(op.name, *sweepOnly) || op.long && !thorough() {
			continue
		}
		start := time.Now()
		sw := &sweep{t: t, op: op, hops: hops, mended: make(map[int][]string)}
		perform(op.name, sw.run)
		tried := total(sw)
		all.unmet += sw.unmet
		all.failures += sw.failures
		points.row(op.name, len(sw.trace), tried, sw.tried[0], sw.tried[1], sw.tried[2], sw.tried[3], sw.tried[4], sw.unmet, sw.failures)
		if op.listed {
			for _, c := range tabulate(sw.trace, sw.mended) {
				crashes.row(op.name, c.event, strings.Join(c.where, ", "), c.times, c.points, c.outcomes())
			}
		}
		t.Logf("%s: %d points tried, %d failures, %.1f s", op.name, tried, sw.failures, time.Since(start).Seconds())
	}
	points.row(all.op.name, "", total(&all), all.tried[0], all.tried[1], all.tried[2], all.tried[3], all.tried[4], all.unmet, all.failures)
	t.Logf("\n%s\n%s", &points, &crashes)
}
