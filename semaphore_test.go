//go:build unix || windows

// The conformance table: every test here runs over every engine of the build.

package semaphore_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/testhook"
)

// A row of the conformance table: an engine, and what is special about it.
type row struct {
	name   string
	engine semaphore.Engine
	before func() (restore func())
}

// hasEngine reports whether this build has e on this system.
func hasEngine(e semaphore.Engine) bool {
	_, err := semaphore.Open("any", semaphore.WithEngine(e), semaphore.WithCreate(false))
	return !errors.Is(err, semaphore.ErrUnsupported)
}

func needEngine(t testing.TB, e semaphore.Engine) {
	t.Helper()
	if !hasEngine(e) {
		t.Skipf("not in this build: engine %v", e)
	}
}

// owns reports whether the engine's permits have owners: only the handle that took
// one gives it, and Close gives all back.
func owns(e semaphore.Engine) bool { return e == semaphore.EngineRecoverable }

func eachEngine(t *testing.T, f func(t *testing.T, e semaphore.Engine)) {
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			needEngine(t, row.engine)
			if row.before != nil {
				defer row.before()()
			}
			f(t, row.engine)
		})
	}
}

var names atomic.Int64

// uniqueName returns a name of this process and test, gone when the test ends.
func uniqueName(t testing.TB) string {
	name := fmt.Sprintf("%s%d", namePrefix(), names.Add(1))
	t.Cleanup(func() {
		if err := semaphore.Unlink(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
	return name
}

func namePrefix() string { return fmt.Sprintf("semtest%d.", os.Getpid()) }

func open(t testing.TB, name string, e semaphore.Engine, opts ...semaphore.Option) *semaphore.Semaphore {
	t.Helper()
	s, err := semaphore.Open(name, append([]semaphore.Option{semaphore.WithEngine(e)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	held := s
	t.Cleanup(func() {
		held.Close()
		held = nil // its memory can go
	})
	return s
}

// setSafetyNet turns the safety net on or off, and returns what it was before.
func setSafetyNet(on bool) (before bool) { return !testhook.NoSafetyNet.Swap(!on) }

// recoverPolls says whether waiters of the recoverable engine poll.
func recoverPolls() bool {
	return testhook.Polling.Load() || runtime.GOOS != "linux" && runtime.GOOS != "windows"
}

// netUsers counts the calls of rescuing that are in force.
var netUsers int

// rescuing turns the safety net on; what it does until the returned function is
// called is expected.
func rescuing() (restore func()) {
	if netUsers++; netUsers > 1 {
		return func() { netUsers-- }
	}
	before := int(testhook.Rescued.Load())
	net := setSafetyNet(true)
	return func() {
		netUsers--
		setSafetyNet(net)
		expectedRescues += int(testhook.Rescued.Load()) - before
	}
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// hang is how long something that should come at once may take on a busy
// machine.
var hang = 20 * time.Second

func init() {
	flag.DurationVar(&hang, "hang", hang, "how long what should come at once may take")
}

func waitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(hang); !cond(); time.Sleep(200 * time.Microsecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not after %v", what, hang)
		}
	}
}

// becomes waits for a value: EngineLibc may hold a permit for a moment that it
// took for a wait that was cancelled, before it gives it back.
func becomes(t testing.TB, s *semaphore.Semaphore, want int) {
	t.Helper()
	got := -1
	defer func() {
		if got != want {
			t.Errorf("value %d, want %d", got, want)
		}
	}()
	waitFor(t, fmt.Sprint("value ", want), func() bool {
		var err error
		got, err = s.Value()
		if errors.Is(err, semaphore.ErrUnsupported) {
			got, err = countByTaking(t, s), nil
		}
		must(t, err)
		return got == want
	})
}

// countByTaking is Value where the system cannot say.
func countByTaking(t testing.TB, s *semaphore.Semaphore) int {
	n := 0
	for s.TryWait() == nil {
		n++
	}
	for range n {
		must(t, s.Post())
	}
	return n
}

func result(t testing.TB, c <-chan error) error {
	t.Helper()
	select {
	case err := <-c:
		return err
	case <-time.After(hang):
		t.Fatalf("no result after %v", hang)
		return nil
	}
}

// inBackground calls f in a goroutine.
func inBackground(f func() error) <-chan error {
	c := make(chan error, 1)
	go func() { c <- f() }()
	return c
}

// blocked starts f and returns when it waits in s's queue.
func blocked(t testing.TB, s *semaphore.Semaphore, f func() error) <-chan error {
	t.Helper()
	before := testhook.Inspect(s).Waiting
	c := inBackground(f)
	waitFor(t, "a blocked waiter", func() bool { return testhook.Inspect(s).Waiting > before })
	return c
}

func TestConformanceCounting(t *testing.T) {
	eachEngine(t, func(t *testing.T, e semaphore.Engine) {
		s := open(t, "/"+uniqueName(t), e, semaphore.WithValue(3))
		if e != semaphore.EngineAuto && s.Engine() != e || s.Engine() == semaphore.EngineAuto || !strings.HasPrefix(s.Name(), namePrefix()) {
			t.Errorf("Engine %v, Name %q", s.Engine(), s.Name())
		}
		for free := 3; free > 0; free-- {
			becomes(t, s, free)
			must(t, s.TryWait())
		}
		err := s.TryWait()
		wantErr(t, "TryWait of 0", err, semaphore.ErrWouldBlock)
		wantErr(t, "TryWait of 0", err, syscall.EAGAIN)
		var se *semaphore.Error
		if !errors.As(err, &se) || se.Op != "trywait" || se.Name != s.Name() || se.Timeout() {
			t.Errorf("got %#v", err)
		}
		becomes(t, s, 0)
		must(t, s.Post())
		must(t, s.Wait())
		must(t, s.Post())
		must(t, s.WaitTimeout(hang))
		must(t, s.Post())
		must(t, s.WaitContext(context.Background()))
		must(t, s.Post())
		must(t, s.Post())
		if owns(e) {
			must(t, s.Post())
			becomes(t, s, 3)
			wantErr(t, "Post of what is not held", s.Post(), semaphore.ErrNotHeld)
			becomes(t, s, 3)
			return
		}
		for range 4 { // anybody may post, more than was there to begin with
			must(t, s.Post())
		}
		becomes(t, s, 6)
	})
}

func TestConformanceHandlesShare(t *testing.T) {
	eachEngine(t, func(t *testing.T, e semaphore.Engine) {
		name := uniqueName(t)
		a := open(t, name, e)
		if owns(e) {
			_, err := semaphore.Open(name, semaphore.WithEngine(e), semaphore.WithValue(7))
			wantErr(t, "Open with another limit", err, semaphore.ErrLimitMismatch)
		} else {
			open(t, name, e, semaphore.WithValue(7)) // exists: the value means nothing
		}
		b := open(t, "/"+name, e)
		must(t, b.Wait())
		becomes(t, a, 0)
		for range 50 {
			waiting := blocked(t, a, a.Wait)
			must(t, b.Post())
			must(t, result(t, waiting))
			waiting = blocked(t, b, b.Wait)
			must(t, a.Post())
			must(t, result(t, waiting))
		}
		must(t, a.Close())
		must(t, b.Post())
		must(t, b.Wait())
	})
}

func TestConformanceTimeout(t *testing.T) {
	eachEngine(t, func(t *testing.T, e semaphore.Engine) {
		s := open(t, uniqueName(t), e)
		must(t, s.WaitTimeout(0))
		must(t, s.Post())
		must(t, s.WaitTimeout(1)) // too short to wait, but there is a permit
		for _, d := range []time.Duration{0, -time.Hour, time.Millisecond, 30 * time.Millisecond} {
			start := time.Now()
			err := s.WaitTimeout(d)
			for _, want := range []error{semaphore.ErrTimeout, os.ErrDeadlineExceeded, syscall.EAGAIN, syscall.ETIMEDOUT} {
				wantErr(t, fmt.Sprintf("WaitTimeout(%v)", d), err, want)
			}
			var se *semaphore.Error
			if !errors.As(err, &se) || !se.Timeout() || se.Op != "wait" {
				t.Errorf("WaitTimeout(%v): got %#v", d, err)
			}
			if time.Since(start) < d {
				t.Errorf("WaitTimeout(%v) ended early", d)
			}
		}
		must(t, s.Post())
		becomes(t, s, 1)
		must(t, s.WaitTimeout(-1))
	})
}

func TestConformanceContext(t *testing.T) {
	eachEngine(t, func(t *testing.T, e semaphore.Engine) {
		s := open(t, uniqueName(t), e)
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		if err := s.WaitContext(ended); err != context.Canceled {
			t.Errorf("WaitContext with a permit free and an ended context: %v", err)
		}
		becomes(t, s, 1)
		must(t, s.Wait())
		for range 20 {
			ctx, cancel := context.WithCancel(context.Background())
			waiting := blocked(t, s, func() error { return s.WaitContext(ctx) })
			cancel()
			if err := result(t, waiting); err != context.Canceled {
				t.Errorf("cancelled WaitContext: %v", err)
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		if err := s.WaitContext(ctx); err != context.DeadlineExceeded {
			t.Errorf("WaitContext past its deadline: %v", err)
		}
		// The one in front of another, who waits on.
		for range 20 {
			ctx, cancel := context.WithCancel(context.Background())
			front := blocked(t, s, func() error { return s.WaitContext(ctx) })
			behind := blocked(t, s, s.Wait)
			cancel()
			if err := result(t, front); err != context.Canceled {
				t.Errorf("cancelled WaitContext, in front of another: %v", err)
			}
			must(t, s.Post())
			must(t, result(t, behind))
		}
		must(t, s.Post())
		becomes(t, s, 1)
	})
}

func TestConformanceOrder(t *testing.T) {
	eachEngine(t, func(t *testing.T, e semaphore.Engine) {
		s := open(t, uniqueName(t), e)
		must(t, s.Wait())
		order := make(chan int, 10)
		for i := range cap(order) {
			blocked(t, s, func() error {
				err := s.Wait()
				order <- i
				return err
			})
		}
		wantErr(t, "TryWait while others wait", s.TryWait(), semaphore.ErrWouldBlock)
		for want := range cap(order) {
			must(t, s.Post())
			select {
			case got := <-order:
				if got != want {
					t.Fatalf("waiter %d was served, want %d", got, want)
				}
			case <-time.After(hang):
				t.Fatal("nobody was served")
			}
		}
	})
}

// Cancelling while posts come loses neither a permit nor a wake-up: in the end
// the permits are all there.
func TestConformanceCancelStress(t *testing.T) {
	eachEngine(t, func(t *testing.T, e semaphore.Engine) {
		name := uniqueName(t)
		const permits, workers, rounds = 3, 12, 60
		handles := []*semaphore.Semaphore{
			open(t, name, e, semaphore.WithValue(permits)), open(t, name, e), open(t, name, e),
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
		becomes(t, handles[0], permits)
		for range permits {
			must(t, handles[1].WaitTimeout(hang))
		}
	})
}

// The same with TryWait and Value in between, which look at permits that the
// engine has in its hands: none goes missing.
func TestConformanceTryWaitAmongCancelled(t *testing.T) {
	eachEngine(t, func(t *testing.T, e semaphore.Engine) {
		name := uniqueName(t)
		const permits, rounds = 2, 100
		watch := open(t, name, e, semaphore.WithValue(permits))
		for range 2 {
			s := open(t, name, e)
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					for i := range rounds {
						if i%3 == 0 {
							if s.TryWait() == nil {
								must(t, s.Post())
							}
							s.Value()
							continue
						}
						if s.WaitTimeout(time.Duration(rand.Int64N(int64(300*time.Microsecond)))) == nil {
							must(t, s.Post())
						}
					}
				})
			}
			all.Wait()
			// Nobody waits any more: what is free can be had at once.
			for range permits {
				must(t, s.TryWait())
			}
			wantErr(t, "TryWait of 0", s.TryWait(), semaphore.ErrWouldBlock)
			wantErr(t, "WaitTimeout of 0", s.WaitTimeout(time.Millisecond), semaphore.ErrTimeout)
			for range permits {
				must(t, s.Post())
			}
			// A wait that was just cancelled keeps nothing from TryWait.
			for range permits {
				must(t, s.TryWait())
			}
			for range permits {
				must(t, s.Post())
			}
			must(t, s.Close())
		}
		becomes(t, watch, permits)
	})
}

func TestConformanceClose(t *testing.T) {
	eachEngine(t, func(t *testing.T, e semaphore.Engine) {
		name := uniqueName(t)
		other := open(t, name, e)
		s := open(t, name, e)
		must(t, s.Wait())
		waiting := []<-chan error{blocked(t, s, s.Wait), blocked(t, s, s.Wait)}
		must(t, s.Close())
		for _, w := range waiting {
			err := result(t, w)
			wantErr(t, "Wait during Close", err, semaphore.ErrClosed)
			wantErr(t, "Wait during Close", err, os.ErrClosed)
		}
		must(t, s.Close())
		value := func() error { _, err := s.Value(); return err }
		try := func() error { _, err := s.TryAcquire(); return err }
		acquire := func() error { _, err := s.Acquire(context.Background()); return err }
		short := func() error { return s.WaitTimeout(time.Millisecond) }
		for what, f := range map[string]func() error{
			"Wait": s.Wait, "TryWait": s.TryWait, "Post": s.Post, "Value": value,
			"TryAcquire": try, "Acquire": acquire, "WaitTimeout": short,
		} {
			wantErr(t, what+" of a closed handle", f(), semaphore.ErrClosed)
		}
		if !owns(e) {
			becomes(t, other, 0) // closing gives nothing back
			must(t, other.Post())
		}
		becomes(t, other, 1)
		must(t, s.Unlink()) // works all the same
	})
}

// Each handle of a process closes without a warning, and the others go on.
func TestConformanceCloseOneAfterTheOther(t *testing.T) {
	eachEngine(t, func(t *testing.T, e semaphore.Engine) {
		name := uniqueName(t)
		for range 3 {
			var warnings syncBuffer
			logger := semaphore.WithLogger(slog.New(slog.NewTextHandler(&warnings, &slog.HandlerOptions{Level: slog.LevelWarn})))
			handles := []*semaphore.Semaphore{open(t, name, e, logger), open(t, name, e, logger), open(t, name, e, logger)}
			for _, s := range handles {
				must(t, handles[len(handles)-1].Wait())
				must(t, handles[len(handles)-1].Post())
				must(t, s.Close())
			}
			if text := warnings.String(); text != "" {
				t.Error(text)
			}
		}
	})
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Close at any moment, whatever others are doing with the handle.
func TestConformanceCloseUnderFire(t *testing.T) {
	eachEngine(t, func(t *testing.T, e semaphore.Engine) {
		name := uniqueName(t)
		keeper := open(t, name, e, semaphore.WithValue(2))
		for range 60 {
			s := open(t, name, e)
			var all sync.WaitGroup
			for range 2 {
				for _, take := range []func() error{s.TryWait, s.Wait} {
					all.Go(func() {
						for {
							switch err := take(); {
							case err == nil:
								if errors.Is(s.Post(), semaphore.ErrClosed) {
									if owns(e) {
										return
									}
									must(t, keeper.Post()) // ours, from before Close
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
			must(t, s.Close())
			all.Wait()
			becomes(t, keeper, 2)
		}
	})
}

func TestConformancePermits(t *testing.T) {
	eachEngine(t, func(t *testing.T, e semaphore.Engine) {
		name := uniqueName(t)
		watch := open(t, name, e, semaphore.WithValue(2))
		s := open(t, name, e)
		a, err := s.Acquire(context.Background())
		must(t, err)
		b, err := s.TryAcquire()
		must(t, err)
		_, err = s.TryAcquire()
		wantErr(t, "TryAcquire of 0", err, semaphore.ErrWouldBlock)
		ctx, cancel := context.WithCancel(context.Background())
		waiting := blocked(t, s, func() error { _, err := s.Acquire(ctx); return err })
		cancel()
		if err := result(t, waiting); err != context.Canceled {
			t.Errorf("cancelled Acquire: %v", err)
		}
		if owns(e) {
			wantErr(t, "Post of what belongs to Permits", s.Post(), semaphore.ErrNotHeld)
		} else {
			must(t, s.Close())
		}
		becomes(t, watch, 0)
		for range 3 { // after Close too, and once
			must(t, a.Release())
			becomes(t, watch, 1)
		}
		must(t, s.Close())
		if owns(e) {
			becomes(t, watch, 2)
		}
		must(t, b.Release())
		becomes(t, watch, 2)

		waitFor(t, "one handle left", func() bool { return semaphore.OpenHandles() == 1 })
		const handles = 1
		p, err := semaphore.Acquire(context.Background(), name, semaphore.WithEngine(e))
		must(t, err)
		if got := semaphore.OpenHandles(); got != handles+1 {
			t.Errorf("%d handles, want %d", got, handles+1)
		}
		becomes(t, watch, 1)
		must(t, p.Release())
		must(t, p.Release())
		becomes(t, watch, 2)
		if _, err := semaphore.Acquire(ctx, name, semaphore.WithEngine(e)); err != context.Canceled {
			t.Errorf("Acquire with an ended context: %v", err)
		}
		must(t, watch.Wait())
		must(t, watch.Wait())
		short, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		if _, err := semaphore.Acquire(short, name, semaphore.WithEngine(e)); err != context.DeadlineExceeded {
			t.Errorf("Acquire past its deadline: %v", err)
		}
		waitFor(t, "the handles of Acquire closed", func() bool { return semaphore.OpenHandles() == handles })
	})
}

func TestConformanceOverflow(t *testing.T) {
	eachEngine(t, func(t *testing.T, e semaphore.Engine) {
		if owns(e) {
			return // nothing can be posted that was not taken
		}
		name := uniqueName(t)
		s, err := semaphore.Open(name, semaphore.WithEngine(e), semaphore.WithValue(semaphore.MaxValue))
		if errors.Is(err, semaphore.ErrInvalidValue) && e != semaphore.EngineNative && e != semaphore.EngineFlock {
			t.Skipf("not on this system: the value %d in libc", semaphore.MaxValue)
		}
		must(t, err)
		defer s.Close()
		err = s.Post()
		wantErr(t, "Post at the maximum", err, semaphore.ErrOverflow)
		wantErr(t, "Post at the maximum", err, syscall.EOVERFLOW)
		p, err := s.TryAcquire()
		must(t, err)
		must(t, s.Post())
		for range 2 {
			wantErr(t, "Release at the maximum", p.Release(), semaphore.ErrOverflow)
		}
		if n, err := s.Value(); !errors.Is(err, semaphore.ErrUnsupported) && n != semaphore.MaxValue {
			t.Errorf("Value %d, %v", n, err)
		}
	})
}

func TestConformanceOpenModes(t *testing.T) {
	eachEngine(t, func(t *testing.T, e semaphore.Engine) {
		name := uniqueName(t)
		engine := semaphore.WithEngine(e)
		_, err := semaphore.Open(name, engine, semaphore.WithCreate(false))
		wantErr(t, "Open of an absent one", err, fs.ErrNotExist)
		wantErr(t, "Unlink of an absent one", semaphore.Unlink(name), fs.ErrNotExist)
		wantErr(t, "Unlink of an absent one", semaphore.Unlink(name, engine), fs.ErrNotExist)

		s := open(t, name, e, semaphore.WithExclusive(true), semaphore.WithValue(2))
		_, err = semaphore.Open(name, engine, semaphore.WithExclusive(true))
		wantErr(t, "exclusive Open of an existing one", err, fs.ErrExist)
		open(t, name, e, semaphore.WithCreate(false))

		must(t, semaphore.Unlink(name, engine))
		if !unlinkFrees(e) {
			must(t, s.Close())
			return // see TestNameGoesWithLastHandle
		}
		wantErr(t, "Unlink, again", s.Unlink(), fs.ErrNotExist)
		must(t, s.Wait()) // who has it open keeps it
		becomes(t, s, 1)
		fresh := open(t, name, e, semaphore.WithValue(5), semaphore.WithExclusive(true))
		becomes(t, fresh, 5)
		becomes(t, s, 1)
		must(t, fresh.Close())
		must(t, fresh.Unlink()) // a closed handle knows its name
		_, err = semaphore.Open(name, engine, semaphore.WithCreate(false))
		wantErr(t, "Open after Unlink", err, fs.ErrNotExist)
	})
}

func TestConformanceNames(t *testing.T) {
	long := namePrefix() + strings.Repeat("n", 400)
	limit := semaphore.MaxName()
	eachEngine(t, func(t *testing.T, e semaphore.Engine) {
		for _, name := range []string{long[:longest(e)], "/" + long[:longest(e)], namePrefix() + oddBytes, namePrefix() + "..", namePrefix() + "日本"} {
			s := open(t, name, e, semaphore.WithExclusive(true))
			must(t, s.Wait())
			must(t, s.Unlink())
			must(t, s.Close())
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
		must(t, semaphore.CheckName("/"+long[:limit]))
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
	eachEngine(t, func(t *testing.T, e semaphore.Engine) {
		name := uniqueName(t)
		watch := open(t, name, e, semaphore.WithValue(3))
		s := open(t, name, e, semaphore.WithStrict(true))
		wantErr(t, "Post of nothing", s.Post(), semaphore.ErrNotHeld)
		for _, take := range []func() error{s.Wait, s.TryWait} {
			must(t, take())
			wantErr(t, "Wait while held", s.Wait(), semaphore.ErrHeld)
			wantErr(t, "TryWait while held", s.TryWait(), semaphore.ErrHeld)
			p, err := s.TryAcquire() // its own owner
			must(t, err)
			must(t, s.Post())
			wantErr(t, "Post of a Permit's", s.Post(), semaphore.ErrNotHeld)
			must(t, p.Release())
			becomes(t, watch, 3)
		}
		must(t, s.Close())
		wantErr(t, "second Close", s.Close(), semaphore.ErrClosed)
	})
}

// Ordinary data guarded by two handles of one semaphore: with -race this fails
// if the detector is not told what the semaphore orders.
func TestConformanceMemory(t *testing.T) {
	eachEngine(t, func(t *testing.T, e semaphore.Engine) {
		name := uniqueName(t)
		counter := 0
		failed := make([]error, 4) // no help of testing.T's: it locks, and orders
		var all sync.WaitGroup
		for i := range failed {
			s := open(t, name, e)
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
		must(t, errors.Join(failed...))
		if counter != 200 {
			t.Errorf("counter %d, want 200", counter)
		}
	})
}

func TestConformanceCloseAll(t *testing.T) {
	eachEngine(t, func(t *testing.T, e semaphore.Engine) {
		name := uniqueName(t)
		watch := open(t, name, e, semaphore.WithValue(2))
		keepAlive(t, name, e)
		open(t, name, e, semaphore.WithCloseOnExit(true)).Wait()
		strict := open(t, name, e, semaphore.WithStrict(true))
		strict.Wait()
		waiting := blocked(t, watch, watch.Wait)
		must(t, semaphore.CloseAll())
		// The waiter may have got the permit that one of the handles gave back
		// before its own was closed; it then has it no more.
		if err := result(t, waiting); err != nil {
			wantErr(t, "Wait during CloseAll", err, semaphore.ErrClosed)
		} else if !owns(e) {
			poster := open(t, name, e)
			must(t, poster.Post())
			must(t, poster.Close())
		}
		wantErr(t, "second Close of a strict handle", strict.Close(), semaphore.ErrClosed)
		waitFor(t, "no handle open", func() bool { return semaphore.OpenHandles() == 0 })
		left := 1 // the one that closes on exit gave back
		if owns(e) {
			left = 2
		}
		becomes(t, open(t, name, e), left)
	})
}

// Waiters cost goroutines, not threads.
func TestConformanceOneThreadBlocks(t *testing.T) {
	eachEngine(t, func(t *testing.T, e semaphore.Engine) {
		s := open(t, uniqueName(t), e)
		must(t, s.Wait())
		first := blocked(t, s, s.Wait)
		before := threads(t)
		ctx, cancel := context.WithCancel(context.Background())
		const waiters = 2000
		errs := make(chan error, waiters)
		for range waiters {
			go func() { errs <- s.WaitContext(ctx) }()
		}
		waitFor(t, "all in the queue", func() bool { return testhook.Inspect(s).Waiting == waiters+1 })
		if grown := threads(t) - before; grown > 8 { // the runtime's own come and go
			t.Errorf("%d waiters made %d threads", waiters, grown)
		}
		cancel()
		for range waiters {
			if err := result(t, errs); err != context.Canceled {
				t.Fatal(err)
			}
		}
		must(t, s.Post())
		must(t, result(t, first))
	})
}

// Engines that poll use the backoff function, those that don't ignore it.
func TestConformanceBackoff(t *testing.T) {
	eachEngine(t, func(t *testing.T, e semaphore.Engine) {
		// Without timed waits the probe of glibc can't block in it, and fails.
		polls := e == semaphore.EngineFlock || e == semaphore.EngineRecoverable && recoverPolls() || e != semaphore.EngineNative && e != semaphore.EngineRecoverable && testhook.Libc.Polls
		waits := make(chan struct{}, 100)
		s := open(t, uniqueName(t), e, semaphore.WithBackoff(func() func(int) time.Duration {
			waits <- struct{}{}
			return func(attempt int) time.Duration {
				if attempt > 3 {
					return -1
				}
				return 0
			}
		}))
		must(t, s.Wait())
		if !polls {
			wantErr(t, "WaitTimeout", s.WaitTimeout(30*time.Millisecond), semaphore.ErrTimeout)
			if len(waits) != 0 {
				t.Error("an engine that does not poll used the backoff function")
			}
			return
		}
		for range 2 {
			wantErr(t, "Wait", s.Wait(), semaphore.ErrTimeout)
		}
		must(t, s.Post())
		must(t, s.Wait())
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
		wantErr(t, tt.err.Error(), tt.err, tt.is)
	}
	if errors.Is(semaphore.ErrWouldBlock, semaphore.ErrTimeout) || errors.Is(semaphore.ErrTimeout, semaphore.ErrWouldBlock) {
		t.Error("ErrWouldBlock and ErrTimeout are each other")
	}
}

// Wherever a call makes the goroutine's stack grow: what is copied then must not look
// like a wrong pointer. (On macOS a sem_t * is a file descriptor.)
func TestConformanceAtAnyStackDepth(t *testing.T) {
	eachEngine(t, func(t *testing.T, e semaphore.Engine) {
		name := uniqueName(t)
		open(t, name, e)
		for depth := range 100 {
			s := open(t, name, e)
			for _, op := range []func() error{s.TryWait, s.Post, s.Close} {
				must(t, result(t, inBackground(func() (err error) {
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
