//go:build unix || windows

// The conformance table: every test here runs over every engine of the build.

package semaphore_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
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

func TestConformanceCounting(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		s := Open(t, "/"+UniqueName(t), e, semaphore.WithValue(3))
		if e != semaphore.EngineAuto && s.Engine() != e || s.Engine() == semaphore.EngineAuto || !strings.HasPrefix(s.Name(), NamePrefix()) {
			t.Errorf("Engine %v, Name %q", s.Engine(), s.Name())
		}
		for free := 3; free > 0; free-- {
			Becomes(t, s, free)
			Must(t, s.TryWait())
		}
		err := s.TryWait()
		WantErr(t, "TryWait of 0", err, semaphore.ErrWouldBlock)
		WantErr(t, "TryWait of 0", err, syscall.EAGAIN)
		var se *semaphore.Error
		if !errors.As(err, &se) || se.Op != "trywait" || se.Name != s.Name() || se.Timeout() {
			t.Errorf("got %#v", err)
		}
		Becomes(t, s, 0)
		Must(t, s.Post())
		Must(t, s.Wait())
		Must(t, s.Post())
		Must(t, s.WaitTimeout(Hang))
		Must(t, s.Post())
		Must(t, s.WaitContext(context.Background()))
		Must(t, s.Post())
		Must(t, s.Post())
		if Owns(e) {
			Must(t, s.Post())
			Becomes(t, s, 3)
			WantErr(t, "Post of what is not held", s.Post(), semaphore.ErrNotHeld)
			Becomes(t, s, 3)
			return
		}
		for range 4 { // any handle may post, even more permits than there were at first
			Must(t, s.Post())
		}
		Becomes(t, s, 6)
	})
}

func TestConformancePostN(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		name := UniqueName(t)
		s := Open(t, name, e, semaphore.WithValue(6))
		for range 6 {
			Must(t, s.Wait())
		}
		for _, n := range []int{0, -1, math.MinInt} {
			err := s.PostN(n)
			WantErr(t, fmt.Sprint("PostN of ", n), err, semaphore.ErrInvalidValue)
			var se *semaphore.Error
			if !errors.As(err, &se) || se.Op != "post" || se.Name != name || !strings.Contains(err.Error(), fmt.Sprint(n, " permits; allowed are 1 or more")) {
				t.Errorf("PostN of %d: %v", n, err)
			}
			Becomes(t, s, 0)
		}
		Must(t, s.PostN(1))
		Becomes(t, s, 1)
		Must(t, s.PostN(3))
		Becomes(t, s, 4)
		other := Open(t, name, e)
		if !Owns(e) {
			Must(t, other.PostN(5)) // any handle may post, even more permits than there were at first
			Becomes(t, s, 9)
			return
		}
		WantErr(t, "PostN of what another handle holds", other.PostN(2), semaphore.ErrNotHeld)
		p, err := s.TryAcquire()
		Must(t, err)
		for _, n := range []int{3, 4, semaphore.MaxValue} {
			err := s.PostN(n) // a Permit is no part of it
			WantErr(t, "PostN of more than is held", err, semaphore.ErrNotHeld)
			if want := fmt.Sprintf("it holds 2, and %d were to be posted", n); !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("PostN(%d): %v, want %q", n, err, want)
			}
			Becomes(t, s, 3)
		}
		Must(t, s.PostN(2))
		Becomes(t, s, 5)
		Must(t, p.Release())
		Becomes(t, s, 6)
	})
}

// One PostN serves as many waiters of its handle, of those who came first.
func TestConformancePostNInOrder(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		const round, rounds = 3, 3
		s := Open(t, UniqueName(t), e, semaphore.WithValue(round))
		for range round {
			Must(t, s.Wait())
		}
		served := make(chan int, round*rounds)
		for i := range cap(served) {
			Blocked(t, s, func() error {
				err := s.Wait()
				served <- i / round
				return err
			})
		}
		for want := range rounds {
			Must(t, s.PostN(round))
			for range round {
				select {
				case got := <-served:
					if got != want {
						t.Fatalf("a waiter of round %d was served, want %d", got, want)
					}
				case <-time.After(Hang):
					t.Fatal("no waiter was served")
				}
			}
		}
		Becomes(t, s, 0)
	})
}

// One PostN wakes the waiters of several handles, and what happened before it happens before
// their waits return; with -race this fails if the race detector does not learn that.
func TestConformancePostNToHandles(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		name := UniqueName(t)
		const n = 3
		s := Open(t, name, e, semaphore.WithValue(n))
		for range n {
			Must(t, s.Wait())
		}
		data := 0
		var waiting []<-chan error
		for i := range n {
			w := Open(t, name, e)
			wait := w.Wait
			if i == 0 {
				wait = func() error { return w.WaitContext(t.Context()) }
			}
			waiting = append(waiting, Blocked(t, w, func() error {
				if err := wait(); err != nil {
					return err
				}
				if data != 1 {
					return errors.New("it did not see what was written before PostN")
				}
				return nil
			}))
		}
		data = 1
		Must(t, s.PostN(n))
		for _, w := range waiting {
			Must(t, Result(t, w))
		}
		Becomes(t, s, 0)
	})
}

// Several PostNs of one handle at once give each its number or nothing: nothing only if the handle holds
// fewer, at that moment and so also when all have ended.
func TestConformancePostNAtOnce(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		const limit = 6
		name := UniqueName(t)
		s, watch := Open(t, name, e, semaphore.WithValue(limit)), Open(t, name, e)
		for range Times(100) {
			for range limit {
				Must(t, s.Wait())
			}
			var all sync.WaitGroup
			var given atomic.Int64
			refused := make(chan int, 4)
			for _, n := range []int{4, 3, 2, 1} { // 10 of 6
				all.Go(func() {
					switch err := s.PostN(n); {
					case err == nil:
						given.Add(int64(n))
					case Owns(e) && errors.Is(err, semaphore.ErrNotHeld):
						refused <- n
					default:
						t.Error(err)
					}
				})
			}
			all.Wait()
			want := int(given.Load())
			Becomes(t, watch, want)
			if !Owns(e) && want != 10 || Owns(e) && want > limit {
				t.Fatalf("%d given", want)
			}
			close(refused)
			for n := range refused {
				if held := limit - want; held >= n {
					t.Fatalf("PostN(%d) was refused, and %d are held still", n, held)
				}
			}
			for range limit - want {
				Must(t, s.Post())
			}
			for range want - limit {
				Must(t, s.Wait())
			}
		}
	})
}

func TestConformanceHandlesShare(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		name := UniqueName(t)
		a := Open(t, name, e)
		if Owns(e) {
			_, err := semaphore.Open(name, semaphore.WithEngine(e), semaphore.WithValue(7))
			WantErr(t, "Open with another limit", err, semaphore.ErrLimitMismatch)
		} else {
			Open(t, name, e, semaphore.WithValue(7)) // exists: the value is not used
		}
		b := Open(t, "/"+name, e)
		Must(t, b.Wait())
		Becomes(t, a, 0)
		for range 50 {
			waiting := Blocked(t, a, a.Wait)
			Must(t, b.Post())
			Must(t, Result(t, waiting))
			waiting = Blocked(t, b, b.Wait)
			Must(t, a.Post())
			Must(t, Result(t, waiting))
		}
		Must(t, a.Close())
		Must(t, b.Post())
		Must(t, b.Wait())
	})
}

