package semaphore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/testhook"
	"github.com/procsem/semaphore/internal/waitqueue"
)

// fakeBackend is an engine of channels. It fails the test if the Semaphore
// breaks its side of the contract of engine.Backend.
type fakeBackend struct {
	t       *testing.T
	mu      sync.Mutex
	free    int
	polls   bool
	stuck   bool // permits are there, but tryWait does not find them yet
	serving bool
	closed  bool
	posts   int
	kick    engine.Kick
	slow    func() // called in tryWait, before it looks
}

func (b *fakeBackend) Traits() engine.Traits { return engine.Traits{Polls: b.polls} }

func (b *fakeBackend) TryWait(bool) error {
	if b.slow != nil {
		b.slow()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open("tryWait")
	if b.stuck || b.free == 0 {
		return ErrWouldBlock
	}
	b.free--
	return nil
}

func (b *fakeBackend) open(op string) {
	if b.closed {
		b.t.Errorf("%s of a closed backend", op)
	}
}

func (b *fakeBackend) Serve(t engine.Turn) {
	b.mu.Lock()
	if b.serving {
		b.t.Error("two serves at a time")
	}
	b.serving = true
	b.mu.Unlock()
	for !t.Look() {
		if b.polls {
			t.Poll(b.kick, func() {})
			break
		}
		<-b.kick
	}
	b.mu.Lock()
	b.serving = false
	b.mu.Unlock()
}

func (b *fakeBackend) Interrupt() {
	b.mu.Lock()
	b.open("interrupt")
	b.mu.Unlock()
	b.kick.Send()
}

func (b *fakeBackend) Post(n int) error {
	b.mu.Lock()
	b.open("post")
	b.free += n
	b.posts += n
	b.mu.Unlock()
	b.Interrupt()
	return nil
}

func (b *fakeBackend) Value() (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open("value")
	return b.free, nil
}

func (b *fakeBackend) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.serving {
		b.t.Errorf("close: closed before: %v, a serve in progress: %v", b.closed, b.serving)
	}
	b.closed = true
	return nil
}

// os/signal starts its goroutine at the first Notify, which must not be in a
// bubble of synctest.
func init() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, os.Interrupt)
	signal.Stop(c)
}

func fake(t *testing.T, free int, opts ...Option) (*Semaphore, *fakeBackend) {
	t.Helper()
	o, err := newOptions(opts)
	if err != nil {
		t.Fatal(err)
	}
	b := &fakeBackend{t: t, free: free, kick: engine.NewKick()}
	s := newSemaphore("fake", &engine.Engine{Name: "auto"}, b, &o)
	t.Cleanup(func() { s.Close() })
	return s, b
}

func TestWaitersAreServedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := fake(t, 0)
		var got []int
		for i := range 5 {
			go func() {
				if err := s.Wait(); err != nil {
					t.Error(err)
				}
				got = append(got, i)
			}()
			synctest.Wait()
		}
		for range 5 {
			s.Post()
			synctest.Wait()
		}
		if diff := cmp.Diff([]int{0, 1, 2, 3, 4}, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestTryWaitDoesNotOvertakeWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b := fake(t, 1)
		b.stuck = true
		go s.Wait()
		synctest.Wait()
		b.mu.Lock()
		b.stuck = false // a permit is there now, and the waiter's
		b.mu.Unlock()
		if err := s.TryWait(); !errors.Is(err, ErrWouldBlock) {
			t.Errorf("TryWait: %v, want ErrWouldBlock", err)
		}
		if _, err := s.TryAcquire(); !errors.Is(err, ErrWouldBlock) {
			t.Errorf("TryAcquire: %v, want ErrWouldBlock", err)
		}
		b.Interrupt()
		synctest.Wait()
		if b.free != 0 {
			t.Error("the waiter did not get the permit")
		}
	})
}

