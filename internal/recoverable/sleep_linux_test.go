//go:build !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

// The moment between a waiter's last look and its sleep. The safety net is off in
// all of these: a waiter that is not woken sleeps on.

package recoverable_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/futex"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/recoverable"
	"github.com/procsem/semaphore/internal/testhook"
	. "github.com/procsem/semaphore/internal/testkit"
)

// beforeSleep has f called the first time that a waiter of this process has looked at
// everything and is about to fall asleep. Call it before the test opens a semaphore.
func beforeSleep(t *testing.T, f func()) {
	var once sync.Once
	testhook.Trace = func(step uint32) {
		s := permits.Step(step)
		if s == permits.Waiting {
			once.Do(f)
		}
	}
	t.Cleanup(func() { testhook.Trace = nil })
}

func TestGiveBeforeSleep(t *testing.T) {
	var holder *semaphore.Semaphore
	beforeSleep(t, func() { Must(t, holder.Post()) })
	name := UniqueName(t)
	holder = Open(t, name, Recoverable)
	s := Open(t, name, Recoverable)
	Must(t, holder.Wait())
	Must(t, Result(t, InBackground(s.Wait)))
}

// A waiter that serves itself sleeps in a system call. It gets a permit also from its own handle,
// which held none when it began to wait, and leaves the serving of those behind it to another
// goroutine.
func TestGivenToOneThatServesItself(t *testing.T) {
	testhook.NoOrder.Store(true)
	defer testhook.NoOrder.Store(false)
	var holder, s *semaphore.Semaphore
	sleeps, slept := 0, make(chan bool)
	testhook.Trace = func(step uint32) {
		if permits.Step(step) != permits.Waiting {
			return
		}
		switch sleeps++; sleeps {
		case 1: // it has looked, and is called in vain
			Must(t, holder.Post())
			if _, err := testhook.Inspect(s).Backend.(engine.Recoverable).Take(true, false); err != nil {
				t.Error(err)
			}
		case 2:
			close(slept)
		}
	}
	t.Cleanup(func() { testhook.Trace = nil })
	name := UniqueName(t)
	holder, s = Open(t, name, Recoverable), Open(t, name, Recoverable)
	Must(t, holder.Wait())
	first := InBackground(s.Wait)
	<-slept
	second := Blocked(t, s, s.Wait)
	Must(t, s.Post())
	Must(t, Result(t, first))
	Must(t, s.Post())
	Must(t, Result(t, second))
}

// A log handler panics while it is called by a waiter that serves itself, and the caller recovers.
// The waiters behind it are served.
func TestPanicOfOneThatServesItself(t *testing.T) {
	var s *semaphore.Semaphore
	var second <-chan error
	beforeSleep(t, func() {
		second = Blocked(t, s, s.Wait)
		panic("as a log handler")
	})
	name := UniqueName(t)
	holder := Open(t, name, Recoverable)
	s = Open(t, name, Recoverable)
	Must(t, holder.Wait())
	recovered := make(chan any)
	go func() {
		defer func() { recovered <- recover() }()
		s.Wait()
	}()
	if <-recovered == nil {
		t.Fatal("it did not panic")
	}
	Must(t, holder.Post())
	Must(t, Result(t, second))
	if n := testhook.Inspect(s).Waiting; n != 0 {
		t.Errorf("%d wait", n)
	}
}

func TestDeathBeforeSleep(t *testing.T) {
	var a *Actor
	beforeSleep(t, func() {
		Must(t, a.Cmd.Process.Kill())
		a.Cmd.Wait()
	})
	s := Open(t, UniqueName(t), Recoverable)
	a = Holding(t, s.Name(), 1)
	Must(t, Result(t, InBackground(s.Wait)))
}

// A looker is a waiter whose looks at locks are counted.
type looker struct {
	looks  *atomic.Int64
	cancel func()
	result <-chan error
}

// startLooker starts one, and returns when it has its place in the line.
func startLooker(t *testing.T, name string) *looker {
	t.Helper()
	s := Open(t, name, Recoverable)
	before := Table(s).Waiters()
	ctx, cancel := context.WithCancel(t.Context())
	l := &looker{looks: recoverable.CountLooks(testhook.Inspect(s).Backend), cancel: cancel}
	l.result = Blocked(t, s, func() error { return s.WaitContext(ctx) })
	WaitFor(t, "a look", func() bool { return l.looks.Load() > 0 && Table(s).Waiters() == before+1 })
	return l
}

// theLookout waits until only one of them looks often, and returns its index.
func theLookout(t *testing.T, lookers []*looker) (of int) {
	t.Helper()
	WaitFor(t, "only one that looks often", func() bool {
		before := make([]int64, len(lookers))
		for i, l := range lookers {
			before[i] = l.looks.Load()
		}
		look := 0
		WaitFor(t, "one that looks often", func() bool {
			enough := false
			look = 0
			for i, l := range lookers {
				if n := l.looks.Load() - before[i]; n > 0 {
					look++
					if n >= 4 {
						of, enough = i, true
					}
				}
			}
			return enough
		})
		return look == 1
	})
	return of
}