func TestConformanceTimeout(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		s := Open(t, UniqueName(t), e)
		Must(t, s.WaitTimeout(0))
		Must(t, s.Post())
		Must(t, s.WaitTimeout(1)) // too short to wait, but there is a permit
		for _, d := range []time.Duration{0, -time.Hour, time.Millisecond, 30 * time.Millisecond} {
			start := time.Now()
			err := s.WaitTimeout(d)
			for _, want := range []error{semaphore.ErrTimeout, os.ErrDeadlineExceeded, syscall.EAGAIN, syscall.ETIMEDOUT} {
				WantErr(t, fmt.Sprintf("WaitTimeout(%v)", d), err, want)
			}
			var se *semaphore.Error
			if !errors.As(err, &se) || !se.Timeout() || se.Op != "wait" {
				t.Errorf("WaitTimeout(%v): got %#v", d, err)
			}
			if time.Since(start) < d {
				t.Errorf("WaitTimeout(%v) ended early", d)
			}
		}
		Must(t, s.Post())
		Becomes(t, s, 1)
		Must(t, s.WaitTimeout(-1))
	})
}

func TestConformanceContext(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		s := Open(t, UniqueName(t), e)
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		if err := s.WaitContext(ended); err != context.Canceled {
			t.Errorf("WaitContext with a permit free and an ended context: %v", err)
		}
		Becomes(t, s, 1)
		Must(t, s.Wait())
		for range 20 {
			ctx, cancel := context.WithCancel(context.Background())
			waiting := Blocked(t, s, func() error { return s.WaitContext(ctx) })
			cancel()
			if err := Result(t, waiting); err != context.Canceled {
				t.Errorf("cancelled WaitContext: %v", err)
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		if err := s.WaitContext(ctx); err != context.DeadlineExceeded {
			t.Errorf("WaitContext past its deadline: %v", err)
		}
		// A waiter in front of another one, which waits on.
		for range 20 {
			ctx, cancel := context.WithCancel(context.Background())
			front := Blocked(t, s, func() error { return s.WaitContext(ctx) })
			behind := Blocked(t, s, s.Wait)
			cancel()
			if err := Result(t, front); err != context.Canceled {
				t.Errorf("cancelled WaitContext, in front of another: %v", err)
			}
			Must(t, s.Post())
			Must(t, Result(t, behind))
		}
		Must(t, s.Post())
		Becomes(t, s, 1)
	})
}

// A permit that is posted after a context ended goes to nobody who waits with it, whether
// the waiter has noticed the end or not, and is there for others.
func TestConformanceNoPermitAfterContextEnded(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		name := UniqueName(t)
		s := Open(t, name, e)
		other := Open(t, name, e)
		waits := map[string]func(context.Context) error{
			"WaitContext": func(ctx context.Context) error {
				err := s.WaitContext(ctx)
				if err == nil {
					Must(t, s.Post())
				}
				return err
			},
			"Acquire": func(ctx context.Context) error {
				p, err := s.Acquire(ctx)
				if err == nil {
					p.Release()
				}
				return err
			},
		}
		for wait, f := range waits {
			for _, poster := range []*semaphore.Semaphore{s, other} {
				given, rounds := 0, 500
				for i := range rounds {
					Must(t, poster.Wait())
					ctx, cancel := context.WithCancel(context.Background())
					waiting := InBackground(func() error { return f(ctx) })
					for start := time.Now(); i%4 != 0 && testhook.Inspect(s).Waiting == 0 && time.Since(start) < Hang; {
						runtime.Gosched()
					}
					cancel()
					Must(t, poster.Post())
					switch err := Result(t, waiting); err {
					case context.Canceled:
					case nil:
						given++
					default:
						t.Fatal(err)
					}
				}
				if given > 0 {
					t.Errorf("%s took a permit that was posted after its context had ended, %d times of %d (posted through the same handle: %v)", wait, given, rounds, poster == s)
				}
			}
		}
		Becomes(t, s, 1)
	})
}

// An endingContext ends, and then does something, as soon as it has said that it has not
// ended.
type endingContext struct {
	context.Context
	once sync.Once
	end  func()
}

func (c *endingContext) Err() error {
	err := c.Context.Err()
	c.once.Do(c.end)
	return err
}

func TestConformanceContextEndsBeforeTheTaking(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		s := Open(t, UniqueName(t), e)
		for name, f := range map[string]func(context.Context) error{
			"WaitContext": s.WaitContext,
			"Acquire":     func(ctx context.Context) error { _, err := s.Acquire(ctx); return err },
		} {
			Must(t, s.Wait())
			ctx, cancel := context.WithCancel(context.Background())
			err := f(&endingContext{Context: ctx, end: func() {
				cancel()
				Must(t, s.Post())
			}})
			if err != context.Canceled {
				t.Errorf("%s took a permit that was posted after its context had ended: %v", name, err)
			}
			Becomes(t, s, 1)
		}
	})
}

func TestConformanceOrder(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		s := Open(t, UniqueName(t), e)
		Must(t, s.Wait())
		order := make(chan int, 10)
		for i := range cap(order) {
			Blocked(t, s, func() error {
				err := s.Wait()
				order <- i
				return err
			})
		}
		WantErr(t, "TryWait while others wait", s.TryWait(), semaphore.ErrWouldBlock)
		for want := range cap(order) {
			Must(t, s.Post())
			select {
			case got := <-order:
				if got != want {
					t.Fatalf("waiter %d was served, want %d", got, want)
				}
			case <-time.After(Hang):
				t.Fatal("no waiter was served")
			}
		}
	})
}

// Cancelling while posts come loses neither a permit nor a wake-up: in the end
// the permits are all there.
func TestConformanceCancelStress(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		name := UniqueName(t)
		const permits, workers, rounds = 3, 12, 60
		handles := []*semaphore.Semaphore{
			Open(t, name, e, semaphore.WithValue(permits)), Open(t, name, e), Open(t, name, e),
		}
		var inside atomic.Int64
		var all sync.WaitGroup
		for w := range workers {
			s := handles[w%len(handles)]
			all.Go(func() {
				for range rounds {
					ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.Int64N(int64(2*time.Millisecond))))
					if err := s.WaitContext(ctx); err == nil {
						if n := inside.Add(1); n > permits {
							t.Errorf("%d inside", n)
						}
						inside.Add(-1)
						if err := s.Post(); err != nil {
							t.Error(err)
						}
					} else if err != context.DeadlineExceeded {
						t.Error(err)
					}
					cancel()
				}
			})
		}
		all.Wait()
		Becomes(t, handles[0], permits)
		for range permits {
			Must(t, handles[1].WaitTimeout(Hang))
		}
	})
}

// The same with TryWait and Value in between, which also find permits that the
// engine holds for a moment: none is lost.
func TestConformanceTryWaitAmongCancelled(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		name := UniqueName(t)
		const permits, rounds = 2, 100
		watch := Open(t, name, e, semaphore.WithValue(permits))
		for range 2 {
			s := Open(t, name, e)
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					for i := range rounds {
						if i%3 == 0 {
							if s.TryWait() == nil {
								Must(t, s.Post())
							}
							s.Value()
							continue
						}
						if s.WaitTimeout(time.Duration(rand.Int64N(int64(300*time.Microsecond)))) == nil {
							Must(t, s.Post())
						}
					}
				})
			}
			all.Wait()
			// No waiter is left: a free permit can be taken at once.
			for range permits {
				Must(t, s.TryWait())
			}
			WantErr(t, "TryWait of 0", s.TryWait(), semaphore.ErrWouldBlock)
			WantErr(t, "WaitTimeout of 0", s.WaitTimeout(time.Millisecond), semaphore.ErrTimeout)
			for range permits {
				Must(t, s.Post())
			}
			// A wait that was just cancelled keeps no permit from TryWait.
			for range permits {
				Must(t, s.TryWait())
			}
			for range permits {
				Must(t, s.Post())
			}
			Must(t, s.Close())
		}
		Becomes(t, watch, permits)
	})
}

