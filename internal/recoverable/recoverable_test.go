//go:build ((unix && !aix && !filelock_fcntl) || windows) && !mips && !mipsle && (!arm || arm.7)

// What only the recoverable engine does: owners, dead owners, limits.

package recoverable_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/testhook"
	. "github.com/procsem/semaphore/internal/testkit"
)

var helpers = Helpers{"actor": ActorMain}

func TestMain(m *testing.M) { os.Exit(Main(m, helpers)) }

// A waiter gets the permit of a holder that dies, in whichever way. The safety net is
// off: what wakes the waiter is the kernel's report of the exit.
func TestWaitReturnsPermitOfDeadHolder(t *testing.T) {
	EachVariant(t, func(t *testing.T) {
		for how, die := range deaths(t) {
			t.Run(how, func(t *testing.T) {
				s := Open(t, UniqueName(t), Recoverable, semaphore.WithValue(2))
				a := Holding(t, s.Name(), 2)
				waiting := Blocked(t, s, s.Wait)
				die(a)
				Must(t, Result(t, waiting))
				Must(t, s.WaitTimeout(Hang))
				Becomes(t, s, 0)
				Must(t, s.Post())
				Must(t, s.Post())
			})
		}
	})
}

// The number of a dead holder is given to the next one, and none of a living holder.
func TestNumberOfDeadHolder(t *testing.T) {
	EachVariant(t, func(t *testing.T) {
		for how, die := range deaths(t) {
			t.Run(how, func(t *testing.T) {
				s := Open(t, UniqueName(t), Recoverable, semaphore.WithValue(2))
				a := Holding(t, s.Name(), 1)
				first, err := s.TryAcquire()
				Must(t, err)
				got := make(chan *semaphore.Permit, 1)
				waiting := Blocked(t, s, func() error {
					p, err := s.Acquire(context.Background())
					got <- p
					return err
				})
				die(a)
				Must(t, Result(t, waiting))
				if dead, own := (<-got).Slots(), first.Slots(); !slices.Equal(dead, []int{0}) || !slices.Equal(own, []int{1}) {
					t.Errorf("the dead holder's number is %v and ours %v, want 0 and 1", dead, own)
				}
			})
		}
	})
}

// gathering starts a process that waits for n permits, and waits until it has so many of them.
func gathering(t *testing.T, s *semaphore.Semaphore, n, has int) *Actor {
	t.Helper()
	a := StartActor(t, "recoverable")
	a.OK("open %s", s.Name())
	a.Send("acquire %d", n)
	awaitGathering(t, s, a, n, has)
	return a
}

func awaitGathering(t *testing.T, s *semaphore.Semaphore, a *Actor, n, has int) {
	t.Helper()
	WaitFor(t, fmt.Sprintf("one that waits for %d and has %d", n, has), func() bool {
		hs, err := s.Holders()
		Must(t, err)
		return slices.ContainsFunc(hs, func(h semaphore.Holder) bool {
			return h.PID == a.Cmd.Process.Pid && h.Want == n && h.Permits == has
		})
	})
}

// A waiter in front that wants more than there are is cancelled. One behind it in the same handle wants one,
// and is called for it.
func TestSeveralInFrontIsCancelled(t *testing.T) {
	name := UniqueName(t)
	other := Open(t, name, Recoverable, semaphore.WithValue(4))
	s := Open(t, name, Recoverable)
	Must(t, other.Wait())
	Must(t, other.Wait())
	ctx, cancel := context.WithCancel(context.Background())
	first := Blocked(t, s, func() error { _, err := s.AcquireN(ctx, 3); return err })
	WaitFor(t, "its place", func() bool {
		hs, err := other.Holders()
		Must(t, err)
		return slices.ContainsFunc(hs, func(h semaphore.Holder) bool { return h.Want == 3 })
	})
	Must(t, other.SetLimit(2))
	second := Blocked(t, s, func() error { _, err := s.Acquire(context.Background()); return err })
	cancel()
	WantErr(t, "the first", Result(t, first), context.Canceled)
	Must(t, other.Post())
	Must(t, other.Post())
	Must(t, Result(t, second))
}

