// The adapter for golang.org/x/sync/semaphore, in the place of its semaphore.go.

package semaphore

import (
	"context"
	"crypto/rand"
	"errors"

	procsem "github.com/procsem/semaphore"
)

// A Weighted is two semaphores without a name. The permits are taken only by a
// goroutine that has the gate: so two that take several never wait for each other, and
// none overtakes them. That there is a limit of 0 is what SetLimit is for.
type Weighted struct {
	size          int64
	gate, permits *procsem.Semaphore
}

func NewWeighted(n int64) *Weighted {
	if n < 0 {
		panic("semaphore: size < 0")
	}
	w := &Weighted{size: n, gate: nameless(1), permits: nameless(max(n, 1))}
	if n == 0 {
		must(w.permits.SetLimit(0))
	}
	return w
}

func nameless(limit int64) *procsem.Semaphore {
	s, err := procsem.OpenLimit("weighted-"+rand.Text(), int(limit))
	must(err)
	must(s.Unlink())
	return s
}

func (w *Weighted) Acquire(ctx context.Context, n int64) error {
	check(n)
	if n > w.size {
		<-ctx.Done() // and hinders no other
		return ctx.Err()
	}
	if err := w.gate.WaitContext(ctx); err != nil {
		return err
	}
	defer func() { must(w.gate.Post()) }()
	return w.take(n, func() error { return w.permits.WaitContext(ctx) })
}

func (w *Weighted) TryAcquire(n int64) bool {
	check(n)
	err := w.gate.TryWait()
	if err == nil {
		defer func() { must(w.gate.Post()) }()
		err = w.take(n, w.permits.TryWait)
	}
	if err != nil && !errors.Is(err, procsem.ErrWouldBlock) {
		panic(err)
	}
	return err == nil
}

// take takes n permits or none.
func (w *Weighted) take(n int64, wait func() error) error {
	for i := range n {
		if err := wait(); err != nil {
			w.Release(i)
			return err
		}
	}
	return nil
}

// Release panics where Post has nothing to give.
func (w *Weighted) Release(n int64) {
	check(n)
	for range n {
		must(w.permits.Post())
	}
}

func check(n int64) {
	if n < 0 {
		panic("semaphore: n < 0")
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
