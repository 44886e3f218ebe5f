// Package drivertest has the tests that every driver of a store (package [driver]) has to pass. A driver's own tests call them:
//
//	func TestDriver(t *testing.T) {
//		server := startServer(t)
//		drivertest.Run(t, drivertest.Store{Open: func(t *testing.T, name string, limit int) driver.Handle {
//			h, err := open(server, name, limit) // over a connection of its own
//			if err != nil {
//				t.Fatal(err)
//			}
//			return h
//		}})
//	}
//
// The store answers in these tests. What becomes of permits when a holder dies, the store is stopped or a request comes late is for the driver's own tests.
package drivertest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/driver"
)

// A Store is what is tested.
type Store struct {
	// Open opens a semaphore that exists or is made with that limit, as another program on another machine would: the handles share
	// nothing but the store. It is called by several tests at the same time. The tests close what it returns, and remove the semaphore.
	Open func(t *testing.T, name string, limit int) driver.Handle

	// OneMachine says that the driver is one of this machine's engines, without tokens and hosts, for comparison.
	OneMachine bool
}

// Deadline is how long a test waits for what has to happen.
const Deadline = 30 * time.Second

// Run runs the tests, as subtests of t that run in parallel, on semaphores whose names begin with "drivertest-".
func Run(t *testing.T, s Store) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *bench)
	}{
		{"Counting", counting},
		{"Numbers", numbers},
		{"Waiting", waiting},
		{"ContextEnds", contextEnds},
		{"ContextHasEnded", contextHasEnded},
		{"Order", order},
		{"TryDoesNotOvertake", tryDoesNotOvertake},
		{"Several", several},
		{"All", all},
		{"SetLimit", setLimit},
		{"LimitBelowWanted", limitBelowWanted},
		{"LimitLowersThoseAhead", limitLowersThoseAhead},
		{"Holders", holders},
		{"Grants", grants},
		{"ReleaseUnanswered", releaseUnanswered},
		{"ReleasedAtOnce", releasedAtOnce},
		{"Tokens", tokens},
		{"Close", closing},
		{"CloseAmongWaiters", closeAmongWaiters},
		{"Unlink", unlink},
		{"AtOnce", atOnce},
		{"CancelledAtOnce", cancelledAtOnce},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, &bench{t: t, store: s, name: fmt.Sprintf("drivertest-%08x", rand.Uint32())})
		})
	}
}

// A bench is one test's semaphore.
type bench struct {
	t     *testing.T
	store Store
	name  string
	limit int
}

// open opens another handle, and closes it when the test ends, if the test has not.
func (b *bench) open() *handle {
	b.t.Helper()
	h := &handle{Handle: b.store.Open(b.t, b.name, b.limit)}
	b.t.Cleanup(func() {
		_ = h.Close()
		_ = h.Unlink(context.Background()) // the last of them finds it
		h.Handle = nil                     // package testing keeps this function, and what the collector is to free must not hang on it
	})
	return h
}

// A handle may be closed more than once.
type handle struct {
	driver.Handle
	once sync.Once
	err  error
}

func (h *handle) Close() error {
	h.once.Do(func() { h.err = h.Handle.Close() })
	return h.err
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// ctx ends with the deadline of what has to happen.
func (b *bench) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), Deadline)
	b.t.Cleanup(cancel)
	return ctx
}

// take takes permits that are free.
func (b *bench) take(h driver.Handle, n int) driver.Grant {
	b.t.Helper()
	g, err := h.TryAcquire(b.ctx(), n)
	if err != nil {
		b.t.Fatalf("TryAcquire(%d): %v", n, err)
	}
	return g
}

func (b *bench) release(gs ...driver.Grant) {
	b.t.Helper()
	for _, g := range gs {
		if err := g.Release(b.ctx()); err != nil {
			b.t.Fatalf("Release: %v", err)
		}
	}
}

func (b *bench) free(h driver.Handle, want int) {
	b.t.Helper()
	if n, err := h.Value(b.ctx()); n != want || err != nil {
		b.t.Errorf("Value: %d, %v; want %d", n, err, want)
	}
}