// Of those who find an owner dying one looks often whether its lock is gone, until it leaves: then
// another one does.
func TestOneLooksOften(t *testing.T) {
	if !KernelReports() {
		t.Skip("not on this system: reports of exits, without which no owner is known to be dying")
	}
	Patience(t)
	name := Open(t, UniqueName(t), Recoverable).Name()
	_, end := dyingHolder(t, name)
	var lookers []*looker
	for range 4 {
		lookers = append(lookers, startLooker(t, name))
	}
	i := theLookout(t, lookers)
	lookers[i].cancel()
	WantErr(t, "a cancelled wait", Result(t, lookers[i].result), context.Canceled)
	lookers = append(lookers[:i], lookers[i+1:]...)
	theLookout(t, lookers)

	// The one that came first is served first, whoever looks.
	end()
	Must(t, Result(t, lookers[0].result))
	for _, l := range lookers[1:] {
		l.cancel()
		WantErr(t, "a cancelled wait", Result(t, l.result), context.Canceled)
	}
}

// A lookout that is killed has a successor at once.
func TestLookoutDies(t *testing.T) {
	Patience(t)
	s := Open(t, UniqueName(t), Recoverable)
	_, end := dyingHolder(t, s.Name())
	lookout := StartActor(t, "recoverable")
	lookout.OK("open %s", s.Name())
	lookout.Send("waits 1")
	WaitFor(t, "the first waiter", func() bool { return Table(s).Waiters() == 1 && Waits(t, s, lookout) })
	l := startLooker(t, s.Name())
	Must(t, lookout.Cmd.Process.Kill())
	lookout.Cmd.Wait()
	theLookout(t, []*looker{l})
	end()
	Must(t, Result(t, l.result))
}

// Another waiter, which we have not seen, takes its ticket after us and falls asleep before us. We
// are served first; and that it dies, though we don't watch it, takes nothing from us.
func TestTicketTakenBeforeSleep(t *testing.T) {
	NeedCallNumbers(t)
	needWaitv(t)
	var other *Actor
	beforeSleep(t, func() {
		other.Send("waits 1")
		WaitFor(t, "the other waiter's sleep", other.Sleeping)
	})
	name := UniqueName(t)
	holder := Open(t, name, Recoverable)
	s := Open(t, name, Recoverable)
	Must(t, holder.Wait())
	other = StartActor(t, "recoverable")
	other.OK("open %s", name)
	waiting := Blocked(t, s, s.Wait)
	WaitFor(t, "two waiters", func() bool { return Table(s).Waiters() == 2 })
	allAsleep(t, 1)
	Must(t, holder.Post())
	Must(t, Result(t, waiting))
	Must(t, s.Post())
	if got := other.Answer(); got != "ok" {
		t.Fatal(got)
	}
	waiting = Blocked(t, s, s.Wait)
	Must(t, other.Cmd.Process.Kill())
	Must(t, Result(t, waiting))
}

// A waiter is woken for a permit, but another process takes it first, which no sleeping
// waiter has seen. The waiter goes back to sleep, and its wait is cancelled. Now another
// waiter has to watch that process.
func TestWokenForNothingAndCancelled(t *testing.T) {
	NeedCallNumbers(t)
	needWaitv(t)
	testhook.NoOrder.Store(true)
	defer testhook.NoOrder.Store(false)
	var other *Actor
	var taken, slept sync.Once
	var woken atomic.Bool
	again := make(chan struct{})
	testhook.Trace = func(step uint32) {
		s := permits.Step(step)
		switch {
		case s == permits.Waking:
			taken.Do(func() {
				other.OK("trywait")
				woken.Store(true)
			})
		case s == permits.Waiting && woken.Load():
			slept.Do(func() { close(again) })
		}
	}
	t.Cleanup(func() { testhook.Trace = nil })
	name := UniqueName(t)
	holder, first, second := Open(t, name, Recoverable), Open(t, name, Recoverable), Open(t, name, Recoverable)
	Must(t, holder.Wait())
	other = StartActor(t, "recoverable")
	other.OK("open %s", name)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	waiting := func(n int) {
		t.Helper()
		WaitFor(t, "the waiters", func() bool { return Table(holder).Waiters() == n })
		allAsleep(t, n)
	}
	cancelled := Blocked(t, first, func() error { return first.WaitContext(ctx) })
	waiting(1)
	waits := Blocked(t, second, second.Wait)
	waiting(2)
	Must(t, holder.Post())
	select {
	case <-again:
	case <-time.After(Hang):
		t.Fatal("no waiter was woken")
	}
	cancel()
	if err := Result(t, cancelled); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	waiting(1)
	Must(t, other.Cmd.Process.Kill())
	Must(t, Result(t, waits))
}

// The safety net finds a holder whose exit the kernel does not report.
func TestExitThatIsNotReported(t *testing.T) {
	defer Rescuing()()
	t.Setenv(NoRobustList, "1") // for the holder
	s := Open(t, UniqueName(t), Recoverable)
	a := Holding(t, s.Name(), 1)
	waiting := Blocked(t, s, s.Wait)
	Must(t, a.Cmd.Process.Kill())
	Must(t, Result(t, waiting))
}