func TestConformanceClose(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		name := UniqueName(t)
		other := Open(t, name, e)
		s := Open(t, name, e)
		Must(t, s.Wait())
		waiting := []<-chan error{Blocked(t, s, s.Wait), Blocked(t, s, s.Wait)}
		Must(t, s.Close())
		for _, w := range waiting {
			err := Result(t, w)
			WantErr(t, "Wait during Close", err, semaphore.ErrClosed)
			WantErr(t, "Wait during Close", err, os.ErrClosed)
		}
		Must(t, s.Close())
		value := func() error { _, err := s.Value(); return err }
		try := func() error { _, err := s.TryAcquire(); return err }
		acquire := func() error { _, err := s.Acquire(context.Background()); return err }
		short := func() error { return s.WaitTimeout(time.Millisecond) }
		for what, f := range map[string]func() error{
			"Wait": s.Wait, "TryWait": s.TryWait, "Post": s.Post, "PostN": func() error { return s.PostN(2) }, "Value": value,
			"TryAcquire": try, "Acquire": acquire, "WaitTimeout": short,
		} {
			WantErr(t, what+" of a closed handle", f(), semaphore.ErrClosed)
		}
		if !Owns(e) {
			Becomes(t, other, 0) // closing gives nothing back
			Must(t, other.Post())
		}
		Becomes(t, other, 1)
		Must(t, s.Unlink()) // works all the same
	})
}

// Each handle of a process closes without a warning, and the others go on.
func TestConformanceCloseOneAfterTheOther(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		name := UniqueName(t)
		for range 3 {
			var warnings SyncBuffer
			logger := semaphore.WithLogger(slog.New(slog.NewTextHandler(&warnings, &slog.HandlerOptions{Level: slog.LevelWarn})))
			handles := []*semaphore.Semaphore{Open(t, name, e, logger), Open(t, name, e, logger), Open(t, name, e, logger)}
			for _, s := range handles {
				Must(t, handles[len(handles)-1].Wait())
				Must(t, handles[len(handles)-1].Post())
				Must(t, s.Close())
			}
			if text := warnings.String(); text != "" {
				t.Error(text)
			}
		}
	})
}

// Whichever of several Closes returns, the handle's permits are back.
func TestConformanceCloseWhileClosing(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		const value = 300 // to be given back one by one
		name := UniqueName(t)
		observer := Open(t, name, e, semaphore.WithValue(value))
		if _, err := observer.Value(); errors.Is(err, semaphore.ErrUnsupported) {
			t.Skipf("not on this system: the value of a semaphore of engine %v", e)
		}
		for range 20 {
			s := Open(t, name, e, semaphore.WithCloseOnExit(true))
			for range value {
				Must(t, s.Wait())
			}
			var group sync.WaitGroup
			for range 2 {
				group.Go(func() {
					if err := s.Close(); err != nil {
						t.Error(err)
					}
					if n, err := observer.Value(); n != value || err != nil {
						t.Errorf("after Close value %d, %v, want %d", n, err, value)
					}
				})
			}
			group.Wait()
			if t.Failed() {
				return
			}
		}
	})
}

// Close at any moment, whatever other goroutines are doing with the handle.
func TestConformanceCloseUnderFire(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		name := UniqueName(t)
		keeper := Open(t, name, e, semaphore.WithValue(2))
		for range 60 {
			s := Open(t, name, e)
			var all sync.WaitGroup
			for range 2 {
				for _, take := range []func() error{s.TryWait, s.Wait} {
					all.Go(func() {
						for {
							switch err := take(); {
							case err == nil:
								if errors.Is(s.Post(), semaphore.ErrClosed) {
									if Owns(e) {
										return
									}
									Must(t, keeper.Post()) // the permit that we took before Close
									return
								}
							case errors.Is(err, semaphore.ErrClosed):
								return
							case !errors.Is(err, semaphore.ErrWouldBlock):
								t.Error(err)
								return
							}
						}
					})
				}
				all.Go(func() {
					for {
						if _, err := s.Value(); errors.Is(err, semaphore.ErrClosed) {
							return
						}
						p, err := s.TryAcquire()
						if err == nil {
							if err := p.Release(); err != nil {
								t.Error(err)
							}
						} else if errors.Is(err, semaphore.ErrClosed) {
							return
						}
					}
				})
			}
			for range rand.IntN(300) {
				s.Name()
			}
			Must(t, s.Close())
			all.Wait()
			Becomes(t, keeper, 2)
		}
	})
}

func TestConformancePermits(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		name := UniqueName(t)
		watch := Open(t, name, e, semaphore.WithValue(2))
		s := Open(t, name, e)
		a, err := s.Acquire(context.Background())
		Must(t, err)
		b, err := s.TryAcquire()
		Must(t, err)
		_, err = s.TryAcquire()
		WantErr(t, "TryAcquire of 0", err, semaphore.ErrWouldBlock)
		ctx, cancel := context.WithCancel(context.Background())
		waiting := Blocked(t, s, func() error { _, err := s.Acquire(ctx); return err })
		cancel()
		if err := Result(t, waiting); err != context.Canceled {
			t.Errorf("cancelled Acquire: %v", err)
		}
		if Owns(e) {
			WantErr(t, "Post of what belongs to Permits", s.Post(), semaphore.ErrNotHeld)
		} else {
			Must(t, s.Close())
		}
		Becomes(t, watch, 0)
		for range 3 { // works after Close too, and gives back only once
			Must(t, a.Release())
			Becomes(t, watch, 1)
		}
		Must(t, s.Close())
		if Owns(e) {
			Becomes(t, watch, 2)
		}
		Must(t, b.Release())
		Becomes(t, watch, 2)

		WaitFor(t, "one handle left", func() bool { return semaphore.OpenHandles() == 1 })
		const handles = 1
		p, err := semaphore.Acquire(context.Background(), name, semaphore.WithEngine(e))
		Must(t, err)
		if got := semaphore.OpenHandles(); got != handles+1 {
			t.Errorf("%d handles, want %d", got, handles+1)
		}
		Becomes(t, watch, 1)
		Must(t, p.Release())
		Must(t, p.Release())
		Becomes(t, watch, 2)
		if _, err := semaphore.Acquire(ctx, name, semaphore.WithEngine(e)); err != context.Canceled {
			t.Errorf("Acquire with an ended context: %v", err)
		}
		Must(t, watch.Wait())
		Must(t, watch.Wait())
		short, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		if _, err := semaphore.Acquire(short, name, semaphore.WithEngine(e)); err != context.DeadlineExceeded {
			t.Errorf("Acquire past its deadline: %v", err)
		}
		WaitFor(t, "the handles of Acquire closed", func() bool { return semaphore.OpenHandles() == handles })
	})
}

// Permits of this machine are not lost.
func TestConformanceErrOfPermits(t *testing.T) {
	var none *semaphore.Permit
	for _, p := range []*semaphore.Permit{none, {}} {
		if p.Lost() != nil || p.Token() != 0 || !errors.Is(p.Err(), semaphore.ErrNotHeld) {
			t.Errorf("Lost %v, Token %d, Err %v", p.Lost(), p.Token(), p.Err())
		}
	}
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		s := Open(t, UniqueName(t), e)
		p, err := s.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if p.Err() != nil || p.Lost() != nil || p.Token() != 0 {
			t.Errorf("Lost %v, Token %d, Err %v", p.Lost(), p.Token(), p.Err())
		}
		if err := p.Release(); err != nil {
			t.Fatal(err)
		}
		if !errors.Is(p.Err(), semaphore.ErrNotHeld) {
			t.Errorf("Err after Release: %v; want ErrNotHeld", p.Err())
		}
		if p, err = s.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.Close()
		if gaveBack := Owns(e); gaveBack != errors.Is(p.Err(), semaphore.ErrNotHeld) {
			t.Errorf("Err after Close: %v", p.Err())
		}
		p.Release()
	})
}