func (b *bench) wouldBlock(h driver.Handle, n int) {
	b.t.Helper()
	if g, err := h.TryAcquire(b.ctx(), n); !errors.Is(err, semaphore.ErrWouldBlock) {
		b.t.Errorf("TryAcquire(%d): %v, %v; want ErrWouldBlock", n, g, err)
		if err == nil {
			b.release(g)
		}
	}
}

// A waiter is an Acquire in another goroutine.
type waiter struct {
	b    *bench
	stop context.CancelFunc
	done chan struct{}
	g    driver.Grant
	err  error
}

// wait begins to wait for n permits, and returns when that is seen.
func (b *bench) wait(h driver.Handle, n int) *waiter {
	b.t.Helper()
	before := b.waiters(h)
	ctx, stop := context.WithCancel(context.Background())
	w := &waiter{b: b, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.g, w.err = h.Acquire(ctx, n)
	}()
	b.t.Cleanup(func() {
		stop()
		<-w.done
		w.g = nil // as the handle in open
	})
	b.eventually("one more waits", func() bool { return b.waiters(h) == before+1 })
	return w
}

// waiters returns how many handles wait.
func (b *bench) waiters(h driver.Handle) (n int) {
	b.t.Helper()
	all, err := h.Holders(b.ctx())
	b.must(err)
	for _, each := range all {
		if each.Waiting {
			n++
		}
	}
	return n
}

func (b *bench) eventually(what string, is func() bool) {
	b.t.Helper()
	for start := time.Now(); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > Deadline {
			b.t.Fatalf("not within %v: %s", Deadline, what)
		}
	}
}

// served waits until the waiter has its permits.
func (w *waiter) served() driver.Grant {
	w.b.t.Helper()
	select {
	case <-w.done:
	case <-time.After(Deadline):
		w.b.t.Fatal("the waiter is not served")
	}
	if w.err != nil {
		w.b.t.Fatalf("Acquire: %v", w.err)
	}
	return w.g
}

// left waits until the waiter has returned without a permit, for its context has ended.
func (w *waiter) left() {
	w.b.t.Helper()
	select {
	case <-w.done:
	case <-time.After(Deadline):
		w.b.t.Fatal("the waiter goes on although its context has ended")
	}
	if !errors.Is(w.err, context.Canceled) {
		w.b.t.Errorf("Acquire: %v, %v; want context.Canceled", w.g, w.err)
	}
}

// waits reports whether the waiter waits.
func (w *waiter) waits() bool {
	select {
	case <-w.done:
		return false
	default:
		return true
	}
}

func counting(t *testing.T, b *bench) {
	b.limit = 2
	one, other := b.open(), b.open()
	if n, err := other.Limit(b.ctx()); n != 2 || err != nil {
		t.Errorf("Limit: %d, %v; want 2", n, err)
	}
	b.free(other, 2)
	first := b.take(one, 1)
	b.free(other, 1)
	second := b.take(other, 1)
	b.free(one, 0)
	b.wouldBlock(one, 1)
	b.wouldBlock(other, 1)
	b.release(first)
	b.free(other, 1)
	third := b.take(other, 1)
	b.wouldBlock(one, 1)
	b.release(second, third)
	b.free(one, 2)
}

func numbers(t *testing.T, b *bench) {
	b.limit = 2
	h := b.open()
	for what, take := range map[string]func(context.Context, int) (driver.Grant, error){"Acquire": h.Acquire, "TryAcquire": h.TryAcquire} {
		if g, err := take(b.ctx(), 3); !errors.Is(err, semaphore.ErrInvalidValue) {
			t.Errorf("%s of 3 permits of 2: %v, %v; want ErrInvalidValue", what, g, err)
		}
	}
	b.free(h, 2)
}

func waiting(t *testing.T, b *bench) {
	b.limit = 1
	one, other := b.open(), b.open()
	g := b.take(one, 1)
	w := b.wait(other, 1)
	b.release(g)
	g = w.served()
	b.wouldBlock(one, 1)
	// One that waits through the same handle.
	w = b.wait(other, 1)
	b.release(g)
	b.release(w.served())
	b.free(one, 1)
}

// A waiter whose context ends gets nothing, holds nobody up, and returns though the permit is not free.
func contextEnds(t *testing.T, b *bench) {
	b.limit = 1
	one, other := b.open(), b.open()
	g := b.take(one, 1)
	first, second := b.wait(other, 1), b.wait(b.open(), 1)
	first.stop()
	first.left()
	b.eventually("one waits", func() bool { return b.waiters(one) == 1 })
	b.release(g)
	b.release(second.served())
	b.free(other, 1)
}

