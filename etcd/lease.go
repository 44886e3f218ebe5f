package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A lease is what the handle's entries are under. Its holder reckons by its own clock until when it surely lasts: from before
// the last renewal that was acknowledged was sent. The store may end it earlier than it has promised (a leader that was stopped does, which has not heard of
// renewals). But it acknowledges no renewal after that, or no more than an election timeout after that, so the holder's time is
// over at most the lease's time later: all that must not be given to others before that waits for the loss delay.
type lease struct {
	id       clientv3.LeaseID
	ttl      time.Duration
	deadline atomic.Int64 // by latest
	gone     atomic.Bool  // the store has said so
	ids      int          // made so far
	free     []string     // those that are not used any more
	lost     chan struct{}
	lose     func() // closes lost, once
}

// grantLease makes a lease. It is kept alive until ctx ends or it is lost.
func (h *handle) grantLease(ctx context.Context) (*lease, error) {
	// etcd may make it longer than was asked for (it has a least time of its own). The loss delay is reckoned from what was asked for.
	sent := latest()
	got, err := h.client.Grant(ctx, int64((h.ttl+time.Second-1)/time.Second))
	if err != nil {
		return nil, err
	}
	l := &lease{id: got.ID, ttl: min(h.ttl, time.Duration(got.TTL)*time.Second), lost: make(chan struct{})}
	l.lose = sync.OnceFunc(func() {
		l.gone.Store(true)
		close(l.lost)
		h.loseAll(l)
	})
	l.deadline.Store(int64(sent + l.ttl))
	h.background.Go(func() { h.keep(l) })
	return l, nil
}

// valid reports whether the lease lasts, as of now.
func (l *lease) valid() bool { return !l.gone.Load() && int64(latest()) < l.deadline.Load() }

// left returns how long it lasts at least.
func (l *lease) left() time.Duration { return time.Duration(l.deadline.Load()) - latest() }

// renewals is how often a lease is renewed in its time, so that a renewal may fail. One that a server does not answer (it may have been
// stopped) is tried at another one after half of the time until the next.
const renewals = 3

// keep renews the lease until it is lost, or the handle is closed.
func (h *handle) keep(l *lease) {
	defer l.lose()
	for {
		sent := latest()
		ctx, cancel := context.WithTimeout(h.ctx, min(max(l.left(), 0), l.ttl/renewals/2))
		got, err := h.client.KeepAliveOnce(ctx, l.id)
		cancel()
		switch {
		case err == nil && got.TTL > 0:
			l.deadline.Store(int64(sent + min(l.ttl, time.Duration(got.TTL)*time.Second)))
		case h.ctx.Err() != nil:
			return
		case err == nil, errors.Is(err, rpctypes.ErrLeaseNotFound):
			return // ended by the store, or by somebody
		}
		if !l.valid() {
			return
		}
		pause := l.ttl / renewals
		if err != nil {
			pause = min(pause, retryPause)
		}
		// In short pauses, for timers stand still while the machine is suspended.
		for next := latest() + pause; latest() < next && l.valid(); {
			select {
			case <-h.ctx.Done():
				return
			case <-time.After(min(next-latest(), l.left(), time.Second)):
			}
		}
	}
}

// takeID returns an ID that no grant has. The caller has the handle's mu.
func (l *lease) takeID() string {
	if n := len(l.free); n > 0 {
		id := l.free[n-1]
		l.free = l.free[:n-1]
		return id
	}
	l.ids++
	return fmt.Sprintf("%016x-%d", int64(l.id), l.ids)
}