// The permits of a semaphore have numbers if they have owners.
func TestConformanceSlots(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		const limit = 5
		name := UniqueName(t)
		a, b := Open(t, name, e, semaphore.WithValue(limit)), Open(t, name, e)
		acquired := func(s *semaphore.Semaphore) *semaphore.Permit {
			t.Helper()
			p, err := s.TryAcquire()
			Must(t, err)
			return p
		}
		wants := func(what string, p *semaphore.Permit, want ...int) {
			t.Helper()
			if got := p.Slots(); !slices.Equal(got, want) || (got == nil) != (want == nil) {
				t.Errorf("%s: number %#v, want %#v", what, got, want)
			}
		}
		wants("a nil Permit", nil)
		wants("a Permit that was not acquired", new(semaphore.Permit))
		if !Owns(e) {
			p := acquired(a)
			wants("a permit without an owner", p)
			Must(t, p.Release())
			wants("a permit without an owner that was released", p)
			return
		}
		p := []*semaphore.Permit{acquired(a), acquired(b), acquired(a)}
		for i := range p {
			wants("the free ones in their order", p[i], i)
		}
		Must(t, b.Wait()) // has 3, and does not tell
		p = append(p, acquired(a))
		wants("beside a Wait", p[3], 4)

		// A permit that comes back is free for both handles.
		Must(t, p[1].Release())
		wants("after Release", p[1])
		p[1] = acquired(a)
		wants("one that another handle has released", p[1], 1)
		Must(t, b.Post())
		p = append(p, acquired(b))
		wants("one that was posted", p[4], 3)

		// Of several free ones the lowest, whatever the handle took last.
		Must(t, p[3].Release())
		p[3] = acquired(a)
		for _, i := range []int{0, 2, 3} {
			Must(t, p[i].Release())
		}
		p[0], p[2], p[3] = acquired(a), acquired(a), acquired(a)
		for i, want := range map[int]int{0: 0, 2: 2, 3: 4} {
			wants("the lowest", p[i], want)
		}

		// A permit that is passed on within the handle keeps its number.
		for round, given := range []*semaphore.Permit{p[0], p[2]} {
			got := make(chan *semaphore.Permit, 1)
			waiting := Blocked(t, a, func() error {
				p, err := a.Acquire(context.Background())
				got <- p
				return err
			})
			number := given.Slots()
			Must(t, given.Release())
			Must(t, Result(t, waiting))
			p[2*round] = <-got
			wants("passed on from a Permit", p[2*round], number...)
			wants("that passed it on", given)
		}
		Must(t, p[1].Release())
		Must(t, a.Wait())
		got := make(chan *semaphore.Permit, 1)
		waiting := Blocked(t, a, func() error {
			p, err := a.Acquire(context.Background())
			got <- p
			return err
		})
		Must(t, a.Post())
		Must(t, Result(t, waiting))
		p[1] = <-got
		wants("passed on from a Post", p[1], 1)

		// A permit that comes from another handle.
		waiting = Blocked(t, b, func() error {
			p, err := b.Acquire(context.Background())
			got <- p
			return err
		})
		Must(t, p[2].Release())
		Must(t, Result(t, waiting))
		p[2] = <-got
		wants("given by another handle", p[2], 2)

		// A lowered limit takes no number away, and no new one is above it.
		Must(t, b.SetLimit(2))
		wants("above a lowered limit", p[3], 4)
		for _, i := range []int{0, 2, 3, 4} {
			Must(t, p[i].Release())
		}
		p[0] = acquired(b)
		wants("below a lowered limit", p[0], 0)
		_, err := b.TryAcquire()
		WantErr(t, "TryAcquire beyond a lowered limit", err, semaphore.ErrWouldBlock)

		Must(t, a.Close()) // gives back p[1]
		wants("after Close", p[1])
		p[1] = acquired(b)
		wants("one that a Close has given back", p[1], 1)
		wants("still held", p[0], 0)
		Must(t, p[0].Release())
		once, err := semaphore.Acquire(context.Background(), name, semaphore.WithEngine(e))
		Must(t, err)
		wants("of the function Acquire", once, 0)
		Must(t, once.Release())
		wants("of the function Acquire, released", once)
	})
}

// Holders says of a permit that was waited for since when it is held, and how long was waited; of others
// it does not know. A label is kept where there are Holders.
func TestConformanceHolders(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		const label = "32 bytes: ünïcödé, 4711 \t..."
		name := UniqueName(t)
		a, b := Open(t, name, e, semaphore.WithLabel(label)), Open(t, name, e)
		Must(t, a.Wait())
		if !Owns(e) {
			_, err := a.Holders()
			WantErr(t, "Holders", err, semaphore.ErrUnsupported)
			return
		}
		holder := func(what string, want semaphore.Holder) semaphore.Holder {
			t.Helper()
			hs, err := a.Holders()
			Must(t, err)
			if len(hs) != 1 {
				t.Fatalf("%s: %+v", what, hs)
			}
			got := hs[0]
			want.PID, want.Started, want.Opened, want.Since, want.Waited = got.PID, got.Started, got.Opened, got.Since, got.Waited
			if got != want {
				t.Errorf("%s: %+v, want %+v", what, got, want)
			}
			return got
		}
		unknown := func(what string, want semaphore.Holder) {
			t.Helper()
			if h := holder(what, want); !h.Since.IsZero() || h.Waited != 0 {
				t.Errorf("%s: since %v, waited %v; want neither", what, h.Since, h.Waited)
			}
		}
		ofA, ofB := semaphore.Holder{Permits: 1, Label: label}, semaphore.Holder{Permits: 1}
		unknown("not waited for", ofA)

		// b waits, by wait, until give lets it go on.
		waitedFor := func(what string, wait, give func() error) {
			t.Helper()
			began := time.Now()
			waiting := Blocked(t, b, wait)
			blocked, given := time.Now(), time.Now()
			Must(t, give())
			Must(t, Result(t, waiting))
			got := time.Now()
			if h := holder(what, ofB); !within(h.Since, given, got) || h.Waited < given.Sub(blocked) || h.Waited > got.Sub(began) {
				t.Errorf("%s: since %v, waited %v; given at %v and there at %v, the wait had begun between %v and %v", what, h.Since, h.Waited, given, got, began, blocked)
			}
		}
		var p *semaphore.Permit
		acquire := func() (err error) { p, err = b.Acquire(context.Background()); return err }
		waitedFor("of another handle", b.Wait, a.Post)
		waitedFor("passed on", b.Wait, b.Post)
		waitedFor("passed on to a Permit", acquire, b.Post)
		released := p
		waitedFor("passed on from a Permit to a Permit", acquire, released.Release)
		released = p
		waitedFor("passed on from a Permit", b.Wait, released.Release)
		for range 2 {
			Must(t, b.Post())
			Must(t, b.Wait())
			unknown("taken again", ofB)
		}
		Must(t, b.Post())
		given, err := a.TryAcquire()
		Must(t, err)
		unknown("a Permit not waited for", ofA)
		waitedFor("of a Permit of another handle", acquire, func() error {
			WaitFor(t, "it is listed", func() bool {
				hs, err := a.Holders()
				Must(t, err)
				return len(hs) == 2 && hs[1].Waiting && hs[1].Since.IsZero() && hs[1].Waited == 0
			})
			return given.Release()
		})
	})
}

// within reports whether a time of the wall clock is not before one time nor after another; a clock may
// tick a few times a second.
func within(at, from, to time.Time) bool {
	const tick = 100 * time.Millisecond
	return !at.Before(from.Round(0).Add(-tick)) && !at.After(to.Round(0).Add(tick))
}

func TestConformanceOverflow(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		if Owns(e) {
			return // nothing can be posted that was not taken
		}
		name := UniqueName(t)
		s, err := semaphore.Open(name, semaphore.WithEngine(e), semaphore.WithValue(semaphore.MaxValue))
		if errors.Is(err, semaphore.ErrInvalidValue) && e != semaphore.EngineNative && e != semaphore.EngineFlock {
			t.Skipf("not on this system: the value %d in libc", semaphore.MaxValue)
		}
		Must(t, err)
		defer s.Close()
		err = s.Post()
		WantErr(t, "Post at the maximum", err, semaphore.ErrOverflow)
		WantErr(t, "Post at the maximum", err, syscall.EOVERFLOW)
		overflows(t, s, 0)
		p, err := s.TryAcquire()
		Must(t, err)
		overflows(t, s, 1)
		Must(t, s.Post())
		for range 2 {
			WantErr(t, "Release at the maximum", p.Release(), semaphore.ErrOverflow)
		}
		// It has given nothing, and can be repeated.
		Must(t, s.Wait())
		Must(t, p.Release())
		Must(t, p.Release())
		if n, err := s.Value(); !errors.Is(err, semaphore.ErrUnsupported) && n != semaphore.MaxValue {
			t.Errorf("Value %d, %v", n, err)
		}
	})
}