func contextHasEnded(t *testing.T, b *bench) {
	b.limit = 1
	h := b.open()
	ctx, stop := context.WithCancel(context.Background())
	stop()
	for what, take := range map[string]func(context.Context, int) (driver.Grant, error){"Acquire": h.Acquire, "TryAcquire": h.TryAcquire} {
		if g, err := take(ctx, 1); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, %v; want context.Canceled", what, g, err)
		}
	}
	b.eventually("the permit is free", func() bool { n, err := h.Value(b.ctx()); return n == 1 && err == nil })
}

// Waiters are served in the order of their arrival, whichever handle they wait through.
func order(t *testing.T, b *bench) {
	b.limit = 1
	handles := []driver.Handle{b.open(), b.open(), b.open()}
	g := b.take(handles[0], 1)
	var queue []*waiter
	for i := range 9 {
		if b.store.OneMachine && i >= len(handles) {
			break // it lists a handle once, however many of its goroutines wait
		}
		queue = append(queue, b.wait(handles[i%len(handles)], 1))
	}
	for i, w := range queue {
		b.release(g)
		g = w.served()
		for j, later := range queue[i+1:] {
			if !later.waits() {
				t.Fatalf("waiter %d was served before waiter %d released", i+1+j, i)
			}
		}
	}
	b.release(g)
}

func tryDoesNotOvertake(t *testing.T, b *bench) {
	b.limit = 2
	one, other := b.open(), b.open()
	first := b.take(one, 1)
	w := b.wait(other, 2)
	b.wouldBlock(b.open(), 1) // though one is free
	b.wouldBlock(one, 1)
	b.release(first)
	b.release(w.served())
}

// One that wants several gets all or nothing, and is not starved by those that want one.
func several(t *testing.T, b *bench) {
	b.limit = 3
	one, other := b.open(), b.open()
	first, second, third := b.take(one, 1), b.take(one, 1), b.take(one, 1)
	w := b.wait(other, 2)
	behind := b.wait(b.open(), 1)
	b.release(first)
	if !w.waits() || !behind.waits() {
		t.Fatal("served by one permit, where two are wanted, or before that")
	}
	b.wouldBlock(one, 1)
	b.release(second)
	g := w.served()
	if !behind.waits() {
		t.Fatal("three permits are held and one more")
	}
	b.release(third)
	b.release(behind.served())
	b.free(one, 1)
	b.release(g)
	b.free(one, 3)
	b.release(b.take(other, 3))
}

func all(t *testing.T, b *bench) {
	b.limit = 3
	one, other := b.open(), b.open()
	first := b.take(one, 1)
	b.wouldBlock(other, semaphore.All)
	w := b.wait(other, semaphore.All)
	b.release(first)
	g := w.served()
	b.free(one, 0)
	b.wouldBlock(one, 1)
	b.release(g)
	b.free(one, 3)
	b.release(b.take(one, semaphore.All))
}

func setLimit(t *testing.T, b *bench) {
	b.limit = 1
	one, other := b.open(), b.open()
	first := b.take(one, 1)
	second, third := b.wait(other, 1), b.wait(b.open(), 1)
	b.must(one.SetLimit(b.ctx(), 3))
	gs := []driver.Grant{first, second.served(), third.served()}
	b.free(one, 0)
	b.must(other.SetLimit(b.ctx(), 1))
	if n, err := one.Limit(b.ctx()); n != 1 || err != nil {
		t.Errorf("Limit: %d, %v; want 1", n, err)
	}
	for _, g := range gs {
		if !g.Valid() {
			t.Error("a lower limit has taken a permit from its holder")
		}
	}
	w := b.wait(one, 1)
	b.release(gs[0], gs[1])
	b.wouldBlock(other, 1)
	if !w.waits() {
		t.Fatal("served above the limit")
	}
	b.release(gs[2])
	b.release(w.served())
	b.must(one.SetLimit(b.ctx(), 0))
	b.wouldBlock(other, 1)
	b.free(other, 0)
	w = b.wait(other, 1)
	b.must(one.SetLimit(b.ctx(), 1))
	b.release(w.served())
	if err := one.SetLimit(b.ctx(), -1); !errors.Is(err, semaphore.ErrInvalidValue) {
		t.Errorf("SetLimit(-1): %v; want ErrInvalidValue", err)
	}
}