// What a process has gathered comes back when it is killed, whatever it has by then, and so does what a Permit of
// several holds. Those that wait behind it are served.
func TestGathererDies(t *testing.T) {
	EachVariant(t, func(t *testing.T) {
		Patience(t)
		die := func(a *Actor) { // it is busy, and could not end by itself
			Must(t, a.Cmd.Process.Kill())
			a.Cmd.Wait()
		}
		s := Open(t, UniqueName(t), Recoverable, semaphore.WithValue(3))
		for range 3 {
			Must(t, s.Wait())
		}
		a := gathering(t, s, 3, 0)
		b := gathering(t, s, 2, 0)
		c := gathering(t, s, semaphore.All, 0)
		Must(t, s.Post())
		awaitGathering(t, s, a, 3, 1)
		die(a)
		awaitGathering(t, s, b, 2, 1)
		Must(t, s.Post())
		if got := b.Answer(); !strings.HasPrefix(got, "ok") {
			t.Fatal(got)
		}
		die(b)
		awaitGathering(t, s, c, semaphore.All, 2)
		Must(t, s.Post())
		if got := c.Answer(); got != "ok [0 1 2]" {
			t.Fatal(got)
		}
		_, err := s.TryAcquire()
		WantErr(t, "TryAcquire beside one that has all", err, semaphore.ErrWouldBlock)
		die(c)
		p, err := s.AcquireN(context.Background(), semaphore.All)
		Must(t, err)
		Must(t, p.Release())
		Becomes(t, s, 3)
	})
}

// A process that is stopped while it gathers keeps those that want one from a free permit no longer
// than the safety net says, and none from it that are awake; its own parts it keeps.
func TestGathererIsStopped(t *testing.T) {
	defer Rescuing()()
	s := Open(t, UniqueName(t), Recoverable, semaphore.WithValue(3))
	for range 3 {
		Must(t, s.Wait())
	}
	a := gathering(t, s, 3, 0)
	Must(t, s.Post())
	awaitGathering(t, s, a, 3, 1)
	Suspend(t, a.Cmd)
	Must(t, s.Post())
	other := Open(t, s.Name(), Recoverable)
	Must(t, other.WaitTimeout(Hang))
	Must(t, other.Post())
	Must(t, s.Post())
	GoOn(t, a.Cmd)
	if got := a.Answer(); got != "ok [0 1 2]" {
		t.Error(got)
	}
}

// TryWait and TryAcquire find the permit of a dead holder at the first look.
func TestTryWaitFindsPermitOfDeadHolder(t *testing.T) {
	EachVariant(t, func(t *testing.T) {
		s := Open(t, UniqueName(t), Recoverable)
		a := Holding(t, s.Name(), 1)
		WantErr(t, "TryWait", s.TryWait(), semaphore.ErrWouldBlock)
		Must(t, a.Cmd.Process.Kill())
		a.Cmd.Wait()
		Must(t, s.TryWait())
		Must(t, s.Post())
		a = Holding(t, s.Name(), 1)
		Must(t, a.Cmd.Process.Kill())
		a.Cmd.Wait()
		p, err := s.TryAcquire()
		Must(t, err)
		Must(t, p.Release())
	})
}

// A waiter that is killed neither takes a wake-up along nor stays counted.
func TestWaitersAreKilled(t *testing.T) {
	s := Open(t, UniqueName(t), Recoverable)
	Must(t, s.Wait())
	var waiters []*Actor
	for range 5 {
		a := StartActor(t, "recoverable")
		a.OK("open %s", s.Name())
		a.Send("waits 1")
		waiters = append(waiters, a)
	}
	WaitFor(t, "waiters", func() bool { return Table(s).Waiters() == len(waiters) })
	for _, a := range waiters[1:] {
		Must(t, a.Cmd.Process.Kill())
		a.Cmd.Wait()
	}
	Must(t, s.Post())
	if got := waiters[0].Answer(); got != "ok" {
		t.Error(got)
	}
	Must(t, waiters[0].Cmd.Process.Kill())
	waiters[0].Cmd.Wait()
	Must(t, s.Wait())
	WaitFor(t, "the end of our own wait", func() bool { return testhook.Inspect(s).Inside == 0 })
	Must(t, s.Post())
	if n := Table(s).Waiters(); n != 0 {
		t.Errorf("%d waiters are counted, but all are dead", n)
	}
}