// A waiter that looks for a permit before its thread sleeps also stops where the clock stands
// still, as it does in a bubble while a goroutine runs.
func TestSpinEndsWithoutAClock(t *testing.T) {
	name := fmt.Sprint("spin-without-a-clock.", os.Getpid())
	s, err := Open(name, WithRecovery(true), WithValue(1))
	if errors.Is(err, ErrUnsupported) {
		t.Skip("not on this system: recoverable semaphores")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer s.Unlink()
	defer s.Close()
	other, err := Open(name, WithRecovery(true))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := other.Wait(); err != nil {
		t.Fatal(err)
	}
	// Outside of the bubble, where the clock goes on, the permit comes back in the end.
	late := time.AfterFunc(time.Minute, func() { other.Post() })
	defer late.Stop()
	synctest.Test(t, func(t *testing.T) {
		w, serves, err := s.queue.Join(nil, waitqueue.Wants(one), 0)
		if err != nil || !serves {
			t.Fatal(serves, err)
		}
		if s.spin() {
			t.Error("it looked until there was a permit")
		}
		if !late.Stop() {
			t.Error("it looked for a minute")
		}
		other.Post()
		if canSpin && !s.spin() {
			t.Error("it has not seen a permit")
		}
		for !s.queue.Retire() { // there is no server that closing would have to wait for
			s.queue.DismissAll(ErrClosed)
		}
		if w.Await(); canSpin && w.Err != nil {
			t.Error(w.Err)
		}
	})
}

// A waiter that is cancelled, at the head of the queue or behind it, returns at once, and
// the waiters behind it are served in order.
func TestCancelCostsOthersNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b := fake(t, 0)
		var got []string
		cancels := make([]context.CancelFunc, 6)
		for i := range cancels {
			var ctx context.Context
			ctx, cancels[i] = context.WithCancel(context.Background())
			go func() {
				got = append(got, fmt.Sprint(i, " ", s.WaitContext(ctx)))
			}()
			synctest.Wait()
		}
		start := time.Now()
		for _, i := range []int{0, 3, 1} {
			cancels[i]()
			synctest.Wait()
		}
		if passed := time.Since(start); passed != 0 {
			t.Errorf("cancelling took %v of the bubble's clock", passed)
		}
		for range 3 {
			s.Post()
			synctest.Wait()
		}
		want := []string{"0 context canceled", "3 context canceled", "1 context canceled", "2 <nil>", "4 <nil>", "5 <nil>"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if b.free != 0 {
			t.Errorf("%d permits left, want 0", b.free)
		}
	})
}

// Cancel and Post at the same moment: the permit goes to the cancelled waiter or to
// the other one; it is never lost.
func TestCancelLosesNoPermit(t *testing.T) {
	for range 500 {
		synctest.Test(t, func(t *testing.T) {
			s, b := fake(t, 0)
			ctx, cancel := context.WithCancel(context.Background())
			taken := 0
			var mu sync.Mutex
			for _, ctx := range []context.Context{ctx, context.Background()} {
				go func() {
					if s.WaitContext(ctx) == nil {
						mu.Lock()
						taken++
						mu.Unlock()
					}
				}()
				synctest.Wait()
			}
			go cancel()
			go s.Post()
			synctest.Wait()
			mu.Lock()
			if taken != 1 || b.free != 0 {
				t.Fatalf("taken %d, free %d; want 1 and 0", taken, b.free)
			}
			mu.Unlock()
			s.Close() // the loser may wait still
			synctest.Wait()
		})
	}
}

func TestWaitTimeoutInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := fake(t, 0)
		start := time.Now()
		if err := s.WaitTimeout(time.Hour); !errors.Is(err, ErrTimeout) {
			t.Errorf("got %v, want ErrTimeout", err)
		}
		if got := time.Since(start); got != time.Hour {
			t.Errorf("it took %v", got)
		}
	})
}

