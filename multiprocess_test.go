//go:build unix || windows

package semaphore_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/testhook"
	. "github.com/procsem/semaphore/internal/testkit"
)

// helpers are the processes that the tests of the type start.
var helpers = Helpers{"actor": ActorMain, "create": CreateMain, "slots": slotsMain}

func TestMain(m *testing.M) { os.Exit(Main(m, helpers)) }

// Processes of every kind work under one limit; as many as the limit allows
// are inside, and never more.
func TestLimitAcrossProcesses(t *testing.T) {
	EachStore(t, func(t *testing.T, kinds []string) {
		const limit, each = 2, 2
		rounds := Times(150)
		s := Open(t, UniqueName(t), EngineOf(kinds[0]), semaphore.WithValue(limit))
		dir := TempDir(t)
		var actors []*Actor
		for _, kind := range append(kinds, kinds[0]) {
			for range each {
				a := StartActor(t, kind)
				a.OK("open /%s", s.Name())
				actors = append(actors, a)
			}
		}
		for _, a := range actors {
			a.Send("rounds %d %d %s", rounds, limit, dir)
		}
		for _, a := range actors {
			if got := a.Answer(); got != "ok" {
				t.Errorf("%s actor: %s", a.Kind, got)
			}
		}
		Becomes(t, s, limit)
		// The witness does see a violation: with more permits than the limit,
		// more processes are inside.
		for range 4 {
			Must(t, s.Post())
		}
		for seen := false; !seen && !t.Failed(); {
			for _, a := range actors {
				a.Send("rounds %d %d %s", rounds, limit, dir)
			}
			for _, a := range actors {
				seen = strings.HasSuffix(a.Answer(), "inside") || seen
			}
		}
	})
}

// No two Permits that are held at the same moment have the same number, in whichever
// goroutines, handles and processes, and however they came by their permits.
func TestSlotsAreDifferent(t *testing.T) {
	UseHelper("slots")
	NeedEngine(t, Recoverable)
	EachVariant(t, func(t *testing.T) {
		s := Open(t, UniqueName(t), Recoverable, semaphore.WithValue(slotsLimit))
		dir, rounds := TempDir(t), Times(200)
		var actors []*Actor
		for range 2 {
			actors = append(actors, StartActorCommand(t, "slots", Helper(t, "slots", s.Name(), dir, fmt.Sprint(rounds))))
		}
		if err := useSlots(s.Name(), dir, rounds); err != nil {
			t.Error(err)
		}
		for _, a := range actors {
			if got := a.Answer(); got != "ok" {
				t.Error(got)
			}
		}
		Becomes(t, s, slotsLimit)
	})
}

const slotsLimit = 3

// slotsMain is the helper "slots", useSlots in another process.
func slotsMain(args []string) int {
	var rounds int
	fmt.Sscan(args[2], &rounds)
	if err := useSlots(args[0], args[1], rounds); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ok")
	return 0
}

// useSlots takes and gives permits, on several handles, by several goroutines of each. A
// goroutine that has a Permit creates a file with its number in the directory, which
// fails if another one has that number, and removes it before it gives the permit back.
func useSlots(name, dir string, rounds int) error {
	inside := func(p *semaphore.Permit) error {
		numbers := p.Slots()
		if len(numbers) != 1 || numbers[0] < 0 || numbers[0] >= slotsLimit {
			return fmt.Errorf("numbers %v of a permit, of which there are %d", numbers, slotsLimit)
		}
		path := filepath.Join(dir, fmt.Sprint(numbers[0]))
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("another holder has the number %d: %w", numbers[0], err)
		}
		f.Close()
		runtime.Gosched()
		return errors.Join(os.Remove(path), p.Release())
	}
	// Each of these takes a permit in another way, or none, and gives it back.
	ways := []func(s *semaphore.Semaphore) error{
		func(s *semaphore.Semaphore) error {
			p, err := s.Acquire(context.Background())
			if err != nil {
				return err
			}
			return inside(p)
		},
		func(s *semaphore.Semaphore) error {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.Int64N(int64(time.Millisecond))))
			defer cancel()
			p, err := s.Acquire(ctx)
			switch err {
			case nil:
				return inside(p)
			case context.DeadlineExceeded:
				return nil
			}
			return err
		},
		func(s *semaphore.Semaphore) error {
			p, err := s.TryAcquire()
			switch {
			case err == nil:
				return inside(p)
			case errors.Is(err, semaphore.ErrWouldBlock):
				return nil
			}
			return err
		},
		func(s *semaphore.Semaphore) error {
			if err := s.Wait(); err != nil {
				return err
			}
			return s.Post()
		},
	}
	var all sync.WaitGroup
	failed := make(chan error, 1)
	for range 2 {
		s, err := semaphore.Open(name, semaphore.WithRecovery(true), semaphore.WithCreate(false))
		if err != nil {
			return err
		}
		defer s.Close()
		for range 4 {
			all.Go(func() {
				for range rounds {
					if err := ways[rand.IntN(len(ways))](s); err != nil {
						select {
						case failed <- err:
						default: // the first one says enough
						}
						return
					}
				}
			})
		}
	}
	all.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// Waiters of a recoverable semaphore are served in the order in which they came, in whichever