// A permit belongs to the handle that took it: another handle cannot give it back, and
// Post of the same handle does not give back what Acquire took, nor the reverse.
func TestOwners(t *testing.T) {
	EachVariant(t, func(t *testing.T) {
		name := UniqueName(t)
		a := Open(t, name, Recoverable, semaphore.WithValue(3))
		b := Open(t, name, Recoverable)
		Must(t, a.Wait())
		WantErr(t, "Post of another handle's", b.Post(), semaphore.ErrNotHeld)
		p, err := a.TryAcquire()
		Must(t, err)
		Must(t, a.Post())
		WantErr(t, "Post of a Permit's", a.Post(), semaphore.ErrNotHeld)
		Must(t, p.Release())
		Must(t, p.Release())
		WantErr(t, "Post of what was released", a.Post(), semaphore.ErrNotHeld)
		Becomes(t, a, 3)
	})
}

// Wait, Post, Acquire and Release of one handle at the same time: Post gives back only
// what Wait took, and Release only what Acquire took, also if permits are handed over
// within the handle.
func TestPostAndReleaseInterleaved(t *testing.T) {
	EachVariant(t, func(t *testing.T) {
		const permits = 3
		s := Open(t, UniqueName(t), Recoverable, semaphore.WithValue(permits))
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				for range 200 {
					if i%2 == 0 {
						if err := errors.Join(s.Wait(), s.Post()); err != nil {
							t.Error(err)
							return
						}
						continue
					}
					p, err := s.Acquire(context.Background())
					if err == nil {
						err = p.Release()
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
		Becomes(t, s, permits)
		WantErr(t, "Post in the end", s.Post(), semaphore.ErrNotHeld)
	})
}

// Close gives back at once, also while a child has the lock file, and while Permits
// are not released.
func TestCloseGivesBack(t *testing.T) {
	EachVariant(t, func(t *testing.T) {
		name := UniqueName(t)
		watch := Open(t, name, Recoverable, semaphore.WithValue(3))
		s := Open(t, name, Recoverable)
		Must(t, s.Wait())
		Must(t, s.Wait())
		p, err := s.Acquire(context.Background())
		Must(t, err)
		waiting := Blocked(t, watch, watch.Wait)
		defer lendLock(t, s)()
		Must(t, s.Close())
		Must(t, Result(t, waiting))
		Becomes(t, watch, 2)
		Must(t, p.Release()) // Close has given it back already
		Becomes(t, watch, 2)
		again := Open(t, name, Recoverable) // may claim the slot
		Must(t, again.Wait())
		Must(t, p.Release())
		Becomes(t, watch, 1)
	})
}

func TestHolders(t *testing.T) {
	EachVariant(t, func(t *testing.T) {
		started := time.Now()
		name := UniqueName(t)
		s := Open(t, name, Recoverable, semaphore.WithValue(4))
		if hs, err := s.Holders(); err != nil || len(hs) != 0 {
			t.Errorf("Holders of an unused semaphore: %v, %v", hs, err)
		}
		Must(t, s.Wait())
		_, err := s.Acquire(context.Background())
		Must(t, err)
		a := Holding(t, name, 2)
		a.Send("waits 1")
		pid := a.Cmd.Process.Pid
		want := []semaphore.Holder{{PID: os.Getpid(), Permits: 2}, {PID: pid, Permits: 2, Waiting: true, Want: 1}}
		var got []semaphore.Holder
		WaitFor(t, "a waiter", func() bool {
			got, err = s.Holders()
			Must(t, err)
			return len(got) == 2 && got[1].Waiting == want[1].Waiting
		})
		for i, h := range got {
			if h.Opened.Before(started.Add(-time.Second)) || h.Opened.After(time.Now()) {
				t.Errorf("opened %v, not between %v and now", h.Opened, started)
			}
			if (runtime.GOOS == "linux" || runtime.GOOS == "windows") && (h.Started.IsZero() || h.Started.After(h.Opened.Add(2*time.Second))) {
				t.Errorf("started %v, opened %v", h.Started, h.Opened)
			}
			got[i].Started, got[i].Opened = time.Time{}, time.Time{}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Holders (-want +got):\n%s", diff)
		}
		Must(t, a.Cmd.Process.Kill())
		a.Cmd.Wait()
		if hs, err := s.Holders(); err != nil || len(hs) != 1 {
			t.Errorf("Holders after the death of one of two: %+v, %v", hs, err)
		}
	})
}

func TestSetLimit(t *testing.T) {
	EachVariant(t, func(t *testing.T) {
		name := UniqueName(t)
		s := Open(t, name, Recoverable)
		Must(t, s.Wait())
		var waiting []<-chan error
		for range 3 {
			waiting = append(waiting, Blocked(t, s, s.Wait))
		}
		a := StartActor(t, "recoverable")
		a.OK("open %s", name)
		a.Send("waits 2")
		WaitFor(t, "the actor's wait", func() bool { return RecoverPolls() || Table(s).Waiters() == 2 })
		Must(t, s.SetLimit(6)) // wakes all five
		for _, w := range waiting {
			Must(t, Result(t, w))
		}
		if got := a.Answer(); got != "ok" {
			t.Error(got)
		}
		Becomes(t, s, 0)

		// Lowered: no holder loses a permit, and no waiter gets one until fewer than
		// the limit are held.
		Must(t, s.SetLimit(2))
		for held := 6; held > 0; held-- {
			Becomes(t, s, max(0, 2-held))
			if held >= 2 {
				WantErr(t, fmt.Sprintf("TryWait with %d of 2 held", held), s.TryWait(), semaphore.ErrWouldBlock)
			}
			if held > 4 {
				a.OK("posts 1")
			} else {
				Must(t, s.Post())
			}
		}
		Must(t, s.TryWait())
		Must(t, s.TryWait())
		WantErr(t, "TryWait with 2 of 2 held", s.TryWait(), semaphore.ErrWouldBlock)
		Must(t, s.Post())
		Must(t, s.Post())

		// With 0 no waiter gets a permit.
		Must(t, s.SetLimit(0))
		WantErr(t, "TryWait with a limit of 0", s.TryWait(), semaphore.ErrWouldBlock)
		last := Blocked(t, s, s.Wait)
		a.OK("limit 1")
		Must(t, Result(t, last))

		for _, n := range []int{-1, permits.MaxPermits + 1} {
			WantErr(t, fmt.Sprintf("SetLimit(%d)", n), s.SetLimit(n), semaphore.ErrInvalidValue)
		}
		Must(t, s.SetLimit(permits.MaxPermits))
		Becomes(t, s, permits.MaxPermits-1)
		if n, err := s.Limit(); n != permits.MaxPermits || err != nil {
			t.Errorf("Limit %d, %v", n, err)
		}
	})
}

// While a lowered limit waits for permits to come back, one that comes back is not
// handed to another goroutine of the same handle either.
func TestLoweredLimitAgainstHandOver(t *testing.T) {
	s := Open(t, UniqueName(t), Recoverable, semaphore.WithValue(2))
	Must(t, s.Wait())
	Must(t, s.Wait())
	ctx, cancel := context.WithCancel(context.Background())
	waiting := Blocked(t, s, func() error { return s.WaitContext(ctx) })
	Must(t, s.SetLimit(1))
	Must(t, s.Post())
	Becomes(t, s, 0)
	if hs, err := s.Holders(); err != nil || len(hs) != 1 || hs[0].Permits != 1 {
		t.Errorf("Holders %+v, %v, want one with one permit", hs, err)
	}
	Must(t, s.Post())
	Must(t, Result(t, waiting))
	cancel()
}

// WithValue sets the limit of a semaphore that no process has open. While a process has
// it open, another limit is an error. A limit that SetLimit has set stays.
func TestLimitOfAnExistingOne(t *testing.T) {
	EachVariant(t, func(t *testing.T) {
		name := UniqueName(t)
		limitIs := func(want int, opts ...semaphore.Option) {
			t.Helper()
			s := Open(t, name, Recoverable, opts...)
			defer s.Close()
			if n, err := s.Limit(); n != want || err != nil {
				t.Errorf("limit %d, %v; want %d", n, err, want)
			}
		}
		limitIs(1)
		limitIs(3, semaphore.WithValue(3)) // no handle is open
		limitIs(3)
		a := StartActor(t, "recoverable")
		a.OK("open %s", name)
		limitIs(3, semaphore.WithValue(3))
		unchanged := Unchanging(t, Recoverable, name)
		_, err := semaphore.Open(name, semaphore.WithRecovery(true), semaphore.WithValue(2))
		WantErr(t, "Open with another limit", err, semaphore.ErrLimitMismatch)
		unchanged("Open with another limit")
		if err == nil || !strings.Contains(err.Error(), "limit of 3") || !strings.Contains(err.Error(), "2 was") {
			t.Errorf("%v: does not name both limits", err)
		}
		a.OK("waits 3")
		Must(t, a.Cmd.Process.Kill())
		a.Cmd.Wait()
		limitIs(2, semaphore.WithValue(2)) // all processes that had it open are dead
		s := Open(t, name, Recoverable)
		Becomes(t, s, 2)
		Must(t, s.SetLimit(5))
		limitIs(5, semaphore.WithValue(2)) // SetLimit's stays
		Must(t, s.Close())
		limitIs(5, semaphore.WithValue(2))
		Must(t, s.Unlink())
		limitIs(2, semaphore.WithValue(2))
		for _, n := range []int{0, -1, permits.MaxPermits + 1} {
			_, err := semaphore.Open(name, semaphore.WithRecovery(true), semaphore.WithValue(n))
			WantErr(t, fmt.Sprintf("WithValue(%d)", n), err, semaphore.ErrInvalidValue)
		}
	})
}

// Of many openers with different limits at the same moment, one sets the limit.
func TestRacedAdoption(t *testing.T) {
	EachVariant(t, func(t *testing.T) {
		for range 10 {
			name := UniqueName(t)
			Must(t, Open(t, name, Recoverable).Close())
			limits := make(chan int, 6)
			var all sync.WaitGroup
			var opened sync.WaitGroup
			opened.Add(cap(limits))
			for i := range cap(limits) {
				all.Go(func() {
					s, err := semaphore.Open(name, semaphore.WithRecovery(true), semaphore.WithValue(2+i))
					opened.Done()
					if err == nil {
						opened.Wait() // no handle is closed before all calls of Open have returned
						limits <- 2 + i
						s.Close()
					} else if !errors.Is(err, semaphore.ErrLimitMismatch) {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if len(limits) != 1 {
				t.Errorf("%d limits were adopted at the same time, want 1", len(limits))
			}
		}
	})
}

func TestOwnersAloneHaveLimits(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		if Owns(e) {
			return
		}
		s := Open(t, UniqueName(t), e)
		_, holders := s.Holders()
		_, limit := s.Limit()
		_, lockFile := s.LockFile()
		for what, err := range map[string]error{"Holders": holders, "Limit": limit, "LockFile": lockFile, "SetLimit": s.SetLimit(2)} {
			WantErr(t, what, err, semaphore.ErrUnsupported)
		}
	})
	s := Open(t, UniqueName(t), Recoverable)
	Must(t, s.Close())
	_, holders := s.Holders()
	_, limit := s.Limit()
	_, lockFile := s.LockFile()
	for what, err := range map[string]error{"Holders": holders, "Limit": limit, "LockFile": lockFile, "SetLimit": s.SetLimit(2)} {
		WantErr(t, what+" of a closed handle", err, semaphore.ErrClosed)
	}
}

func TestRecoveryOption(t *testing.T) {
	s, err := semaphore.Open(UniqueName(t), semaphore.WithRecovery(true))
	Must(t, err)
	defer s.Close()
	if s.Engine() != Recoverable || s.Engine().String() != "recoverable" {
		t.Errorf("engine %v", s.Engine())
	}
	_, err = semaphore.Open(UniqueName(t), semaphore.WithRecovery(true), semaphore.WithEngine(semaphore.EngineFlock))
	WantErr(t, "WithRecovery beside another engine", err, semaphore.ErrInvalidOption)
}

// Unlink loses no permits of dead holders: a handle that has the semaphore open gets
// them.
func TestUnlinkBesideDeadHolder(t *testing.T) {
	EachVariant(t, func(t *testing.T) {
		t.Setenv("SEMAPHORE_DIR", TempDir(t))
		s := Open(t, "x", Recoverable, semaphore.WithValue(2))
		a := Holding(t, "x", 2)
		Must(t, a.Cmd.Process.Kill())
		a.Cmd.Wait()
		Must(t, s.Unlink())
		Must(t, s.TryWait())
		Must(t, s.TryWait())
	})
}

// A handle that nothing refers to keeps its permit.
func TestForgottenHandleHolds(t *testing.T) {
	name := UniqueName(t)
	watch := Open(t, name, Recoverable)
	func() {
		s, err := semaphore.Open(name, semaphore.WithRecovery(true))
		Must(t, err)
		Must(t, s.Wait())
	}()
	for range 5 {
		runtime.GC()
	}
	WantErr(t, "TryWait", watch.TryWait(), semaphore.ErrWouldBlock)
	Must(t, semaphore.CloseAll())
	Becomes(t, Open(t, name, Recoverable), 1)
}

// A file from before the last reboot: all owners in it are dead, and none of their locks
// is held, whatever processes have their process ids now.
func TestStaleFile(t *testing.T) {
	dir := TempDir(t)
	t.Setenv("SEMAPHORE_DIR", dir)
	name := UniqueName(t)
	s := Open(t, name, Recoverable, semaphore.WithValue(3))
	a := Holding(t, name, 2)
	saved := make(map[string][]byte) // with the lock files, if there are such
	entries, err := os.ReadDir(dir)
	Must(t, err)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		saved[path], err = os.ReadFile(path)
		Must(t, err)
	}
	Must(t, a.In.Close())
	a.Cmd.Wait()
	Must(t, s.Close())
	Must(t, s.Unlink())
	for path, content := range saved {
		Must(t, os.WriteFile(path, content, 0o600))
	}
	s = Open(t, name, Recoverable, semaphore.WithValue(3))
	for range 3 {
		Must(t, s.TryWait())
	}
	WantErr(t, "TryWait", s.TryWait(), semaphore.ErrWouldBlock)
	before := Table(s).Slots()
	Open(t, name, Recoverable)
	Open(t, name, Recoverable)
	if n := Table(s).Slots(); n > max(before, 3) {
		t.Errorf("%d slots, %d before, for three handles: the slots of dead owners were not used again", n, before)
	}
}

func TestRecoverableRefusesWhatIsNoSemaphore(t *testing.T) {
	name := UniqueName(t)
	good := func() []byte {
		content := make([]byte, permits.Size)
		copy(content, permits.NewHead(name, 2, locksHere(t), 7).Bytes())
		return content
	}
	changed := func(at int, to any) []byte {
		content := good()
		_, err := binary.Encode(content[at:], binary.NativeEndian, to)
		Must(t, err)
		return content
	}
	for what, tt := range map[string]struct {
		content []byte
		says    string
	}{
		"empty":              {nil, "has 0 bytes"},
		"too short":          {good()[:permits.Size-1], "bytes"},
		"too long":           {append(good(), 0), "bytes"},
		"zeros":              {make([]byte, permits.Size), "begins with"},
		"another magic":      {changed(0, byte('x')), "begins with"},
		"a flock-counter's":  {append([]byte("flocksem"), good()[8:]...), "begins with"},
		"a future version":   {changed(8, uint32(9)), "version 9"},
		"version 0":          {changed(8, uint32(0)), "version 0"},
		"a past version":     {changed(8, uint32(1)), "version 1"},
		"another name":       {changed(320, byte('#')), `"#` + name[1:] + `"`},
		"no name":            {changed(320, byte(0)), `""`},
		"unknown locks":      {changed(12, uint32(4)), "locks"},
		"a limit beyond":     {changed(64, uint64(0xffff)), "limit 65535"},
		"permits beyond":     {changed(72, uint32(1<<16)), "65536 permits"},
		"slots beyond":       {changed(76, uint32(1<<16)), "65536 slots"},
		"another byte order": {reversed(good()), "byte order"},
		"one that is in use": {good(), ""},
	} {
		t.Run(what, func(t *testing.T) {
			path := StoreFile(Recoverable, name)
			Must(t, os.WriteFile(path, tt.content, 0o600))
			defer semaphore.Unlink(name)
			for _, opts := range [][]semaphore.Option{nil, {semaphore.WithCreate(false)}, {semaphore.WithValue(2)}} {
				s, err := semaphore.Open(name, append(opts, semaphore.WithRecovery(true))...)
				if tt.says == "" {
					Must(t, err)
					Must(t, s.TryWait())
					Must(t, s.Close())
					continue
				}
				WantErr(t, what, err, semaphore.ErrCorrupt)
				if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), path) {
					t.Errorf("%v: does not say %q and the path", err, tt.says)
				}
			}
			if now, err := os.ReadFile(path); tt.says != "" && string(now) != string(tt.content) {
				t.Errorf("the file was changed (%v)", err)
			}
		})
	}
}

func reversed(content []byte) []byte {
	for i := 0; i < 8; i++ {
		if j := 7 - i; i < j {
			content[i], content[j] = content[j], content[i]
		}
	}
	return content
}

// Words that no owner can have written count as words of dead owners.
func TestScribbledWords(t *testing.T) {
	name := UniqueName(t)
	s := Open(t, name, Recoverable, semaphore.WithValue(3))
	f, err := os.OpenFile(StoreFile(Recoverable, name), os.O_RDWR, 0)
	Must(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte("scribbled all over the three"), permits.Size-(permits.MaxPermits+1)*8)
	Must(t, err)
	for range 3 {
		Must(t, s.WaitTimeout(Hang))
	}
	Becomes(t, s, 0)
}

func TestFullTable(t *testing.T) {
	dir := TempDir(t)
	t.Setenv("SEMAPHORE_DIR", dir)
	name := UniqueName(t)
	s := Open(t, name, Recoverable)
	Must(t, s.Wait())
	f, err := os.OpenFile(StoreFile(Recoverable, name), os.O_RDWR, 0)
	Must(t, err)
	defer f.Close()
	// As if each of the other slots had a living owner.
	locks := locksHere(t)
	for slot := 1; slot < permits.MaxSlots; slot++ {
		file, lock := f, func(f *os.File) (bool, error) { return filelock.TryLockByte(f, permits.SlotByte+int64(slot)) }
		if locks == permits.FileLocks {
			own, err := filepath.Glob(filepath.Join(dir, "rlk.*.0"))
			if err != nil || len(own) != 1 {
				t.Fatal(own, err)
			}
			file, err = os.OpenFile(strings.TrimSuffix(own[0], "0")+fmt.Sprint(slot), os.O_RDWR|os.O_CREATE, 0o600)
			Must(t, err)
			defer file.Close()
			lock = tryLockFile
		}
		if locked, err := lock(file); !locked {
			t.Fatal(err)
		}
	}
	unchanged := Unchanging(t, Recoverable, name)
	_, err = semaphore.Open(name, semaphore.WithRecovery(true))
	WantErr(t, "Open", err, semaphore.ErrTableFull)
	unchanged("Open of a handle too many")
	if err == nil || !strings.Contains(err.Error(), fmt.Sprint(permits.MaxSlots)) {
		t.Errorf("%v: does not say how many", err)
	}
	if locks == permits.FileLocks {
		other, err := filepath.Glob(filepath.Join(dir, "rlk.*.7"))
		Must(t, err)
		Must(t, os.Remove(other[0])) // as a handle that is closed does
	} else {
		Must(t, f.Close())
	}
	Must(t, Open(t, name, Recoverable).Close())
	Must(t, s.Post())
}

// Fuzzing writes over a file's head, and over a part of the table.
func FuzzOpenRecoverable(f *testing.F) {
	f.Add(permits.NewHead("", 3, systemLocks, 1).Bytes()[:320], 0, []byte{})
	f.Add(permits.NewHead("", 3, permits.FileLocks, 1).Bytes()[:320], 4096, []byte("slot slot slot slot"))
	f.Add([]byte("procsem"), 266240, []byte("permits"))
	f.Fuzz(func(t *testing.T, head []byte, at int, content []byte) {
		name := UniqueName(t)
		path := StoreFile(Recoverable, name)
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		Must(t, err)
		defer file.Close()
		Must(t, file.Truncate(permits.Size))
		if at < 0 || at > permits.Size-len(content) {
			at = 0
		}
		_, err = file.WriteAt(content, int64(at))
		Must(t, err)
		_, err = file.WriteAt(head[:min(len(head), 4096)], 0)
		Must(t, err)
		_, err = file.WriteAt(append([]byte(name), 0), 320) // nothing but refused otherwise
		Must(t, err)
		s, err := semaphore.Open(name, semaphore.WithRecovery(true))
		if err != nil {
			return // the error says what is wrong
		}
		defer s.Close()
		if s.TryWait() == nil {
			s.Post()
		}
		s.WaitTimeout(time.Millisecond)
		s.Value()
		s.Holders()
		s.SetLimit(2)
	})
}

// A take whose compare-and-swap comes after Close has swept the handle's permits is
// undone.
func TestTakeAgainstClose(t *testing.T) {
	quiet := semaphore.WithLogger(slog.New(slog.DiscardHandler)) // prevents the fast path
	acquire := func(s *semaphore.Semaphore) error { _, err := s.Acquire(context.Background()); return err }
	for how, tt := range map[string]struct {
		take func(s *semaphore.Semaphore) error
		opts []semaphore.Option
	}{
		"Wait":                       {(*semaphore.Semaphore).Wait, []semaphore.Option{quiet}},
		"TryWait":                    {(*semaphore.Semaphore).TryWait, []semaphore.Option{quiet}},
		"TryWait of a closed handle": {(*semaphore.Semaphore).TryWait, nil},
		"Acquire":                    {acquire, []semaphore.Option{quiet}},
		"Acquire by the fast path":   {acquire, nil},
		"TryAcquire":                 {func(s *semaphore.Semaphore) error { _, err := s.TryAcquire(); return err }, nil},
	} {
		t.Run(how, func(t *testing.T) {
			var s *semaphore.Semaphore
			var once sync.Once
			testhook.Trace = func(number uint32) {
				step := permits.Step(number)
				if step == permits.Taking {
					once.Do(func() { Must(t, s.Close()) })
				}
			}
			t.Cleanup(func() { testhook.Trace = nil })
			name := UniqueName(t)
			watch := Open(t, name, Recoverable)
			s = Open(t, name, Recoverable, tt.opts...)
			if how == "TryWait of a closed handle" { // the fast path
				Must(t, s.TryWait())
				Must(t, s.Post())
				Must(t, s.Close())
			}
			WantErr(t, how, tt.take(s), semaphore.ErrClosed)
			Becomes(t, watch, 1)
		})
	}
}