// One that wants more than there are goes on waiting, and keeps none from the others.
func limitBelowWanted(t *testing.T, b *bench) {
	b.limit = 3
	one, other := b.open(), b.open()
	g := b.take(one, 2)
	w := b.wait(other, 3)
	b.must(one.SetLimit(b.ctx(), 2))
	b.release(g)
	next, err := b.open().Acquire(b.ctx(), 1)
	b.must(err)
	b.release(next)
	if !w.waits() {
		t.Fatal("three permits of two were given")
	}
	b.must(one.SetLimit(b.ctx(), 3))
	b.release(w.served())
}

// One that waits behind another one, which then wants more than there are, is served.
func limitLowersThoseAhead(t *testing.T, b *bench) {
	b.limit = 3
	one, other, last := b.open(), b.open(), b.open()
	g := b.take(one, 2)
	ahead := b.wait(other, 3)
	behind := b.wait(last, 1)
	b.must(one.SetLimit(b.ctx(), 2))
	b.release(g)
	start := time.Now()
	b.release(behind.served())
	if d := time.Since(start); d > Deadline/3 {
		t.Errorf("served after %v only: it was not told of the limit", d)
	}
	if !ahead.waits() {
		t.Fatal("three permits of two were given")
	}
	b.must(one.SetLimit(b.ctx(), 3))
	b.release(ahead.served())
}

func holders(t *testing.T, b *bench) {
	b.limit = 3
	one, other := b.open(), b.open()
	if all, err := one.Holders(b.ctx()); len(all) != 0 || err != nil {
		t.Errorf("Holders: %v, %v; want none", all, err)
	}
	// What is free is had without waiting: the first time, and again.
	for range 2 {
		g, err := one.Acquire(b.ctx(), 1)
		b.must(err)
		all, err := one.Holders(b.ctx())
		b.must(err)
		if len(all) != 1 || !all[0].Arrived.IsZero() {
			t.Errorf("Holders: %+v; want one that did not wait", all)
		}
		b.release(g)
	}
	g := b.take(one, 2)
	w := b.wait(other, 2)
	all, err := b.open().Holders(b.ctx())
	b.must(err)
	if len(all) != 2 {
		t.Fatalf("Holders: %+v; want one that holds and one that waits", all)
	}
	if h := all[0]; h.Permits != 2 || h.Waiting || h.Want != 0 {
		t.Errorf("the holder: %+v; want 2 permits", h)
	}
	if h := all[1]; !h.Waiting || h.Want != 2 {
		t.Errorf("the waiter: %+v; want one of 2 permits", h)
	}
	for _, h := range all {
		if h.PID == 0 || h.Host == "" && !b.store.OneMachine {
			t.Errorf("%+v; want host and process", h)
		}
	}
	b.release(g)
	b.release(w.served())
}

func grants(t *testing.T, b *bench) {
	b.limit = 2
	h := b.open()
	g, other := b.take(h, 1), b.take(h, 1)
	if !g.Valid() {
		t.Error("not valid")
	}
	b.release(g)
	if g.Valid() {
		t.Error("valid after Release")
	}
	b.release(g) // gives nothing
	b.free(h, 1)
	if !other.Valid() {
		t.Error("another one's Release has ended it")
	}
	for _, each := range []driver.Grant{g, other} {
		select {
		case <-each.Lost():
			t.Error("lost")
		default:
		}
	}
	b.release(other)
}

// A Release whose context ends may have given back: it is not valid any more, and is released in the end.
func releaseUnanswered(t *testing.T, b *bench) {
	b.limit = 1
	one, other := b.open(), b.open()
	g := b.take(one, 1)
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if err := g.Release(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Release: %v; want nil or context.Canceled", err)
	}
	if g.Valid() {
		t.Error("valid after Release has begun")
	}
	b.release(g)
	b.release(b.take(other, 1))
}

