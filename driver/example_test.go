package driver_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/driver"
)

// A driver in full, of a store that is in the memory of one process: it always answers, and loses what lose says.
func Example() {
	var builds store
	ctx := context.Background()
	s, err := open(&builds, 1)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	p, err := s.Acquire(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("token", p.Token(), p.Err())

	lost := p
	builds.lose() // as if the holder had stood still for too long
	<-lost.Lost()
	p, err = s.Acquire(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("token", p.Token(), p.Err())
	fmt.Println(errors.Is(lost.Err(), semaphore.ErrLost), errors.Is(lost.Release(), semaphore.ErrLost))
	// Output:
	// token 1 <nil>
	// token 2 <nil>
	// true true
}

// open is what the package of a store has for programs.
func open(in *store, limit int) (*semaphore.Semaphore, error) {
	return semaphore.FromDriver("builds", in.open(limit))
}

// A store has one semaphore. Whoever calls free, serve, join or end has locked it.
type store struct {
	mu      sync.Mutex
	exists  bool
	limit   int
	line    []*grant // that wait, in the order of their arrival
	holders []*grant
	token   int64
}

// memory implements driver.Handle: one for each call of open.
type memory struct{ *store }

// grant implements driver.Grant.
type grant struct {
	of             *memory
	n              int           // wanted, and then held
	given          chan struct{} // closed then
	arrived, since time.Time
	token          int64
	lost           chan struct{}
	ended          bool // released or lost
}

func (s *store) open(limit int) driver.Handle {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.exists {
		s.exists, s.limit = true, limit
	}
	return &memory{s}
}

func (s *store) free() int {
	n := s.limit
	for _, g := range s.holders {
		n -= g.n
	}
	return n
}

// serve gives permits to those in front, until there are too few for the next one. Whoever wants more than there
// are is passed.
func (s *store) serve() {
	for i := 0; i < len(s.line); {
		g := s.line[i]
		n := g.n
		if n == semaphore.All {
			n = max(s.limit, 1)
		}
		switch {
		case n > s.limit:
			i++
		case n > s.free():
			return
		default:
			s.token++
			g.n, g.token, g.since = n, s.token, time.Now()
			s.line = slices.Delete(s.line, i, i+1)
			s.holders = append(s.holders, g)
			close(g.given)
		}
	}
}

// join puts a grant in the line.
func (h *memory) join(ctx context.Context, n int) (*grant, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if n > 1 && n > h.limit {
		return nil, semaphore.ErrInvalidValue
	}
	g := &grant{of: h, n: n, given: make(chan struct{}), lost: make(chan struct{})}
	h.line = append(h.line, g)
	h.serve()
	return g, nil
}

// end takes a grant out of the line or from the holders.
func (g *grant) end() {
	is := func(other *grant) bool { return other == g }
	g.ended = true
	g.of.line = slices.DeleteFunc(g.of.line, is)
	g.of.holders = slices.DeleteFunc(g.of.holders, is)
	g.of.serve()
}

func (s *store) lose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range slices.Clone(s.holders) {
		close(g.lost)
		g.end()
	}
}

func (h *memory) TryAcquire(ctx context.Context, n int) (driver.Grant, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	g, err := h.join(ctx, n)
	if err != nil {
		return nil, err
	}
	if g.since.IsZero() {
		g.end()
		return nil, semaphore.ErrWouldBlock
	}
	return g, nil
}

func (h *memory) Acquire(ctx context.Context, n int) (driver.Grant, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	g, err := h.join(ctx, n)
	if err != nil {
		return nil, err
	}
	if !g.since.IsZero() {
		return g, nil
	}
	g.arrived = time.Now()
	h.mu.Unlock()
	select {
	case <-g.given:
	case <-ctx.Done():
		err = ctx.Err()
	}
	h.mu.Lock()
	if err != nil { // it may have been given at the same moment
		g.end()
		return nil, err
	}
	return g, nil
}

func (h *memory) Value(context.Context) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return max(0, h.free()), nil
}

func (h *memory) Limit(context.Context) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.limit, nil
}

func (h *memory) SetLimit(_ context.Context, n int) error {
	if n < 0 {
		return semaphore.ErrInvalidValue
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.limit = n
	h.serve()
	return nil
}

func (h *memory) Holders(context.Context) ([]driver.Holder, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	host, err := os.Hostname()
	var all []driver.Holder
	for _, g := range h.holders {
		all = append(all, driver.Holder{Host: host, PID: os.Getpid(), Permits: g.n, Arrived: g.arrived, Since: g.since})
	}
	for _, g := range h.line {
		all = append(all, driver.Holder{Host: host, PID: os.Getpid(), Waiting: true, Want: g.n, Arrived: g.arrived})
	}
	return all, err
}

func (h *memory) Unlink(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !h.exists:
		return fs.ErrNotExist
	case len(h.line) > 0 || len(h.holders) > 0:
		return errors.New("it is in use")
	}
	h.exists = false
	return nil
}

func (h *memory) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, g := range slices.Clone(h.holders) {
		if g.of == h {
			g.end()
		}
	}
	return nil
}

func (g *grant) Release(context.Context) error {
	g.of.mu.Lock()
	defer g.of.mu.Unlock()
	select {
	case <-g.lost:
		return semaphore.ErrLost
	default:
	}
	if !g.ended {
		g.end()
	}
	return nil
}

func (g *grant) Valid() bool {
	g.of.mu.Lock()
	defer g.of.mu.Unlock()
	return !g.ended
}

func (g *grant) Lost() <-chan struct{} { return g.lost }
func (g *grant) Token() int64          { return g.token }