// overflows posts more than the room that is left below the maximum, in vain.
func overflows(t *testing.T, s *semaphore.Semaphore, room int) {
	t.Helper()
	numbers := []int{room + 1, room + 2, semaphore.MaxValue}
	if n := semaphore.MaxValue; n+1 > n { // with 64 bits
		numbers = append(numbers, n+1, math.MaxInt)
	}
	for _, n := range numbers {
		err := s.PostN(n)
		WantErr(t, fmt.Sprintf("PostN(%d) with room for %d", n, room), err, semaphore.ErrOverflow)
		value, unknown := s.Value()
		if errors.Is(unknown, semaphore.ErrUnsupported) && room > 0 {
			// libc said so in the middle.
			if want := fmt.Sprintf("%d of %d were posted", room, n); n <= semaphore.MaxValue && !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("PostN(%d): %v, want %q", n, err, want)
			} else if n <= semaphore.MaxValue {
				Must(t, s.Wait())
			}
		} else if unknown == nil && value != semaphore.MaxValue-room {
			t.Fatalf("value %d after PostN(%d), want %d", value, n, semaphore.MaxValue-room)
		}
	}
}

func TestConformanceOpenModes(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		name := UniqueName(t)
		engine := semaphore.WithEngine(e)
		_, err := semaphore.Open(name, engine, semaphore.WithCreate(false))
		WantErr(t, "Open of an absent one", err, fs.ErrNotExist)
		WantErr(t, "Unlink of an absent one", semaphore.Unlink(name), fs.ErrNotExist)
		WantErr(t, "Unlink of an absent one", semaphore.Unlink(name, engine), fs.ErrNotExist)

		s := Open(t, name, e, semaphore.WithExclusive(true), semaphore.WithValue(2))
		_, err = semaphore.Open(name, engine, semaphore.WithExclusive(true))
		WantErr(t, "exclusive Open of an existing one", err, fs.ErrExist)
		Open(t, name, e, semaphore.WithCreate(false))

		Must(t, semaphore.Unlink(name, engine))
		if !UnlinkFrees(e) {
			Must(t, s.Close())
			return // see TestNameGoesWithLastHandle
		}
		WantErr(t, "Unlink, again", s.Unlink(), fs.ErrNotExist)
		Must(t, s.Wait()) // an open handle keeps the semaphore
		Becomes(t, s, 1)
		fresh := Open(t, name, e, semaphore.WithValue(5), semaphore.WithExclusive(true))
		Becomes(t, fresh, 5)
		Becomes(t, s, 1)
		Must(t, fresh.Close())
		Must(t, fresh.Unlink()) // a closed handle knows its name
		_, err = semaphore.Open(name, engine, semaphore.WithCreate(false))
		WantErr(t, "Open after Unlink", err, fs.ErrNotExist)
	})
}

// oddBytes returns unusual bytes that a name may have.
func oddBytes() string {
	if runtime.GOOS == "windows" {
		return "\n\x01 :*?%"
	}
	return "\n\xff \\%"
}

// longest returns the length of the longest name of an engine.
func longest(e semaphore.Engine) int {
	if runtime.GOOS == "windows" && Owns(e) {
		return 255 - len("rec.")
	}
	return semaphore.MaxName()
}

func TestConformanceNames(t *testing.T) {
	long := NamePrefix() + strings.Repeat("n", 400)
	limit := semaphore.MaxName()
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		for _, name := range []string{long[:longest(e)], "/" + long[:longest(e)], NamePrefix() + oddBytes(), NamePrefix() + "..", NamePrefix() + "日本"} {
			s := Open(t, name, e, semaphore.WithExclusive(true))
			Must(t, s.Wait())
			Must(t, s.Unlink())
			Must(t, s.Close())
		}
		for _, name := range []string{"", "/", ".", "..", "/.", "//a", "a/b", "a/", "a\x00b", long[:limit+1]} {
			for what, err := range map[string]error{
				"CheckName": semaphore.CheckName(name),
				"Open":      func() error { _, err := semaphore.Open(name, semaphore.WithEngine(e)); return err }(),
				"Acquire": func() error {
					_, err := semaphore.Acquire(context.Background(), name, semaphore.WithEngine(e))
					return err
				}(),
				"Unlink": semaphore.Unlink(name),
			} {
				var se *semaphore.Error
				if !errors.Is(err, semaphore.ErrInvalidName) || !errors.As(err, &se) || se.Name != name {
					t.Errorf("%s(%q): %v", what, name, err)
				}
			}
		}
		Must(t, semaphore.CheckName("/"+long[:limit]))
	})
}

func TestNameErrorsNameTheRule(t *testing.T) {
	for name, rule := range map[string]string{
		"":                       "empty",
		"/":                      "empty",
		"..":                     "directory",
		"a/b":                    "slash",
		"a\x00":                  "NUL",
		strings.Repeat("n", 999): fmt.Sprintf("999 %s; at most %d", semaphore.NameUnit(), semaphore.MaxName()),
	} {
		if err := semaphore.CheckName(name); err == nil || !strings.Contains(err.Error(), rule) {
			t.Errorf("CheckName(%.10q): %v, want it to speak of %q", name, err, rule)
		}
	}
}

func TestConformanceStrict(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		name := UniqueName(t)
		watch := Open(t, name, e, semaphore.WithValue(3))
		s := Open(t, name, e, semaphore.WithStrict(true))
		WantErr(t, "Post of nothing", s.Post(), semaphore.ErrNotHeld)
		WantErr(t, "PostN of nothing", s.PostN(2), semaphore.ErrNotHeld)
		for _, take := range []func() error{s.Wait, s.TryWait} {
			Must(t, take())
			WantErr(t, "Wait while held", s.Wait(), semaphore.ErrHeld)
			WantErr(t, "TryWait while held", s.TryWait(), semaphore.ErrHeld)
			p, err := s.TryAcquire() // a Permit is counted apart
			Must(t, err)
			WantErr(t, "PostN of more than held", s.PostN(2), semaphore.ErrNotHeld)
			Becomes(t, watch, 1)
			Must(t, s.PostN(1))
			WantErr(t, "Post of a Permit's", s.Post(), semaphore.ErrNotHeld)
			Must(t, p.Release())
			Becomes(t, watch, 3)
		}
		Must(t, s.Close())
		WantErr(t, "second Close", s.Close(), semaphore.ErrClosed)
	})
}

// Ordinary data guarded by several handles of one semaphore: with -race this fails
// if the race detector does not learn which accesses the semaphore orders.
func TestConformanceMemory(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		name := UniqueName(t)
		counter := 0
		failed := make([]error, 4) // and not t.Error, which locks and so orders accesses itself
		var all sync.WaitGroup
		for i := range failed {
			s := Open(t, name, e)
			all.Go(func() {
				for range 50 {
					if i%2 == 0 {
						failed[i] = errors.Join(failed[i], s.Wait())
						counter++
						failed[i] = errors.Join(failed[i], s.Post())
					} else {
						p, err := s.Acquire(context.Background())
						counter++
						failed[i] = errors.Join(failed[i], err, p.Release())
					}
				}
			})
		}
		all.Wait()
		Must(t, errors.Join(failed...))
		if counter != 200 {
			t.Errorf("counter %d, want 200", counter)
		}
	})
}