// processes they are, and however many goroutines of a handle wait.
func TestOrderAcrossProcesses(t *testing.T) {
	UseHelper("actor")
	NeedEngine(t, Recoverable)
	Patience(t)
	EachVariant(t, func(t *testing.T) {
		s := Open(t, UniqueName(t), Recoverable)
		Must(t, s.Wait())
		var actors []*Actor
		for range 8 {
			a := StartActor(t, "recoverable")
			a.OK("open %s", s.Name())
			actors = append(actors, a)
		}
		var waiting []<-chan error // our own, of which one comes between two others
		for i, a := range actors {
			a.Send("waits 1")
			WaitFor(t, "its wait", func() bool { return Waits(t, s, a) })
			if i%3 == 1 {
				waiting = append(waiting, Blocked(t, s, s.Wait))
				// Its place is that of the moment when its server stands in the line.
				WaitFor(t, "our wait", func() bool { return ownWaits(t, s) })
			}
		}
		// A newcomer may take a permit past those who have waited for less than a millisecond.
		time.Sleep(2 * time.Millisecond)
		Must(t, s.Post())
		for i, a := range actors {
			if got := a.Answer(); got != "ok" {
				t.Fatal(got)
			}
			a.OK("posts 1")
			if i < len(actors)-1 && !RecoverPolls() { // those who poll take it later
				WantErr(t, "TryWait while others wait", s.TryWait(), semaphore.ErrWouldBlock)
			}
			if i%3 == 1 {
				Must(t, Result(t, waiting[i/3]))
				Must(t, s.Post())
			}
		}
		Must(t, s.Wait())
		Must(t, s.Post())
	})
}

// A handle that hands permits from goroutine to goroutine starves no other process.
func TestHandOversStarveNoWaiter(t *testing.T) {
	UseHelper("actor")
	NeedEngine(t, Recoverable)
	Patience(t)
	EachVariant(t, func(t *testing.T) {
		s := Open(t, UniqueName(t), Recoverable)
		a := StartActor(t, "recoverable")
		a.OK("open %s", s.Name())
		const goroutines = 20
		var stop atomic.Bool
		var all sync.WaitGroup
		defer all.Wait()
		defer stop.Store(true)
		for range goroutines {
			all.Go(func() {
				for !stop.Load() {
					Must(t, s.Wait())
					Must(t, s.Post())
				}
			})
		}
		for range Times(20) {
			WaitFor(t, "contention within the process", func() bool { return testhook.Inspect(s).Waiting > goroutines/2 })
			a.OK("waits 1")
			a.OK("posts 1")
		}
	})
}