// The kernel has written into a word that an owner has exited, and has woken another sleeper
// that was just killed. A server whose next look is far away finds it nevertheless.
func TestLostReport(t *testing.T) {
	NeedCallNumbers(t)
	needWaitv(t)
	defer Rescuing()()
	s := Open(t, UniqueName(t), Recoverable)
	Must(t, s.TryWait())
	var entry, live atomic.Uint32
	words := []futex.Word{{Addr: (*uint32)(unsafe.Pointer(&entry))}, {Addr: (*uint32)(unsafe.Pointer(&live))}}
	looks := make(chan bool, 1)
	go func() { looks <- recoverable.SleepOn(testhook.Inspect(s).Backend, words, farAway, permits.Findings{}) }()
	allAsleep(t, 1)
	live.Store(futex.OwnerDied)
	if <-looks {
		t.Error("it did not compare its words before it looked by itself")
	}
}

// The waiters that a server watches have left, and others were before them, which nobody watches
// now. It does not sleep on until its next look.
func TestOthersLeave(t *testing.T) {
	defer Rescuing()()
	s := Open(t, UniqueName(t), Recoverable)
	Must(t, s.TryWait())
	var entry atomic.Uint32
	words := []futex.Word{{Addr: (*uint32)(unsafe.Pointer(&entry))}}
	if recoverable.SleepOn(testhook.Inspect(s).Backend, words, farAway, permits.Findings{Others: 40}) {
		t.Error("it slept on though all others have left")
	}
	if !recoverable.SleepOn(testhook.Inspect(s).Backend, words, 2*engine.SafetyNet, permits.Findings{}) {
		t.Error("it did not sleep until its next look")
	}
}

// A permit is free, and was for others, which are stopped. A server behind them does not sleep on until its
// next look, which the more of them there are is the further away.
func TestFreeBesideThoseStopped(t *testing.T) {
	defer Rescuing()()
	s := Open(t, UniqueName(t), Recoverable)
	var entry atomic.Uint32
	words := []futex.Word{{Addr: (*uint32)(unsafe.Pointer(&entry))}}
	if recoverable.SleepOn(testhook.Inspect(s).Backend, words, farAway, permits.Findings{}) {
		t.Error("it slept on beside a free permit")
	}
}

// farAway is so far that a server which sleeps until then compares its words before that, also if it does
// not get to run for some seconds.
const farAway = 20 * engine.SafetyNet

func needWaitv(t *testing.T) {
	t.Helper()
	if !HasWaitv() {
		t.Skip("not on this system: futex_waitv, in which this test sees who sleeps")
	}
}

// allAsleep returns when n threads of this process sleep in futex_waitv, and are not
// only about to.
func allAsleep(t *testing.T, n int) {
	t.Helper()
	WaitFor(t, fmt.Sprintf("sleep of %d threads", n), func() bool {
		first := inWaitv(t)
		time.Sleep(5 * time.Millisecond)
		return first == n && inWaitv(t) == n
	})
}

// inWaitv returns how many threads of this process are in futex_waitv.
func inWaitv(t *testing.T) (n int) {
	tasks, err := filepath.Glob("/proc/self/task/*/syscall")
	Must(t, err)
	for _, task := range tasks {
		if call, _ := os.ReadFile(task); strings.HasPrefix(string(call), fmt.Sprint(unix.SYS_FUTEX_WAITV, " ")) {
			n++
		}
	}
	return n
}

// staysBlocked fails the test if a call returns that must wait until the test goes on.
// It may miss one that returns late.
func staysBlocked(t *testing.T, what string, c <-chan error) {
	t.Helper()
	select {
	case err := <-c:
		t.Errorf("%s did not wait: %v", what, err)
	case <-time.After(100 * time.Millisecond):
	}
}

// Open and SetLimit take the lock of the claim, so that one of them runs at a time.
func TestClaimIsExclusive(t *testing.T) {
	name := UniqueName(t)
	s := Open(t, name, Recoverable)
	path := StoreFile(Recoverable, name)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	Must(t, err)
	defer filelock.Close(f)
	locked, err := filelock.TryLockByte(f, permits.ClaimByte)
	if errors.Is(err, errors.ErrUnsupported) {
		locked, err = filelock.TryLock(f)
	}
	if err != nil || !locked {
		t.Fatal(locked, err)
	}
	opened := InBackground(func() error {
		other, err := semaphore.Open(name, semaphore.WithRecovery(true), semaphore.WithValue(1))
		if err == nil {
			err = other.Close()
		}
		return err
	})
	resized := InBackground(func() error { return s.SetLimit(2) })
	staysBlocked(t, "Open", opened)
	staysBlocked(t, "SetLimit", resized)
	Must(t, filelock.Close(f))
	Must(t, Result(t, resized))
	Result(t, opened) // with a limit that fits, or not
}