func releasedAtOnce(t *testing.T, b *bench) {
	b.limit = 2
	h := b.open()
	g, kept := b.take(h, 1), b.take(h, 1)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := g.Release(b.ctx()); err != nil {
				t.Errorf("Release: %v", err)
			}
			if n, err := h.Value(b.ctx()); n != 1 || err != nil {
				t.Errorf("Value after Release: %d, %v; want 1", n, err)
			}
		})
	}
	wg.Wait()
	b.release(kept)
}

func tokens(t *testing.T, b *bench) {
	if b.store.OneMachine {
		t.Skip("no tokens on one machine")
	}
	b.limit = 2
	one, other := b.open(), b.open()
	var last int64
	next := func(g driver.Grant) driver.Grant {
		t.Helper()
		if g.Token() <= last {
			t.Errorf("token %d after %d", g.Token(), last)
		}
		last = g.Token()
		return g
	}
	first, second := next(b.take(one, 1)), next(b.take(other, 1))
	w := b.wait(one, 1)
	b.release(first)
	first = next(w.served())
	b.release(second)
	b.release(next(b.take(one, 1)), first)
}

// Close gives back all that the handle holds, and nothing of others.
func closing(t *testing.T, b *bench) {
	b.limit = 3
	one, other := b.open(), b.open()
	g := b.take(one, 1)
	b.take(one, 1)
	kept := b.take(other, 1)
	w := b.wait(other, 1)
	b.must(one.Close())
	got := w.served()
	b.free(other, 1)
	if g.Valid() {
		t.Error("valid after Close")
	}
	if !kept.Valid() {
		t.Error("another handle's Close has ended it")
	}
	b.release(kept, got)
	b.free(other, 3)
}

func closeAmongWaiters(t *testing.T, b *bench) {
	b.limit = 1
	one, other, last := b.open(), b.open(), b.open()
	b.take(one, 1)
	w, behind := b.wait(other, 1), b.wait(last, 1)
	w.stop()
	w.left()
	b.must(other.Close())
	b.must(one.Close())
	b.release(behind.served())
}

func unlink(t *testing.T, b *bench) {
	b.limit = 1
	h := b.open()
	b.must(h.Close())
	b.must(h.Unlink(b.ctx()))
	if err := h.Unlink(b.ctx()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Unlink again: %v; want fs.ErrNotExist", err)
	}
	b.limit = 2
	again := b.open()
	if n, err := again.Limit(b.ctx()); n != 2 || err != nil {
		t.Errorf("Limit of the next semaphore of that name: %d, %v; want 2", n, err)
	}
}

// Many take and give at the same time, one, several and all.
func atOnce(t *testing.T, b *bench) {
	b.limit = 3
	var inside atomic.Int64
	var wg sync.WaitGroup
	for i := range 6 {
		h := b.open()
		wg.Go(func() {
			for j := range 8 {
				n := 1 + (i+j)%4
				weight := int64(n)
				if n == 4 {
					n, weight = semaphore.All, 3
				}
				g, err := h.Acquire(b.ctx(), n)
				if err != nil {
					t.Errorf("Acquire(%d): %v", n, err)
					return
				}
				if now := inside.Add(weight); now > 3 {
					t.Errorf("%d permits of 3 are held", now)
				}
				inside.Add(-weight)
				if err := g.Release(b.ctx()); err != nil {
					t.Errorf("Release: %v", err)
				}
			}
		})
	}
	wg.Wait()
	b.free(b.open(), 3)
}

// Whenever a context ends, no permit stays behind.
func cancelledAtOnce(t *testing.T, b *bench) {
	b.limit = 1
	var wg sync.WaitGroup
	for range 4 {
		h := b.open()
		wg.Go(func() {
			for range 20 {
				ctx, stop := context.WithTimeout(context.Background(), time.Duration(rand.Int64N(int64(5*time.Millisecond))))
				switch g, err := h.Acquire(ctx, 1); {
				case err == nil:
					if err := g.Release(b.ctx()); err != nil {
						t.Errorf("Release: %v", err)
					}
				case !errors.Is(err, context.DeadlineExceeded):
					t.Errorf("Acquire: %v", err)
				}
				stop()
			}
		})
	}
	wg.Wait()
	h := b.open()
	b.eventually("the permit is free", func() bool { n, err := h.Value(b.ctx()); return n == 1 && err == nil })
	b.eventually("nobody waits", func() bool { return b.waiters(h) == 0 })
}