// A handle with waiters hands permits over to them, but after every handOvers
// hand-overs it posts one for all processes; after more where nobody else waits, for those who only try.
func TestHandOversAreBounded(t *testing.T) {
	for name, tt := range map[string]struct {
		others func() bool
		bound  int
	}{
		"others are not known": {nil, handOvers},
		"others wait":          {func() bool { return true }, handOvers},
		"nobody else waits":    {func() bool { return false }, 16 * handOvers},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, b := fake(t, 0)
				s.traits.OthersWait = tt.others
				b.stuck = true // a permit that is posted stays: another process may take it
				const rounds = 3
				for range rounds * (tt.bound + 1) {
					go s.Wait()
				}
				synctest.Wait()
				for range rounds {
					for i := range tt.bound + 1 {
						before := b.posts
						s.Post()
						if posted := b.posts > before; posted != (i == tt.bound) {
							t.Fatalf("permit %d in a row: posted %v", i+1, posted)
						}
					}
				}
				s.Close()
				synctest.Wait()
			})
		})
	}
}

// A waiter of a handle that polls has joined the queue, and has looked in vain, after a giver saw that nobody waited: the
// giver ends its pause.
func TestGiverEndsThePauseOfOneThatHasJustLooked(t *testing.T) {
	testhook.Polling.Store(true)
	defer testhook.Polling.Store(false)
	pauses := make(chan int, 2)
	s, err := Open(fmt.Sprintf("pauses.%d", os.Getpid()), WithRecovery(true), WithBackoff(func() func(int) time.Duration {
		return func(n int) time.Duration {
			pauses <- n
			return time.Hour
		}
	}))
	if errors.Is(err, ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer s.Unlink()
	defer s.Close()
	for how, give := range map[string]func(p *Permit){
		"Post": func(*Permit) {
			i, quiet := s.owner.GiveHome()
			s.announce(i, quiet)
		},
		"Release": func(p *Permit) {
			_, quiet := s.owner.GiveLowest(int(p.number))
			s.announce(int(p.number), quiet)
		},
		"undone": func(p *Permit) { s.undo(int(p.number)) },
	} {
		var p *Permit
		if how == "Post" {
			err = s.Wait()
		} else {
			p, err = s.TryAcquire()
		}
		if err != nil {
			t.Fatal(how, err)
		}
		waited := make(chan error, 1)
		go func() { waited <- s.Wait() }()
		<-pauses
		give(p)
		select {
		case err = <-waited:
		case <-time.After(time.Minute):
			err = errors.New("the waiter goes on pausing")
		}
		if err != nil {
			t.Fatal(how, err)
		}
		if err := s.Post(); err != nil {
			t.Fatal(how, err)
		}
	}
}

// A handle may be used in several bubbles of testing/synctest, one after the other: what waited in one leaves
// nothing that belongs to it.
func TestHandleInSeveralBubbles(t *testing.T) {
	s, b := fake(t, 0)
	for range 2 {
		synctest.Test(t, func(t *testing.T) {
			b.kick = engine.NewKick()
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			for _, wait := range []func() error{s.Wait, func() error { return s.WaitContext(ctx) }} {
				done := make(chan error)
				go func() { done <- wait() }()
				synctest.Wait() // fails if a waiter does not block durably
				s.Post()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
			s.awaitRetired()
		})
	}
}

type ownError struct{ context.Context }

var errOwn = errors.New("a context's own error")

func (c ownError) Err() error {
	if c.Context.Err() != nil {
		return errOwn
	}
	return nil
}

func TestContextErrorIsBare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b := fake(t, 0)
		for _, behind := range []bool{false, true} {
			if behind {
				go s.Wait()
				synctest.Wait()
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			if err := s.WaitContext(ctx); err != context.DeadlineExceeded {
				t.Errorf("WaitContext: %v, want the bare context.DeadlineExceeded", err)
			}
			if _, err := s.Acquire(ctx); err != context.DeadlineExceeded {
				t.Errorf("Acquire: %v, want the bare context.DeadlineExceeded", err)
			}
			cancel()
			ctx, cancel = context.WithTimeout(context.Background(), time.Second)
			if err := s.WaitContext(ownError{ctx}); err != errOwn {
				t.Errorf("WaitContext: %v, want the context's own error", err)
			}
			cancel()
		}
		s.Post()
		synctest.Wait()
		b.mu.Lock()
		b.free = 1
		b.mu.Unlock()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := s.WaitContext(ctx); err != context.Canceled {
			t.Errorf("WaitContext of an ended context: %v", err)
		}
		if _, err := s.Acquire(ctx); err != context.Canceled {
			t.Errorf("Acquire of an ended context: %v", err)
		}
		if b.free != 1 {
			t.Error("a permit was taken for a context that had ended")
		}
	})
}

func TestCloseWakesWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b := fake(t, 0)
		errs := make(chan error, 3)
		for range 3 {
			go func() { errs <- s.Wait() }()
		}
		synctest.Wait()
		s.Close()
		for range 3 {
			if err := <-errs; !errors.Is(err, ErrClosed) {
				t.Errorf("Wait: %v, want ErrClosed", err)
			}
		}
		synctest.Wait()
		if !b.closed {
			t.Error("the backend was not closed")
		}
	})
}

// A TryWait that is inside the engine when Close comes must not keep the
// permit: Post on the closed handle would refuse to give it back. And the
// engine must not be closed under it.
func TestTakeAgainstClose(t *testing.T) {
	for _, opts := range [][]Option{nil, {WithStrict(true)}, {WithCloseOnExit(true)}} {
		synctest.Test(t, func(t *testing.T) {
			s, b := fake(t, 2, opts...)
			release := make(chan struct{})
			b.slow = func() { <-release }
			errs := make(chan error, 2)
			go func() { errs <- s.TryWait() }()
			go func() { _, err := s.TryAcquire(); errs <- err }()
			synctest.Wait()
			s.Close()
			if b.closed {
				t.Fatal("the backend was closed under a TryWait")
			}
			close(release)
			for range 2 {
				if err := <-errs; !errors.Is(err, ErrClosed) {
					t.Errorf("got %v, want ErrClosed", err)
				}
			}
			synctest.Wait()
			if b.free != 2 || !b.closed {
				t.Errorf("free %d, closed %v; want 2, true", b.free, b.closed)
			}
		})
	}
}

func TestCloseOnExitGivesBackOnce(t *testing.T) {
	s, b := fake(t, 5, WithCloseOnExit(true))
	s.Wait()
	s.TryWait()
	s.Post() // waits less posts: 1
	released, err := s.TryAcquire()
	if err != nil {
		t.Fatal(err)
	}
	released.Release()
	kept, err := s.TryAcquire()
	if err != nil {
		t.Fatal(err)
	}
	if b.free != 3 {
		t.Fatalf("free %d, want 3", b.free)
	}
	s.Close()
	if b.free != 5 {
		t.Errorf("free after Close %d, want 5", b.free)
	}
	if err := kept.Release(); err != nil {
		t.Errorf("Release after Close: %v", err)
	}
	if b.free != 5 {
		t.Errorf("free after a Release of what Close gave back: %d, want 5", b.free)
	}
}

func TestCloseOnExitNeverGivesBelowZero(t *testing.T) {
	s, b := fake(t, 0, WithCloseOnExit(true))
	for range 3 {
		s.Post()
	}
	s.Wait()
	s.Close()
	if b.free != 3 {
		t.Errorf("free %d, want 3: three posts, one wait, one given back", b.free)
	}
}

func TestPlainCloseGivesNothingBack(t *testing.T) {
	s, b := fake(t, 2)
	s.Wait()
	p, err := s.TryAcquire()
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if b.free != 0 || b.closed {
		t.Fatalf("free %d, backend closed %v; want 0 and false, for the Permit's sake", b.free, b.closed)
	}
	for range 2 {
		if err := p.Release(); err != nil {
			t.Fatal(err)
		}
	}
	if b.free != 1 || !b.closed {
		t.Errorf("free %d, backend closed %v; want 1, true", b.free, b.closed)
	}
}

