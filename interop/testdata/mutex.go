// The adapter for github.com/juju/mutex/v2, in the place of its mutex_flock.go. What
// checks the Spec stays theirs.

package mutex

import (
	"context"
	"errors"
	"time"

	"github.com/procsem/semaphore"
)

// acquire takes a free mutex whatever the timeout: the tests' clock ends it at once.
func acquire(spec Spec, timeout <-chan time.Time) (Releaser, error) {
	s, err := semaphore.OpenLimit("juju-"+spec.Name, 1)
	if err != nil {
		return nil, err
	}
	p, err := s.TryAcquire()
	if errors.Is(err, semaphore.ErrWouldBlock) {
		p, err = wait(s, timeout, spec.Cancel)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return &mutex{s: s, p: p}, nil
}

func wait(s *semaphore.Semaphore, timeout <-chan time.Time, cancelled <-chan struct{}) (*semaphore.Permit, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	go func() {
		select {
		case <-timeout:
			cancel(ErrTimeout)
		case <-cancelled:
			cancel(ErrCancelled)
		case <-ctx.Done():
		}
	}()
	p, err := s.Acquire(ctx)
	if err != nil && err == ctx.Err() {
		err = context.Cause(ctx)
	}
	return p, err
}

type mutex struct {
	s *semaphore.Semaphore
	p *semaphore.Permit
}

// Release may be called again, as a Permit's and Close may.
func (m *mutex) Release() {
	if err := errors.Join(m.p.Release(), m.s.Close()); err != nil {
		panic(err)
	}
}

// Environment is what the tests put into envars: semaphores have no use for it.
type Environment interface {
	LookupEnv(string) (string, bool)
	Getenv(string) string
}

var envars Environment
