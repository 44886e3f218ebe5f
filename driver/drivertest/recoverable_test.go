//go:build unix || windows

package drivertest_test

import (
	"context"
	"testing"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/driver"
	"github.com/procsem/semaphore/driver/drivertest"
	"github.com/procsem/semaphore/internal/testkit"
)

// The recoverable engine, which has all but tokens and losses, is what a driver is like.
func TestRecoverable(t *testing.T) {
	testkit.NeedEngine(t, semaphore.EngineRecoverable)
	testkit.Patience(t)
	dir := testkit.TempDir(t)
	drivertest.Run(t, drivertest.Store{OneMachine: true, Open: func(t *testing.T, name string, limit int) driver.Handle {
		s, err := semaphore.OpenLimit(name, limit, semaphore.WithDir(dir))
		if err != nil {
			t.Fatal(err)
		}
		return handle{s}
	}})
}

// handle makes a driver.Handle of a semaphore.
type handle struct{ s *semaphore.Semaphore }

func (h handle) TryAcquire(ctx context.Context, n int) (driver.Grant, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p, err := h.s.TryAcquireN(n)
	return grant{p}, err
}

func (h handle) Acquire(ctx context.Context, n int) (driver.Grant, error) {
	p, err := h.s.AcquireN(ctx, n)
	return grant{p}, err
}

func (h handle) Value(context.Context) (int, error)      { return h.s.Value() }
func (h handle) Limit(context.Context) (int, error)      { return h.s.Limit() }
func (h handle) SetLimit(_ context.Context, n int) error { return h.s.SetLimit(n) }
func (h handle) Unlink(context.Context) error            { return h.s.Unlink() }
func (h handle) Close() error                            { return h.s.Close() }

func (h handle) Holders(context.Context) ([]driver.Holder, error) {
	all, err := h.s.Holders()
	var holders []driver.Holder
	for _, waits := range []bool{false, true} {
		for _, h := range all {
			if h.Waiting == waits {
				holders = append(holders, driver.Holder{Host: h.Host, PID: h.PID, Label: h.Label, Permits: h.Permits, Waiting: h.Waiting, Want: h.Want, Since: h.Since})
			}
		}
	}
	return holders, err
}

// grant makes a driver.Grant of a permit.
type grant struct{ p *semaphore.Permit }

func (g grant) Release(context.Context) error { return g.p.Release() }
func (g grant) Valid() bool                   { return g.p.Err() == nil }
func (g grant) Lost() <-chan struct{}         { return g.p.Lost() }
func (g grant) Token() int64                  { return 1 }