// Whoever looks sees how long another process has had its permit, how long it had waited for that, and its
// label; and when it is dead the slot's next owner has nothing of it.
func TestHoldersOfAnotherProcess(t *testing.T) {
	UseHelper("actor")
	NeedEngine(t, Recoverable)
	Patience(t)
	EachVariant(t, func(t *testing.T) {
		s := Open(t, UniqueName(t), Recoverable)
		Must(t, s.Wait())
		a := StartActor(t, "recoverable")
		a.OK("open %s deploy 4711", s.Name())
		began := time.Now()
		a.Send("waits 1")
		WaitFor(t, "its wait", func() bool { return Waits(t, s, a) })
		blocked := time.Now()
		time.Sleep(20 * time.Millisecond) // which it has waited at least
		given := time.Now()
		Must(t, s.Post())
		if got := a.Answer(); got != "ok" {
			t.Fatal(got)
		}
		got := time.Now()
		held := func() semaphore.Holder {
			t.Helper()
			hs, err := s.Holders()
			Must(t, err)
			if len(hs) != 1 || hs[0].PID != a.Cmd.Process.Pid || hs[0].Permits != 1 || hs[0].Label != "deploy 4711" {
				t.Fatalf("%+v", hs)
			}
			return hs[0]
		}
		if h := held(); !within(h.Since, given, got) || h.Waited < given.Sub(blocked) || h.Waited > got.Sub(began) {
			t.Errorf("since %v, waited %v; the permit was given at %v and there at %v, the wait had begun between %v and %v", h.Since, h.Waited, given, got, began, blocked)
		}
		a.OK("posts 1")
		a.OK("trywait")
		if h := held(); !h.Since.IsZero() || h.Waited != 0 {
			t.Errorf("a permit that it took without waiting: since %v, waited %v", h.Since, h.Waited)
		}
		Must(t, a.Cmd.Process.Kill())
		a.Cmd.Wait()
		next := Open(t, s.Name(), Recoverable)
		Becomes(t, s, 1)
		Must(t, next.Wait())
		if hs, err := s.Holders(); err != nil || len(hs) != 1 || hs[0].PID != os.Getpid() || hs[0].Label != "" || !hs[0].Since.IsZero() || hs[0].Waited != 0 {
			t.Errorf("the next owner: %+v, %v", hs, err)
		}
	})
}

// ownWaits reports whether a handle of this process stands in the line.
func ownWaits(t *testing.T, s *semaphore.Semaphore) bool {
	hs, err := s.Holders()
	Must(t, err)
	return slices.ContainsFunc(hs, func(h semaphore.Holder) bool { return h.PID == os.Getpid() && h.Waiting })
}

// A post in a process of any kind wakes a waiter in a process of any other kind,
// and after thousands of posts and waits the count is right.
func TestPostWakesAcrossProcesses(t *testing.T) {
	NeedSleeping(t)
	EachStore(t, func(t *testing.T, kinds []string) {
		for _, creator := range kinds {
			for _, waiter := range kinds {
				for _, poster := range kinds {
					t.Run(creator+" "+waiter+" "+poster, func(t *testing.T) {
						name := UniqueName(t)
						c, w, p := StartActor(t, creator), StartActor(t, waiter), StartActor(t, poster)
						c.OK("create /%s 0", name)
						w.OK("open /%s", name)
						p.OK("open /%s", name)
						c.Expect("EEXIST", "create /%s 0", name)
						c.OK("open /%s", name)
						w.Expect("EAGAIN", "trywait")
						w.Send("waits 1")
						WaitFor(t, "a sleeping waiter", w.Sleeping)
						p.OK("posts 1")
						if got := w.Answer(); got != "ok" {
							t.Fatal(got)
						}
						n := Times(1500)
						w.Send("waits %d", n) // some block, some do not
						p.OK("posts %d", n+1)
						if got := w.Answer(); got != "ok" {
							t.Fatal(got)
						}
						value := func(want string) {
							c.Send("value")
							if got := c.Answer(); got != want && !(creator == "libc" && got == syscall.ENOSYS.Error()) {
								t.Fatalf("%s actor, value: got %q, want %q", creator, got, want)
							}
						}
						value("ok 1")
						w.OK("trywait")
						value("ok 0")
						c.OK("unlink")
						if UnlinkFrees(EngineOf(kinds[0])) {
							c.Expect("ENOENT", "unlink")
							w.Expect("ENOENT", "open /%s", name)
						}
					})
				}
			}
		}
	})
}

// One PostN wakes as many waiters in other processes of any kind, also those whose wait has a context.
func TestPostNWakesAcrossProcesses(t *testing.T) {
	NeedSleeping(t)
	UseHelper("actor")
	const n = 3
	EachStore(t, func(t *testing.T, kinds []string) {
		for e := semaphore.EngineLibc; e < semaphore.EngineRecoverable; e++ {
			if !slices.Contains(kinds, e.String()) {
				continue // in another language
			}
			for _, waiter := range kinds {
				for _, command := range []string{"waits 1", "waitcontext"} {
					if command == "waitcontext" && (waiter == "Python" || strings.HasSuffix(waiter, "C")) {
						continue // they have no contexts
					}
					t.Run(fmt.Sprintf("%v to %s, %s", e, waiter, command), func(t *testing.T) {
						s := Open(t, UniqueName(t), e, semaphore.WithValue(0))
						actors := waitingActors(t, s, waiter, command, n, (*Actor).Sleeping)
						Must(t, s.PostN(n))
						for _, a := range actors {
							if got := a.Answer(); got != "ok" {
								t.Fatal(got)
							}
						}
						Becomes(t, s, 0)
					})
				}
			}
		}
	})
}

