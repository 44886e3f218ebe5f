package driver_test

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/driver"
	"github.com/procsem/semaphore/driver/drivertest"
)

// A fakeStore is a driver.Handle whose answers a test decides. What drivers have to do is tested by drivertest.
type fakeStore struct {
	driver.Handle // nil: what is not here is not called
	acquire       func(context.Context) (driver.Grant, error)
	calls, closed atomic.Int32
	closeErr      error
	t             *testing.T
}

func (f *fakeStore) Acquire(ctx context.Context, _ int) (driver.Grant, error) {
	f.calls.Add(1)
	defer f.calls.Add(-1)
	return f.acquire(ctx)
}

func (f *fakeStore) TryAcquire(ctx context.Context, n int) (driver.Grant, error) {
	return f.Acquire(ctx, n)
}

func (f *fakeStore) Value(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() }
func (f *fakeStore) Unlink(context.Context) error           { return fs.ErrNotExist }

func (f *fakeStore) Close() error {
	if f.closed.Add(1) != 1 || f.calls.Load() != 0 {
		f.t.Error("Close of the driver's handle is called twice, or while a call is in progress")
	}
	return f.closeErr
}

// A fakeGrant is one whose state a test decides.
type fakeGrant struct {
	mu       sync.Mutex
	err      error // of Release
	released int
	lost     chan struct{}
}

func (g *fakeGrant) Release(context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.released++
	return g.err
}

func (g *fakeGrant) times() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.released
}

func (g *fakeGrant) Valid() bool {
	select {
	case <-g.lost:
		return false
	default:
		return true
	}
}

func (g *fakeGrant) Lost() <-chan struct{} { return g.lost }
func (g *fakeGrant) Token() int64          { return 7 }

// ofStore returns a semaphore whose store gives grants.
func ofStore(t *testing.T, opts ...semaphore.Option) (*semaphore.Semaphore, *fakeStore) {
	t.Helper()
	f := &fakeStore{t: t, acquire: func(context.Context) (driver.Grant, error) {
		return &fakeGrant{lost: make(chan struct{})}, nil
	}}
	s, err := semaphore.FromDriver("stored", f, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, f
}

// The driver of the example does all that drivers have to do.
func TestExample(t *testing.T) {
	var mu sync.Mutex
	stores := make(map[string]*store)
	drivertest.Run(t, drivertest.Store{Open: func(_ *testing.T, name string, limit int) driver.Handle {
		mu.Lock()
		defer mu.Unlock()
		if stores[name] == nil {
			stores[name] = new(store)
		}
		return stores[name].open(limit)
	}})
}

func TestFromDriverChecks(t *testing.T) {
	h := &fakeStore{t: t}
	for what, tt := range map[string]struct {
		name string
		h    driver.Handle
		opt  semaphore.Option
		want error
	}{
		"no name":    {"", h, nil, semaphore.ErrInvalidName},
		"no handle":  {"x", nil, nil, semaphore.ErrInvalidValue},
		"value":      {"x", h, semaphore.WithValue(1), semaphore.ErrInvalidOption},
		"recovery":   {"x", h, semaphore.WithRecovery(true), semaphore.ErrInvalidOption},
		"engine":     {"x", h, semaphore.WithEngine(semaphore.EngineFlock), semaphore.ErrInvalidOption},
		"directory":  {"x", h, semaphore.WithDir("/"), semaphore.ErrInvalidOption},
		"creation":   {"x", h, semaphore.WithCreate(false), semaphore.ErrInvalidOption},
		"exclusive":  {"x", h, semaphore.WithExclusive(true), semaphore.ErrInvalidOption},
		"mode":       {"x", h, semaphore.WithMode(0o666), semaphore.ErrInvalidOption},
		"signals":    {"x", h, semaphore.WithRetryOnEINTR(false), semaphore.ErrInvalidOption},
		"strict":     {"x", h, semaphore.WithStrict(true), semaphore.ErrInvalidOption},
		"label":      {"x", h, semaphore.WithLabel("x"), semaphore.ErrInvalidOption},
		"backoff":    {"x", h, semaphore.WithBackoff(func() func(int) time.Duration { return nil }), semaphore.ErrInvalidOption},
		"nil option": {"x", h, nil, semaphore.ErrInvalidOption},
	} {
		var opts []semaphore.Option
		if tt.opt != nil || what == "nil option" {
			opts = append(opts, tt.opt)
		}
		s, err := semaphore.FromDriver(tt.name, tt.h, opts...)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, %v; want %v", what, s, err, tt.want)
		}
	}
	if h.closed.Load() != 0 {
		t.Error("an error has closed the handle")
	}
	for what, err := range map[string]error{
		"Open":   func() error { _, err := semaphore.Open("x", semaphore.WithEngine(semaphore.EngineDriver)); return err }(),
		"Unlink": semaphore.Unlink("x", semaphore.WithEngine(semaphore.EngineDriver)),
	} {
		if !errors.Is(err, semaphore.ErrInvalidOption) {
			t.Errorf("%s with EngineDriver: %v; want ErrInvalidOption", what, err)
		}
	}
}

