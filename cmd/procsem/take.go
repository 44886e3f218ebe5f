package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/procsem/semaphore"
)

// A patience is how long to wait for a permit, and the exit status after that.
type patience struct {
	limit  time.Duration // or forEver
	status int
}

const forEver time.Duration = -1

func (p patience) exhausted(name string) error {
	if p.limit == 0 {
		return &failure{p.status, fmt.Errorf("no permit of %q is free", name)}
	}
	return &failure{p.status, fmt.Errorf("no permit of %q within %v", name, p.limit)}
}

// take waits for a permit. A signal of endSignals ends the wait with the error
// signalled, and no permit is held then.
func take(s *semaphore.Semaphore, p patience, w *watcher) (*semaphore.Permit, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	type result struct {
		permit *semaphore.Permit
		err    error
	}
	done := make(chan result, 1)
	go func() {
		permit, err := acquire(ctx, s, p)
		done <- result{permit, err}
	}()

	var ended os.Signal
	for {
		select {
		case sig := <-w.arrived:
			if !ends(sig) {
				w.early = append(w.early, sig)
			} else if ended == nil {
				ended = sig
				cancel()
			}
		case r := <-done:
			switch {
			case ended == nil:
				return r.permit, r.err
			case r.permit != nil:
				// The permit came at the moment of the signal.
				if err := r.permit.Release(); err != nil {
					return nil, err
				}
			}
			return nil, signalled{ended}
		}
	}
}

func acquire(ctx context.Context, s *semaphore.Semaphore, p patience) (*semaphore.Permit, error) {
	if p.limit != forEver {
		// A free permit is taken, however short the timeout is.
		permit, err := s.TryAcquire()
		if !errors.Is(err, semaphore.ErrWouldBlock) {
			return permit, err
		}
		if p.limit == 0 {
			return nil, p.exhausted(s.Name())
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.limit)
		defer cancel()
	}
	permit, err := s.Acquire(ctx)
	if err == context.DeadlineExceeded {
		err = p.exhausted(s.Name())
	}
	return permit, err
}