func TestStrict(t *testing.T) {
	s, b := fake(t, 3, WithStrict(true))
	if err := s.Post(); !errors.Is(err, ErrNotHeld) {
		t.Errorf("Post of what is not held: %v", err)
	}
	if b.posts != 0 {
		t.Error("a refused Post posted")
	}
	if err := s.Wait(); err != nil {
		t.Fatal(err)
	}
	for op, f := range map[string]func() error{
		"Wait":        s.Wait,
		"TryWait":     s.TryWait,
		"WaitTimeout": func() error { return s.WaitTimeout(time.Hour) },
		"WaitContext": func() error { return s.WaitContext(context.Background()) },
	} {
		if err := f(); !errors.Is(err, ErrHeld) {
			t.Errorf("%s while held: %v", op, err)
		}
	}
	// A Permit is counted apart from what Wait and Post of the handle take and give.
	p, err := s.TryAcquire()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Post(); err != nil {
		t.Error(err)
	}
	if err := s.Post(); !errors.Is(err, ErrNotHeld) {
		t.Errorf("Post while only a Permit is out: %v", err)
	}
	if err := s.TryWait(); err != nil {
		t.Errorf("TryWait while only a Permit is out: %v", err)
	}
	if err := p.Release(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); !errors.Is(err, ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
}

// A Wait of a strict handle that began while the handle held nothing stays in
// the queue; if the semaphore has another permit for it, the handle still takes
// only one.
func TestStrictWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b := fake(t, 0, WithStrict(true))
		errs := make(chan error, 3)
		for range 3 {
			go func() { errs <- s.Wait() }()
			synctest.Wait()
		}
		b.Post(1)
		if err := <-errs; err != nil {
			t.Error(err)
		}
		b.Post(1)
		if err := <-errs; !errors.Is(err, ErrHeld) {
			t.Errorf("second Wait, while the first's permit is held: %v, want ErrHeld", err)
		}
	})
}

func TestPostFailureKeepsThePermitHeld(t *testing.T) {
	for _, opts := range [][]Option{{WithStrict(true)}, {WithCloseOnExit(true)}} {
		s, b := fake(t, 1, opts...)
		s.Wait()
		s.back = failingPost{b}
		if err := s.Post(); !errors.Is(err, ErrOverflow) {
			t.Errorf("Post: %v", err)
		}
		s.back = b
		if got := s.held.Load(); got != 1 {
			t.Errorf("held %d after a Post that failed, want 1", got)
		}
	}
}

type failingPost struct{ engine.Backend }

func (failingPost) Post(int) error { return ErrOverflow }

// What WithCloseOnExit gives back is what was taken less what PostN gave, also if that was a part.
func TestPostNCounts(t *testing.T) {
	for _, tt := range []struct {
		name string
		post func(engine.Backend) engine.Backend
		n    int
		err  string
		held int64
	}{
		{"all given", nil, 2, "", 1},
		{"more given than held", nil, 5, "", 0},
		{"none given", func(b engine.Backend) engine.Backend { return failingPost{b} }, 2, "semaphore: value would exceed its maximum", 3},
		{"a part given", func(b engine.Backend) engine.Backend { return partPost{b, 2} }, 5, "2 of 5 were posted: semaphore: value would exceed its maximum", 1},
		{"all held given, and a part of the others", func(b engine.Backend) engine.Backend { return partPost{b, 4} }, 5, "4 of 5 were posted: semaphore: value would exceed its maximum", 0},
	} {
		s, b := fake(t, 3, WithCloseOnExit(true))
		for range 3 {
			s.Wait()
		}
		if tt.post != nil {
			s.back = tt.post(b)
		}
		err := s.PostN(tt.n)
		if tt.err == "" && err != nil || tt.err != "" && (!errors.Is(err, ErrOverflow) || err.Error() != `post "fake": `+tt.err) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if got := s.held.Load(); got != tt.held {
			t.Errorf("%s: held %d, want %d", tt.name, got, tt.held)
		}
		s.back = b
		before := b.free
		s.Close()
		if gave := b.free - before; int64(gave) != tt.held {
			t.Errorf("%s: Close gave back %d, want %d", tt.name, gave, tt.held)
		}
	}
}