func TestConformanceCloseAll(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		name := UniqueName(t)
		watch := Open(t, name, e, semaphore.WithValue(2))
		KeepAlive(t, name, e)
		Open(t, name, e, semaphore.WithCloseOnExit(true)).Wait()
		strict := Open(t, name, e, semaphore.WithStrict(true))
		strict.Wait()
		waiting := Blocked(t, watch, watch.Wait)
		Must(t, semaphore.CloseAll())
		// The waiter may have taken the permit that another handle gave back before
		// its own handle was closed. If permits have no owners, that permit is gone.
		if err := Result(t, waiting); err != nil {
			WantErr(t, "Wait during CloseAll", err, semaphore.ErrClosed)
		} else if !Owns(e) {
			poster := Open(t, name, e)
			Must(t, poster.Post())
			Must(t, poster.Close())
		}
		WantErr(t, "second Close of a strict handle", strict.Close(), semaphore.ErrClosed)
		WaitFor(t, "no handle open", func() bool { return semaphore.OpenHandles() == 0 })
		left := 1 // the handle that closes on exit gave its permit back
		if Owns(e) {
			left = 2
		}
		Becomes(t, Open(t, name, e), left)
	})
}

// Waiters cost goroutines, not threads.
func TestConformanceOneThreadBlocks(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		s := Open(t, UniqueName(t), e)
		Must(t, s.Wait())
		first := Blocked(t, s, s.Wait)
		before := Threads(t)
		ctx, cancel := context.WithCancel(context.Background())
		const waiters = 2000
		errs := make(chan error, waiters)
		for range waiters {
			go func() { errs <- s.WaitContext(ctx) }()
		}
		WaitFor(t, "all in the queue", func() bool { return testhook.Inspect(s).Waiting == waiters+1 })
		if grown := Threads(t) - before; grown > 8 { // the runtime's own come and go
			t.Errorf("%d waiters made %d threads", waiters, grown)
		}
		cancel()
		for range waiters {
			if err := Result(t, errs); err != context.Canceled {
				t.Fatal(err)
			}
		}
		Must(t, s.Post())
		Must(t, Result(t, first))
	})
}

// Engines that poll use the backoff function, those that don't ignore it.
func TestConformanceBackoff(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		// Without timed waits the probe cannot block in glibc, and fails.
		polls := e == semaphore.EngineFlock || e == semaphore.EngineRecoverable && RecoverPolls() || e != semaphore.EngineNative && e != semaphore.EngineRecoverable && testhook.Libc.Polls
		waits := make(chan struct{}, 100)
		s := Open(t, UniqueName(t), e, semaphore.WithBackoff(func() func(int) time.Duration {
			waits <- struct{}{}
			return func(attempt int) time.Duration {
				if attempt > 3 {
					return -1
				}
				return 0
			}
		}))
		Must(t, s.Wait())
		if !polls {
			WantErr(t, "WaitTimeout", s.WaitTimeout(30*time.Millisecond), semaphore.ErrTimeout)
			if len(waits) != 0 {
				t.Error("an engine that does not poll used the backoff function")
			}
			return
		}
		for range 2 {
			WantErr(t, "Wait", s.Wait(), semaphore.ErrTimeout)
		}
		Must(t, s.Post())
		Must(t, s.Wait())
		if len(waits) != 2 {
			t.Errorf("%d fresh states for two waits that blocked", len(waits))
		}
	})
}

func TestErrnoIdentities(t *testing.T) {
	for _, tt := range []struct{ err, is error }{
		{semaphore.ErrWouldBlock, syscall.EAGAIN},
		{semaphore.ErrTimeout, syscall.EAGAIN},
		{semaphore.ErrTimeout, syscall.ETIMEDOUT},
		{semaphore.ErrTimeout, os.ErrDeadlineExceeded},
		{semaphore.ErrInterrupted, syscall.EINTR},
		{semaphore.ErrClosed, os.ErrClosed},
		{semaphore.ErrOverflow, syscall.EOVERFLOW},
		{semaphore.ErrUnsupported, errors.ErrUnsupported},
	} {
		WantErr(t, tt.err.Error(), tt.err, tt.is)
	}
	if errors.Is(semaphore.ErrWouldBlock, semaphore.ErrTimeout) || errors.Is(semaphore.ErrTimeout, semaphore.ErrWouldBlock) {
		t.Error("ErrWouldBlock and ErrTimeout match each other")
	}
}

// The goroutine's stack may grow in any call, and what is copied then must not look
// like an invalid pointer. (On macOS a sem_t * is a file descriptor.)
func TestConformanceAtAnyStackDepth(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		name := UniqueName(t)
		Open(t, name, e)
		for depth := range 100 {
			s := Open(t, name, e)
			for _, op := range []func() error{s.TryWait, s.Post, s.Close} {
				Must(t, Result(t, InBackground(func() (err error) {
					atDepth(depth, func() { err = op() })
					return err
				})))
			}
		}
	})
}

// atDepth calls f with a stack that is 64 bytes or so deeper for each n.
func atDepth(n int, f func()) {
	var room [32]byte
	if n > 0 {
		atDepth(n-1, f)
	} else {
		f()
	}
	runtime.KeepAlive(&room)
}

// An engine whose permits have no owners has no several at once, and says what has.
func TestConformanceSeveralNeedOwners(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		name := UniqueName(t)
		s := Open(t, name, e, semaphore.WithValue(3))
		for _, n := range []int{0, -2, -3, 4} {
			for how, acquire := range map[string]func(n int) (*semaphore.Permit, error){
				"TryAcquireN": s.TryAcquireN,
				"AcquireN":    func(n int) (*semaphore.Permit, error) { return s.AcquireN(context.Background(), n) },
			} {
				_, err := acquire(n)
				want := semaphore.ErrInvalidValue
				if n == 4 && !Owns(e) {
					want = semaphore.ErrUnsupported
				}
				WantErr(t, fmt.Sprintf("%s of %d", how, n), err, want)
			}
		}
		p, err := s.AcquireN(context.Background(), 1)
		Must(t, err)
		Becomes(t, s, 2)
		Must(t, p.Release())
		if Owns(e) {
			return
		}
		for _, n := range []int{2, semaphore.All} {
			_, err := s.AcquireN(context.Background(), n)
			WantErr(t, "AcquireN", err, semaphore.ErrUnsupported)
			if err == nil || !strings.Contains(err.Error(), "WithRecovery(true)") {
				t.Errorf("%v: it does not say what to do", err)
			}
			_, err = s.TryAcquireN(n)
			WantErr(t, "TryAcquireN", err, semaphore.ErrUnsupported)
		}
		Becomes(t, s, 3)
	})
}

// eachOwning is EachEngine with those whose permits have owners.
func eachOwning(t *testing.T, f func(t *testing.T, e semaphore.Engine)) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		if Owns(e) {
			f(t, e)
		}
	})
}

// holdsSlots fails the test unless a Permit has these numbers.
func holdsSlots(t *testing.T, what string, p *semaphore.Permit, want ...int) {
	t.Helper()
	if got := p.Slots(); !slices.Equal(got, want) {
		t.Errorf("%s: got the slots %v, want %v", what, got, want)
	}
}

func TestConformanceSeveral(t *testing.T) {
	eachOwning(t, func(t *testing.T, e semaphore.Engine) {
		name := UniqueName(t)
		a, b := Open(t, name, e, semaphore.WithValue(3)), Open(t, name, e)
		two, err := a.AcquireN(context.Background(), 2)
		Must(t, err)
		holdsSlots(t, "two of three", two, 0, 1)
		for _, n := range []int{2, 3, semaphore.All} {
			_, err = b.TryAcquireN(n)
			WantErr(t, "TryAcquireN beyond what is free", err, semaphore.ErrWouldBlock)
			Becomes(t, a, 1)
		}
		third, err := b.TryAcquireN(1)
		Must(t, err)
		holdsSlots(t, "the third", third, 2)
		for range 3 {
			Must(t, two.Release())
			Becomes(t, b, 2)
		}
		holdsSlots(t, "after Release", two)
		all := acquiring(t, b, semaphore.All)
		awaitGathering(t, a, semaphore.All, 3)
		Becomes(t, a, 0)
		Must(t, third.Release())
		p := <-all
		holdsSlots(t, "all", p, 0, 1, 2)
		_, err = a.TryAcquire()
		WantErr(t, "TryAcquire beside one that has all", err, semaphore.ErrWouldBlock)
		Must(t, b.Close())
		holdsSlots(t, "after Close", p)
		Becomes(t, a, 3)
		Must(t, p.Release())
		Becomes(t, a, 3)
	})
}