// waitingActors starts n actors that wait for s.
func waitingActors(t *testing.T, s *semaphore.Semaphore, kind, command string, n int, waits func(*Actor) bool) (actors []*Actor) {
	t.Helper()
	for range n {
		a := StartActor(t, kind)
		a.OK("open /%s", s.Name())
		a.Send("%s", command)
		WaitFor(t, "its wait", func() bool { return waits(a) })
		actors = append(actors, a)
	}
	return actors
}

// So does a PostN that gives back permits with owners. More than the handle holds it does not
// give, and wakes nobody.
func TestPostNOfOwnedPermits(t *testing.T) {
	UseHelper("actor")
	NeedEngine(t, Recoverable)
	EachVariant(t, func(t *testing.T) {
		const n = 3
		for _, command := range []string{"waits 1", "waitcontext"} {
			s := Open(t, UniqueName(t), Recoverable, semaphore.WithValue(n))
			for range n {
				Must(t, s.Wait())
			}
			actors := waitingActors(t, s, "recoverable", command, n, func(a *Actor) bool { return Waits(t, s, a) })
			WantErr(t, "PostN of more than is held", s.PostN(n+1), semaphore.ErrNotHeld)
			for _, a := range actors {
				if !Waits(t, s, a) {
					t.Error("a waiter was served by a PostN that failed")
				}
			}
			Must(t, s.PostN(n))
			for _, a := range actors {
				if got := a.Answer(); got != "ok" {
					t.Fatal(got)
				}
			}
			Becomes(t, s, 0)
			WantErr(t, "PostN of what others hold", s.PostN(n), semaphore.ErrNotHeld)
			for _, a := range actors {
				a.OK("close") // or their lock files would stay when they are killed
			}
		}
	})
}

func TestExclusiveCreationHasOneWinner(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		for range Times(10) {
			got := Race(t, UniqueName(t), true, []semaphore.Engine{e, e, e, e, e, e, e, e})
			if got["won"] != 1 || got["exists"] != 7 {
				t.Errorf("got %v, want one winner of eight", got)
			}
		}
	})
}

// A creator that is killed halfway leaves nothing that makes a later Open fail, and
// no file. (Where we do not know a libc's files, its sem_open may leave a temporary one.)
func TestKilledCreators(t *testing.T) {
	UseHelper("create")
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		if (e == semaphore.EngineLibc || e == semaphore.EngineAuto && HasEngine(semaphore.EngineLibc)) && testhook.Libc.Path == nil {
			return
		}
		dir := TempDir(t)
		t.Setenv("SEMAPHORE_DIR", dir)
		for range Times(40) {
			name := UniqueName(t)
			a := StartActorCommand(t, "create", Helper(t, "create", name, fmt.Sprint(int(e)), "false"))
			if got := a.Answer(); got != "ready" {
				t.Fatal(got)
			}
			a.Send("")
			time.Sleep(time.Duration(rand.Int64N(int64(400 * time.Microsecond)))) // the moment to be killed at
			Must(t, a.Cmd.Process.Kill())
			a.Cmd.Wait()
			s, err := semaphore.Open(name, semaphore.WithEngine(e))
			Must(t, err)
			Must(t, s.TryWait())
			Must(t, s.Post())
			Must(t, s.Unlink())
			Must(t, s.Close())
		}
		var left []string
		WaitFor(t, "an empty directory", func() bool {
			runtime.GC() // on Windows a removed file is gone when no process has it mapped
			left, _ = filepath.Glob(filepath.Join(dir, "*"))
			return len(left) == 0 || runtime.GOOS != "windows"
		})
		if len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
}

// An Open whose semaphore is unlinked while it is opened makes or finds another one.
func TestOpenWhileUnlinked(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		if runtime.GOOS == "windows" {
			return // a name that is being removed there is one that may not be opened
		}
		name := UniqueName(t)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for i := range Times(200) {
					s, err := semaphore.Open(name, semaphore.WithEngine(e), semaphore.WithExclusive(i%2 == 0))
					if errors.Is(err, fs.ErrExist) {
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					if err := s.Unlink(); err != nil && !errors.Is(err, fs.ErrNotExist) {
						t.Error(err)
					}
					s.Close()
				}
			})
		}
		all.Wait()
		if err := semaphore.Unlink(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
}