// What would have nobody to tell of a loss is refused.
func TestStoredHasPermitsOnly(t *testing.T) {
	s, _ := ofStore(t)
	if s.Engine() != semaphore.EngineDriver || s.Name() != "stored" {
		t.Errorf("engine %v, name %q", s.Engine(), s.Name())
	}
	for what, call := range map[string]func() error{
		"Wait":        s.Wait,
		"WaitContext": func() error { return s.WaitContext(t.Context()) },
		"WaitTimeout": func() error { return s.WaitTimeout(time.Second) },
		"TryWait":     s.TryWait,
		"Post":        s.Post,
		"PostN":       func() error { return s.PostN(2) },
		"LockFile":    func() error { _, err := s.LockFile(); return err },
		"Lock": func() (err error) {
			defer func() { err, _ = recover().(error) }()
			s.Locker().Lock()
			return nil
		},
	} {
		if err := call(); !errors.Is(err, semaphore.ErrUnsupported) {
			t.Errorf("%s: %v; want ErrUnsupported", what, err)
		}
	}
	if err := s.Unlink(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Unlink: %v; want that of the driver", err)
	}
	for _, n := range []int{0, -2} {
		if p, err := s.AcquireN(t.Context(), n); !errors.Is(err, semaphore.ErrInvalidValue) {
			t.Errorf("AcquireN(%d): %v, %v; want ErrInvalidValue", n, p, err)
		}
	}
}

func TestStoredPermit(t *testing.T) {
	s, f := ofStore(t)
	g := &fakeGrant{lost: make(chan struct{})}
	f.acquire = func(context.Context) (driver.Grant, error) { return g, nil }
	p, err := s.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p.Err() != nil || p.Lost() != (<-chan struct{})(g.lost) || p.Token() != 7 || p.Slots() != nil {
		t.Errorf("Err %v, Lost %v, Token %d, Slots %v", p.Err(), p.Lost(), p.Token(), p.Slots())
	}
	other := &fakeGrant{lost: make(chan struct{})}
	f.acquire = func(context.Context) (driver.Grant, error) { return other, nil }
	q, err := s.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	close(other.lost)
	if err := q.Err(); !errors.Is(err, semaphore.ErrLost) {
		t.Errorf("Err: %v; want ErrLost", err)
	}
	g.err = errors.New("no answer")
	for range 2 {
		if err := p.Release(); !errors.Is(err, g.err) {
			t.Errorf("Release: %v; want %v", err, g.err)
		}
	}
	if err := p.Err(); !errors.Is(err, semaphore.ErrNotHeld) {
		t.Errorf("Err after a Release that has failed: %v; want ErrNotHeld, for who knows", err)
	}
	g.err = semaphore.ErrLost
	for range 2 {
		if err := p.Release(); !errors.Is(err, semaphore.ErrLost) {
			t.Errorf("Release: %v; want ErrLost", err)
		}
	}
	if err := p.Err(); !errors.Is(err, semaphore.ErrLost) {
		t.Errorf("Err: %v; want ErrLost", err)
	}
	g.err = nil
	for range 2 {
		if err := p.Release(); err != nil {
			t.Errorf("Release: %v", err)
		}
	}
	if err := p.Err(); !errors.Is(err, semaphore.ErrNotHeld) {
		t.Errorf("Err after Release: %v; want ErrNotHeld", err)
	}
	if g.times() != 5 {
		t.Errorf("the driver's Release was called %d times; want 5", g.times())
	}
}

// A permit that comes when the context has ended goes back, and the end is not kept waiting by that.
func TestStoredPermitAfterContextEnded(t *testing.T) {
	s, f := ofStore(t)
	g := &fakeGrant{lost: make(chan struct{})}
	ctx, stop := context.WithCancel(t.Context())
	f.acquire = func(context.Context) (driver.Grant, error) { stop(); return g, nil }
	if p, err := s.Acquire(ctx); err != context.Canceled {
		t.Errorf("Acquire: %v, %v; want the bare context.Canceled", p, err)
	}
	if err := s.Close(); err != nil { // waits for that
		t.Error(err)
	}
	if g.times() != 1 {
		t.Errorf("released %d times; want once", g.times())
	}
}

// Close ends calls that wait for the store, and the driver's Close comes after them.
func TestStoredClose(t *testing.T) {
	s, f := ofStore(t)
	f.closeErr = errors.New("no answer")
	held, err := s.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	inside := make(chan struct{}, 2)
	f.acquire = func(ctx context.Context) (driver.Grant, error) {
		inside <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	errs := make(chan error, 3)
	go func() { _, err := s.Acquire(context.Background()); errs <- err }()
	go func() { _, err := s.TryAcquire(); errs <- err }()
	go func() { _, err := s.Value(); errs <- err }()
	<-inside
	<-inside
	for range 2 {
		if err := s.Close(); !errors.Is(err, f.closeErr) {
			t.Errorf("Close: %v; want %v", err, f.closeErr)
		}
	}
	for range 3 {
		if err := <-errs; !errors.Is(err, semaphore.ErrClosed) {
			t.Errorf("a call in progress: %v; want ErrClosed", err)
		}
	}
	if f.closed.Load() != 1 {
		t.Errorf("the driver's Close was called %d times", f.closed.Load())
	}
	if err := held.Release(); err != nil {
		t.Errorf("Release after Close: %v", err)
	}
	if err := held.Err(); !errors.Is(err, semaphore.ErrNotHeld) {
		t.Errorf("Err after Close: %v; want ErrNotHeld", err)
	}
	if _, err := s.Acquire(t.Context()); !errors.Is(err, semaphore.ErrClosed) {
		t.Errorf("Acquire after Close: %v; want ErrClosed", err)
	}
}