// acquiring acquires n, which must block, and returns where the Permit will come.
func acquiring(t *testing.T, s *semaphore.Semaphore, n int) <-chan *semaphore.Permit {
	t.Helper()
	got := make(chan *semaphore.Permit, 1)
	waiting := Blocked(t, s, func() error {
		p, err := s.AcquireN(context.Background(), n)
		got <- p
		return err
	})
	go func() {
		if err := <-waiting; err != nil {
			t.Errorf("AcquireN of %d: %v", n, err)
		}
	}()
	return got
}

// awaitGathering waits until a handle of this process is listed that wants n and has so many permits.
func awaitGathering(t *testing.T, s *semaphore.Semaphore, n, has int) {
	t.Helper()
	WaitFor(t, fmt.Sprintf("one that wants %d and has %d", n, has), func() bool {
		hs, err := s.Holders()
		Must(t, err)
		return slices.ContainsFunc(hs, func(h semaphore.Holder) bool { return h.Waiting && h.Want == n && h.Permits == has })
	})
}

// One that waits for several keeps its place, and those behind it wait. What it has gathered comes back when it
// is cancelled, also when nobody else waits, and the next one gets what there is.
func TestConformanceSeveralInLine(t *testing.T) {
	Patience(t)
	eachOwning(t, func(t *testing.T, e semaphore.Engine) {
		name := UniqueName(t)
		holder, big, small := Open(t, name, e, semaphore.WithValue(3)), Open(t, name, e), Open(t, name, e)
		var ps []*semaphore.Permit
		for range 3 {
			p, err := holder.Acquire(context.Background())
			Must(t, err)
			ps = append(ps, p)
		}
		for _, behind := range []bool{true, false} {
			ctx, cancel := context.WithCancel(context.Background())
			waiting := Blocked(t, big, func() error { _, err := big.AcquireN(ctx, 3); return err })
			awaitGathering(t, holder, 3, 0)
			var next <-chan *semaphore.Permit
			if behind {
				next = acquiring(t, small, 1)
				awaitGathering(t, holder, 1, 0)
			}
			Must(t, ps[0].Release())
			awaitGathering(t, holder, 3, 1)
			_, err := small.TryAcquire()
			WantErr(t, "TryAcquire while another one gathers", err, semaphore.ErrWouldBlock)
			cancel()
			if err := Result(t, waiting); err != context.Canceled {
				t.Errorf("cancelled AcquireN: %v", err)
			}
			if behind {
				Must(t, (<-next).Release())
			}
			Becomes(t, holder, 1)
			ps[0], err = holder.Acquire(context.Background())
			Must(t, err)
		}
		short, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		if _, err := big.AcquireN(short, 2); err != context.DeadlineExceeded {
			t.Errorf("AcquireN with a timeout: %v", err)
		}
		waiting := Blocked(t, big, func() error { _, err := big.AcquireN(context.Background(), 3); return err })
		awaitGathering(t, holder, 3, 0)
		next := acquiring(t, small, 2)
		awaitGathering(t, holder, 2, 0)
		Must(t, ps[0].Release())
		awaitGathering(t, holder, 3, 1)
		Must(t, ps[1].Release())
		awaitGathering(t, holder, 3, 2)
		Must(t, big.Close())
		WantErr(t, "AcquireN of a handle that is closed", Result(t, waiting), semaphore.ErrClosed)
		holdsSlots(t, "the next one", <-next, 0, 1)
		Becomes(t, holder, 0)
	})
}

// Within a handle those that wait are served in their order too, whatever they want.
func TestConformanceSeveralWithinAHandle(t *testing.T) {
	Patience(t)
	eachOwning(t, func(t *testing.T, e semaphore.Engine) {
		s := Open(t, UniqueName(t), e, semaphore.WithValue(2))
		Must(t, s.Wait())
		single, err := s.Acquire(context.Background())
		Must(t, err)
		first := acquiring(t, s, 2)
		second := acquiring(t, s, 1)
		third := acquiring(t, s, semaphore.All)
		Must(t, s.Post())
		awaitGathering(t, s, 2, 2)
		Must(t, single.Release())
		p := <-first
		holdsSlots(t, "the first", p, 0, 1)
		Must(t, p.Release())
		p = <-second
		awaitGathering(t, s, semaphore.All, 2)
		Must(t, p.Release())
		p = <-third
		holdsSlots(t, "the third", p, 0, 1)
		Must(t, p.Release())
		Becomes(t, s, 2)
	})
}

// Two that want more than half each never wait for each other's parts, and one that has all is alone.
func TestConformanceSeveralAtOnce(t *testing.T) {
	eachOwning(t, func(t *testing.T, e semaphore.Engine) {
		const limit = 5
		name := UniqueName(t)
		var all sync.WaitGroup
		var inside atomic.Int64
		for i, n := range []int{3, 4, semaphore.All, 1, 2, 3, 1, semaphore.All} {
			s := Open(t, name, e, semaphore.WithValue(limit))
			if i%2 == 1 { // another goroutine of the same handle
				all.Go(func() { takeSeveral(t, s, 1, limit, &inside) })
			}
			all.Go(func() { takeSeveral(t, s, n, limit, &inside) })
		}
		all.Wait()
		Becomes(t, Open(t, name, e), limit)
	})
}

func takeSeveral(t *testing.T, s *semaphore.Semaphore, n, limit int, inside *atomic.Int64) {
	weight := int64(n)
	if n == semaphore.All {
		weight = int64(limit)
	}
	for range Times(40) {
		p, err := s.AcquireN(context.Background(), n)
		if err != nil {
			t.Error(err)
			return
		}
		if got := inside.Add(weight); got > int64(limit) || len(p.Slots()) != int(weight) {
			t.Errorf("%d are held of %d, and a Permit has %v", got, limit, p.Slots())
		}
		runtime.Gosched()
		inside.Add(-weight)
		if err := p.Release(); err != nil {
			t.Error(err)
		}
	}
}

// A limit that is lowered below what one waits for does not end its wait, and keeps nobody else waiting.
func TestConformanceSeveralAgainstSetLimit(t *testing.T) {
	Patience(t)
	eachOwning(t, func(t *testing.T, e semaphore.Engine) {
		name := UniqueName(t)
		s, big := Open(t, name, e, semaphore.WithValue(3)), Open(t, name, e)
		Must(t, s.Wait())
		three := acquiring(t, big, 3)
		awaitGathering(t, s, 3, 2)
		Must(t, s.SetLimit(2))
		WaitFor(t, "a permit for another one", func() bool {
			p, err := s.TryAcquire()
			if err != nil {
				return false
			}
			Must(t, p.Release())
			return true
		})
		_, err := s.AcquireN(context.Background(), 3)
		WantErr(t, "AcquireN of 3 of 2", err, semaphore.ErrInvalidValue)
		Must(t, s.Post())
		Must(t, s.SetLimit(4))
		p := <-three
		holdsSlots(t, "when the limit is raised", p, 0, 1, 2)
		all := acquiring(t, s, semaphore.All)
		Must(t, s.SetLimit(5))
		awaitGathering(t, big, semaphore.All, 2)
		Must(t, p.Release())
		holdsSlots(t, "all", <-all, 0, 1, 2, 3, 4)
	})
}