// partPost posts only so many.
type partPost struct {
	engine.Backend
	most int
}

func (p partPost) Post(n int) error {
	p.Backend.Post(p.most)
	return &engine.PartlyPosted{Posted: p.most, Of: n, Err: ErrOverflow}
}

// Either PostN gives what it is to give, and Close the rest, or Close gives all.
func TestPostNAgainstClose(t *testing.T) {
	for range 500 {
		synctest.Test(t, func(t *testing.T) {
			s, b := fake(t, 5, WithCloseOnExit(true))
			for range 5 {
				s.Wait()
			}
			errs := make(chan error, 2)
			go func() { errs <- s.PostN(3) }()
			go func() { errs <- s.PostN(2) }()
			go s.Close()
			synctest.Wait()
			for range 2 {
				if err := <-errs; err != nil && !errors.Is(err, ErrClosed) {
					t.Error(err)
				}
			}
			if b.free != 5 || s.held.Load() != 0 {
				t.Errorf("free %d, held %d; want 5 and 0", b.free, s.held.Load())
			}
		})
	}
}

// A strict handle holds one at most.
func TestPostNStrict(t *testing.T) {
	s, b := fake(t, 1, WithStrict(true))
	s.Wait()
	err := s.PostN(2)
	if !errors.Is(err, ErrNotHeld) || err.Error() != `post "fake": semaphore: not held by this handle: it holds 1, and 2 were to be posted` {
		t.Error(err)
	}
	if b.posts != 0 || s.held.Load() != 1 {
		t.Errorf("%d posted, %d held after a PostN that was refused; want 0 and 1", b.posts, s.held.Load())
	}
	if err := s.PostN(1); err != nil || b.posts != 1 {
		t.Errorf("%v; %d posted, want 1", err, b.posts)
	}
}

// A Release that fails gives nothing, and can be repeated; of those that succeed only the
// first one gives.
func TestReleaseAgain(t *testing.T) {
	s, b := fake(t, 1)
	p, err := s.TryAcquire()
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error)
	releases := func(want error) {
		t.Helper()
		for range 10 {
			go func() { errs <- p.Release() }()
		}
		for range 10 {
			if err := <-errs; !errors.Is(err, want) {
				t.Errorf("Release: %v, want %v", err, want)
			}
		}
	}
	s.back = failingPost{b}
	releases(ErrOverflow)
	s.back = b
	releases(nil)
	if n, err := s.Value(); n != 1 || err != nil {
		t.Errorf("value %d, %v, want 1", n, err)
	}
	var none *Permit
	for _, p := range []*Permit{none, {}} {
		if err := p.Release(); !errors.Is(err, ErrNotHeld) {
			t.Errorf("Release of no permit: %v, want ErrNotHeld", err)
		}
	}
}

func TestPollBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fresh := 0
		var attempts []int
		o, _ := newOptions([]Option{WithBackoff(func() func(int) time.Duration {
			fresh++
			return func(attempt int) time.Duration {
				attempts = append(attempts, attempt)
				if attempt == 4 {
					return -1
				}
				return time.Duration(attempt-1) * time.Minute
			}
		})})
		s, b := fake(t, 0)
		s.opts = &o
		b.polls = true
		for range 2 {
			attempts = nil
			start := time.Now()
			err := s.Wait()
			if took := time.Since(start); took != 3*time.Minute || !errors.Is(err, ErrTimeout) {
				t.Errorf("in %v: %v; want 3m: ErrTimeout", took, err)
			}
			if diff := cmp.Diff([]int{1, 2, 3, 4}, attempts); diff != "" {
				t.Errorf("attempts (-want +got):\n%s", diff)
			}
		}
		if fresh != 2 {
			t.Errorf("%d fresh states, want one for each wait", fresh)
		}
	})
}

