package etcd

import (
	"context"
	"errors"
	. "github.com/procsem/semaphore/etcd/internal/etcdtest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/procsem/semaphore"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A lease that the store ends early is a loss at once for its holder, and no permit for others before the loss delay.
func TestEarlyEndOfLease(t *testing.T) {
	endpoint := Start(t).Address
	c := Connect(t, endpoint)
	opts := []Option{WithLimit(1), WithTTL(2 * time.Second), WithLossDelay(3 * time.Second)}
	h, _, err := open(t.Context(), c, "early", opts)
	if err != nil {
		t.Fatal(err)
	}
	s, err := semaphore.FromDriver("early", h)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p, err := s.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	guard, err := Guard(p)
	if err != nil {
		t.Fatal(err)
	}
	other, err := Open(t.Context(), Connect(t, endpoint), "early", opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	got := make(chan *semaphore.Permit, 1)
	go func() {
		p, err := other.Acquire(context.Background())
		if err != nil {
			t.Error(err)
		}
		got <- p
	}()
	for {
		if hs, err := s.Holders(); err != nil {
			t.Fatal(err)
		} else if len(hs) == 2 {
			break
		}
	}
	began := time.Now()
	if _, err := c.Revoke(t.Context(), h.lease.id); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Lost():
	case <-time.After(Deadline):
		t.Error("the holder is not told")
	}
	if err := p.Err(); !errors.Is(err, semaphore.ErrLost) {
		t.Errorf("Err: %v", err)
	}
	act := func() bool {
		resp, err := c.Txn(t.Context()).If(guard).Then(clientv3.OpPut("act", "x")).Commit()
		if err != nil {
			t.Fatal(err)
		}
		return resp.Succeeded
	}
	if !act() {
		t.Error("guarded act is refused though nobody else has the permit")
	}
	q := <-got
	if d := time.Since(began); d < 3*time.Second {
		t.Errorf("given to another one %v after", d)
	} else {
		t.Log("given after", d)
	}
	if act() {
		t.Error("guarded act is not refused though another one has the permit")
	}
	if err := p.Release(); !errors.Is(err, semaphore.ErrLost) {
		t.Errorf("Release: %v", err)
	}
	if err := q.Err(); err != nil {
		t.Error(err)
	}
	// The handle goes on under another lease.
	again := make(chan error, 1)
	go func() { _, err := s.Acquire(context.Background()); again <- err }()
	if err := q.Release(); err != nil {
		t.Error(err)
	}
	if err := <-again; err != nil {
		t.Error(err)
	}
}

// Programs that only try, and are gone before it is time, get in all the same in the end, and leave nothing.
func TestDeathAmongThoseThatTry(t *testing.T) {
	if thisMachine() == "" {
		t.Skip("not on " + runtime.GOOS + ": one clock for all programs")
	}
	c := Connect(t, Start(t).Address)
	opts := []Option{WithLimit(1), WithTTL(time.Second), WithLossDelay(2 * time.Second)}
	h, _, err := open(t.Context(), c, "try", opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Acquire(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	h.cancel() // as dead
	tries := 0
	Eventually(t, "a permit", func(ctx context.Context) bool {
		s, err := Open(ctx, c, "try", opts...)
		if err == nil {
			defer s.Close()
			var p *semaphore.Permit
			if p, err = s.TryAcquire(); err == nil {
				return p.Release() == nil
			}
		}
		switch {
		case errors.Is(err, semaphore.ErrWouldBlock):
			tries++
		case ctx.Err() == nil && !strings.Contains(err.Error(), "no answer of etcd"): // which may take longer than a second
			t.Fatal(err)
		}
		return false
	})
	if tries < 3 {
		t.Errorf("%d tries show nothing", tries)
	}
	got, err := c.Get(t.Context(), DefaultPrefix, clientv3.WithPrefix())
	if err != nil || len(got.Kvs) != 1 {
		t.Errorf("left in the store: %v, %v", got.Kvs, err)
	}
}

// What a dead process held comes back after TTL and loss delay.
func TestDeath(t *testing.T) {
	endpoint := Start(t).Address
	opts := []Option{WithLimit(1), WithTTL(2 * time.Second), WithLossDelay(3 * time.Second)}
	h, _, err := open(t.Context(), Connect(t, endpoint), "death", opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Acquire(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	other, err := Open(t.Context(), Connect(t, endpoint), "death", opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	h.cancel() // as dead
	began := time.Now()
	p, err := other.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d := time.Since(began)
	t.Log(d)
	if d < 3*time.Second {
		t.Error("too early")
	}
	p.Release()
}