// OpenLimit makes semaphores whose permits have owners, whatever else the options say, and what it finds of
// another kind it refuses with the remedy, as what opens those refuses its.
func TestOpenLimit(t *testing.T) {
	NeedEngine(t, semaphore.EngineRecoverable)
	name := UniqueName(t)
	opts := append(make([]semaphore.Option, 0, 4), semaphore.WithLabel("first"))
	s, err := semaphore.OpenLimit(name, 3, append(opts, semaphore.WithRecovery(false), semaphore.WithValue(5))...)
	Must(t, err)
	t.Cleanup(func() { s.Close(); s.Unlink() })
	if limit, err := s.Limit(); limit != 3 || err != nil || s.Engine() != semaphore.EngineRecoverable {
		t.Errorf("limit %d (%v), engine %v; want 3, %v", limit, err, s.Engine(), semaphore.EngineRecoverable)
	}
	if opts := opts[:4]; opts[3] != nil {
		t.Error("it has written into the caller's options")
	}
	for _, n := range []int{-1, 0, 1 << 16} {
		_, err := semaphore.OpenLimit(name, n)
		WantErr(t, fmt.Sprintf("a limit of %d", n), err, semaphore.ErrInvalidValue)
	}
	_, err = semaphore.OpenLimit(name, 4)
	WantErr(t, "another limit", err, semaphore.ErrLimitMismatch)
	for _, e := range []semaphore.Engine{semaphore.EngineFlock, semaphore.EngineWindows} { // whose names can be seen
		if !HasEngine(e) {
			continue
		}
		_, err := semaphore.OpenLimit(name, 3, semaphore.WithEngine(e))
		WantErr(t, fmt.Sprintf("OpenLimit of engine %v", e), err, semaphore.ErrInvalidOption)
		_, err = semaphore.Open(name, semaphore.WithEngine(e))
		WantErr(t, "Open of a limit", err, semaphore.ErrKindMismatch)
		if want := "; OpenLimit, or WithRecovery(true), opens it"; !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%v: want %q", err, want)
		}
		other := Open(t, UniqueName(t), e)
		_, err = semaphore.OpenLimit(other.Name(), 1)
		WantErr(t, "OpenLimit of another kind", err, semaphore.ErrKindMismatch)
		if want := "; Open without WithRecovery opens it"; !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%v: want %q", err, want)
		}
	}
}

// Do gives the permit back however its function ends, and calls it only with one.
func TestDo(t *testing.T) {
	NeedEngine(t, semaphore.EngineRecoverable)
	ctx, name := context.Background(), UniqueName(t)
	watch, err := semaphore.OpenLimit(name, 2)
	Must(t, err)
	t.Cleanup(func() { watch.Close(); watch.Unlink() })
	handles := semaphore.OpenHandles()
	back := func(what string) {
		t.Helper()
		Becomes(t, watch, 2)
		WaitFor(t, what+": the handle closed", func() bool { return semaphore.OpenHandles() == handles })
	}
	type key struct{}
	wrong := errors.New("wrong")
	for _, want := range []error{nil, wrong} {
		err := semaphore.Do(context.WithValue(ctx, key{}, "ours"), name, 2, func(ctx context.Context) error {
			Becomes(t, watch, 1)
			if ctx.Value(key{}) != "ours" {
				t.Error("another context")
			}
			return want
		}, semaphore.WithLabel("do"))
		if err != want {
			t.Errorf("got %v, want %v itself", err, want)
		}
		back("returned")
	}
	func() {
		defer func() {
			if got := recover(); got != wrong {
				t.Errorf("panicked with %v, want %v", got, wrong)
			}
		}()
		semaphore.Do(ctx, name, 2, func(context.Context) error { panic(wrong) })
	}()
	back("panicked")
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		semaphore.Do(ctx, name, 2, func(context.Context) error { runtime.Goexit(); return nil })
	}()
	<-exited
	back("Goexit")

	never := func(context.Context) error { t.Error("called without a permit"); return nil }
	WantErr(t, "another limit", semaphore.Do(ctx, name, 3, never), semaphore.ErrLimitMismatch)
	all, err := watch.AcquireN(ctx, semaphore.All)
	Must(t, err)
	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	if err := semaphore.Do(short, name, 2, never); err != context.DeadlineExceeded {
		t.Errorf("no permit in time: %v, want the bare %v", err, context.DeadlineExceeded)
	}
	Must(t, all.Release())
	back("cancelled")
}

// Lockers exclude each other, and what a sync.Locker cannot return it panics with.
func TestConformanceLocker(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		name := UniqueName(t)
		s := Open(t, name, e)
		var all sync.WaitGroup
		inside := 0 // written by one goroutine at a time, as the race detector checks, too
		for range 4 {
			l := Open(t, name, e).Locker()
			for range 2 {
				all.Go(func() {
					for range Times(50) {
						l.Lock()
						if inside++; inside != 1 {
							t.Error("two have the lock")
						}
						inside--
						l.Unlock()
					}
				})
			}
		}
		all.Wait()
		Becomes(t, s, 1)

		panics := func(what string, want error, f func()) {
			t.Helper()
			defer func() {
				t.Helper()
				err, _ := recover().(error)
				WantErr(t, what, err, want)
			}()
			f()
		}
		l := s.Locker()
		panics("Unlock at first", semaphore.ErrNotHeld, l.Unlock)
		l.Lock()
		panics("Unlock of another's", semaphore.ErrNotHeld, s.Locker().Unlock)
		l.Unlock()
		panics("Unlock again", semaphore.ErrNotHeld, l.Unlock)
		Becomes(t, s, 1)

		several := Open(t, UniqueName(t), e, semaphore.WithValue(2))
		l = several.Locker()
		l.Lock()
		if Owns(e) {
			Becomes(t, several, 0)
		} else {
			panics("a second Lock", semaphore.ErrInvalidValue, l.Lock)
		}
		l.Unlock()
		Becomes(t, several, 2)
		if Owns(e) { // alone whatever the limit is when its turn comes
			Must(t, several.Wait())
			locked := Blocked(t, several, func() error { l.Lock(); return nil })
			Must(t, several.SetLimit(3))
			Must(t, several.Post())
			Must(t, Result(t, locked))
			Becomes(t, several, 0)
			l.Unlock()
			Becomes(t, several, 3)
		}
		l = s.Locker()
		Must(t, s.Close())
		panics("Lock of a closed handle", semaphore.ErrClosed, l.Lock)
	})
}

// The log says of a wait that blocks how many handles wait already, where that is known.
func TestConformanceLogOfWaiters(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		Patience(t)
		name := UniqueName(t)
		handles := []*semaphore.Semaphore{Open(t, name, e)}
		Must(t, handles[0].Wait())
		var waits []<-chan error
		for already := range 3 {
			if Owns(e) {
				WaitFor(t, "those before it wait", func() bool {
					holders, err := handles[0].Holders()
					Must(t, err)
					waiting := 0
					for _, h := range holders {
						if h.Waiting {
							waiting++
						}
					}
					return waiting == already
				})
			}
			var log SyncBuffer
			s := Open(t, name, e, semaphore.WithLogger(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))))
			handles, waits = append(handles, s), append(waits, Blocked(t, s, s.Wait))
			want := `msg="semaphore: blocked" name=` + name + "\n"
			if Owns(e) {
				want = fmt.Sprintf(`msg="semaphore: blocked" name=%s waiters=%d`+"\n", name, already)
			}
			if !strings.Contains(log.String(), want) {
				t.Errorf("got %s, want %s among it", log.String(), want)
			}
		}
		// The handle that got the permit gives it: with some engines that is any of them.
		for range waits {
			if !Owns(e) {
				Must(t, handles[0].Post())
			}
		}
		for i, w := range waits {
			if Owns(e) {
				Must(t, handles[i].Post())
			}
			Must(t, Result(t, w))
		}
	})
}