func TestDefaultBackoff(t *testing.T) {
	o, _ := newOptions([]Option{WithBackoff(nil)})
	var got []time.Duration
	for attempt, pause := 1, o.backoff(); attempt <= 8; attempt++ {
		got = append(got, pause(attempt)/time.Millisecond)
	}
	if diff := cmp.Diff([]time.Duration{1, 2, 4, 8, 16, 20, 20, 20}, got); diff != "" {
		t.Errorf("milliseconds (-want +got):\n%s", diff)
	}
	if got := o.backoff()(math.MaxInt); got != 20*time.Millisecond {
		t.Errorf("after very many tries: %v", got)
	}
}

func TestLogMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{
			Level: slog.LevelDebug,
			ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			},
		}))
		s, _ := fake(t, 1, WithLogger(log), WithCloseOnExit(true))
		s.Wait()
		go s.Wait()
		synctest.Wait()
		time.Sleep(3 * time.Second)
		s.Post()
		synctest.Wait()
		s.PostN(2)
		s.Wait()
		s.Close()
		var got []string
		for line := range strings.Lines(out.String()) {
			line = strings.TrimSpace(strings.NewReplacer("semaphore: ", "", `"`, "").Replace(line))
			got = append(got, line)
		}
		want := []string{
			"level=DEBUG msg=open engine=auto",
			"level=DEBUG msg=taken",
			"level=DEBUG msg=blocked",
			"level=DEBUG msg=posted",
			"level=DEBUG msg=taken waited=3s",
			"level=DEBUG msg=posted permits=2",
			"level=DEBUG msg=taken",
			"level=WARN msg=permits given back on exit or close permits=1",
			"level=DEBUG msg=closed",
		}
		// The waiter may log before Post does.
		if len(got) == len(want) && got[3] == want[4] {
			got[3], got[4] = got[4], got[3]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestOptionsAreChecked(t *testing.T) {
	for _, tt := range []struct {
		name string
		opts []Option
		want error
		text string
	}{
		{"value below 0", []Option{WithValue(-1)}, ErrInvalidValue, "-1; allowed are 0 to 2147483647"},
		{"value too large", []Option{WithValue(math.MaxInt)}, ErrInvalidValue, "allowed are 0 to 2147483647"},
		{"mode with a type bit", []Option{WithMode(1 << 31)}, ErrInvalidOption, "permission bits"},
		{"mode with setuid", []Option{WithMode(0o4600)}, ErrInvalidOption, "permission bits"},
		{"exclusive without create", []Option{WithCreate(false), WithExclusive(true)}, ErrInvalidOption, "WithCreate(true)"},
		{"nil option", []Option{WithValue(1), nil}, ErrInvalidOption, "option 2 of 2 is nil"},
		{"label too long", []Option{WithLabel(strings.Repeat("ü", 17))}, ErrInvalidOption, "it has 34 bytes; a label is UTF-8 of at most 32 bytes without NUL"},
		{"label with NUL", []Option{WithLabel("a\x00b")}, ErrInvalidOption, `WithLabel("a\x00b"): it has 3 bytes; a label is`},
		{"label that is no UTF-8", []Option{WithLabel("\xff")}, ErrInvalidOption, `WithLabel("\xff"): it has 1 bytes`},
		{"directory without a name", []Option{WithRecovery(true), WithDir("")}, ErrInvalidOption, `WithDir(""): it needs the path of a directory`},
		{"directory and libc", []Option{WithEngine(EngineLibc), WithDir("/")}, ErrInvalidOption, "WithDir and engine libc, whose semaphores are in no directory"},
		{"directory and native", []Option{WithDir("/"), WithEngine(EngineNative)}, ErrInvalidOption, "OpenLimit, WithRecovery(true), or (on Unix) WithEngine(EngineFlock)"},
		{"directory and windows", []Option{WithDir("/"), WithEngine(EngineWindows)}, ErrInvalidOption, "those of engines recoverable and flock are"},
		{"unknown engine", []Option{WithEngine(99)}, ErrInvalidOption, "Engine(99)"},
		{"negative engine", []Option{WithEngine(-1)}, ErrInvalidOption, "Engine(-1)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "value too large" && math.MaxInt == MaxValue {
				t.Skip("not on this system: an int that is too large")
			}
			_, err := Open("checked", tt.opts...)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) || !strings.HasPrefix(err.Error(), `open "checked": semaphore: `) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A handle with waiters blocks a thread, and the runtime ends a program that has too many.
func TestTooManyHandlesWait(t *testing.T) {
	for deadline := time.Now().Add(20 * time.Second); servers.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d servers of other tests", servers.Load())
		}
	}
	const most = 3
	defer func(n int64) { maxServers = n }(maxServers)
	maxServers = most
	synctest.Test(t, func(t *testing.T) {
		var waiting []*Semaphore
		for range most {
			s, _ := fake(t, 0)
			go s.Wait()
			waiting = append(waiting, s)
		}
		synctest.Wait()
		one, b := fake(t, 0)
		for range 2 {
			err := one.Wait()
			if !errors.Is(err, ErrTooManyWaiters) || !strings.Contains(err.Error(), "3, each with a blocked thread") {
				t.Errorf("Wait on one more: %v, want ErrTooManyWaiters with the number", err)
			}
		}
		if _, err := one.Acquire(t.Context()); !errors.Is(err, ErrTooManyWaiters) {
			t.Errorf("Acquire: %v, want ErrTooManyWaiters", err)
		}
		if err := one.TryWait(); !errors.Is(err, ErrWouldBlock) {
			t.Errorf("TryWait: %v, want ErrWouldBlock", err)
		}

		// More waiters of the same handles need no thread, nor do those of one that polls.
		go waiting[0].Wait()
		polling, p := fake(t, 0)
		p.polls = true
		polling.traits.Polls = true
		go polling.Wait()
		synctest.Wait()
		if n, m := waiting[0].queue.Len(), polling.queue.Len(); n != 2 || m != 1 {
			t.Errorf("%d wait on a handle with a server, %d on one that polls; want 2 and 1", n, m)
		}
		polling.Post()

		waiting[1].Post() // its server retires
		synctest.Wait()
		served := make(chan error, 1)
		go func() { served <- one.Wait() }()
		synctest.Wait()
		one.Post()
		if err := <-served; err != nil || b.posts != 0 {
			t.Errorf("Wait after a server has retired: %v, with %d posts for others; want nil and 0", err, b.posts)
		}
		for _, s := range waiting {
			s.Close()
		}
	})
	if n := servers.Load(); n != 0 {
		t.Errorf("%d servers are counted, want 0", n)
	}
}

// A signal has interrupted the server's sleep, and has ended all waits on the handle before the server
// runs. A wait that began after that goes on.
func TestFailEndsNoLaterWait(t *testing.T) {
	s := &Semaphore{back: &fakeBackend{t: t}}
	turn := &turn{s: s}
	join := func() *waitqueue.Waiter {
		w, _, err := s.queue.Join(nil, waitqueue.Wants{Number: 1}, 0)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	join()
	turn.Look()
	s.queue.DismissAll(ErrInterrupted)
	later := join()
	turn.Fail(ErrInterrupted)
	if s.queue.Idle() {
		t.Error("a wait was ended that had not begun when the server slept")
	}
	turn.Look()
	turn.Fail(ErrInterrupted)
	if !s.queue.Idle() || later.Err != ErrInterrupted {
		t.Errorf("the wait in front was not ended (%v)", later.Err)
	}
}
