package etcd

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	. "github.com/procsem/semaphore/etcd/internal/etcdtest"
)

// counts are what clients have asked of the store, and been told by it.
type counts struct{ reads, writes, wakeUps atomic.Int64 }

type countingKV struct {
	clientv3.KV
	*counts
}

func (c countingKV) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	c.reads.Add(1)
	return c.KV.Get(ctx, key, opts...)
}

func (c countingKV) Txn(ctx context.Context) clientv3.Txn {
	c.writes.Add(1)
	return c.KV.Txn(ctx)
}

type countingWatcher struct {
	clientv3.Watcher
	*counts
}

func (c countingWatcher) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	from, to := c.Watcher.Watch(ctx, key, opts...), make(chan clientv3.WatchResponse)
	own := strings.HasSuffix(key, "-") // a handle hears what happens to what it holds, too
	go func() {
		defer close(to)
		for e := range from {
			if len(e.Events) > 0 && !own {
				c.wakeUps.Add(1)
			}
			to <- e
		}
	}()
	return to
}

// A line is handles that wait for one permit, each with a connection of its own.
type line struct {
	name string
	got  chan *grant
}

func newLine(t testing.TB, server string, n int, counted *counts) (l *line, first *grant) {
	l = &line{fmt.Sprint("line-", n), make(chan *grant)}
	first = acquired(t, opened(t, Connect(t, server), l.name, WithLimit(1)), 1)
	for range n {
		c := Connect(t, server)
		if counted != nil {
			c.KV, c.Watcher = countingKV{c.KV, counted}, countingWatcher{c.Watcher, counted}
		}
		l.join(t, opened(t, c, l.name))
	}
	return l, first
}

// join has a handle wait at the end of the line.
func (l *line) join(t testing.TB, h *handle) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	t.Cleanup(func() { cancel(); <-ended })
	before, err := h.read(t.Context())
	must(t, err)
	go func() {
		defer close(ended)
		if g, err := h.Acquire(ctx, 1); err == nil {
			select {
			case l.got <- g.(*grant):
			case <-ctx.Done():
			}
		}
	}()
	Eventually(t, "a place in the line", func(ctx context.Context) bool {
		s, err := h.read(ctx)
		return err == nil && len(s.waiters()) > len(before.waiters())
	})
}

// rarelyLooking keeps waiters from reading by themselves until the test ends. It is called before any handle is open.
func rarelyLooking(t *testing.T) {
	usual := lookPause
	t.Cleanup(func() { lookPause = usual }) // when all are closed
	lookPause = time.Hour
}

// However many wait, a hand-over wakes three of them at most, and three reads are made for it.
func TestHandOverWakesFew(t *testing.T) {
	rarelyLooking(t)
	const waiters, handOvers = 40, 30
	var all counts
	l, g := newLine(t, Start(t).Address, waiters, &all)
	reads, writes, wakeUps := all.reads.Load(), all.writes.Load(), all.wakeUps.Load()
	for range handOvers {
		must(t, g.Release(t.Context()))
		g = l.next(t)
	}
	reads, writes, wakeUps = all.reads.Load()-reads, all.writes.Load()-writes, all.wakeUps.Load()-wakeUps
	t.Logf("%d hand-overs, %d waiters: %d reads, %d transactions, %d wake-ups", handOvers, waiters, reads, writes, wakeUps)
	// The one behind the last that was served may still be about to read.
	if most := int64(3 * handOvers); reads > most || wakeUps > most || wakeUps < handOvers {
		t.Errorf("want %d of each at most, and a wake-up at least for each", most)
	}
	if writes > 2*handOvers {
		t.Errorf("%d transactions, want two at most for each", writes)
	}
}

// However many wait, when a limit is raised the one in front reads, and each other one that gets in is told what it has to know.
func TestRaiseMakesFewRead(t *testing.T) {
	rarelyLooking(t)
	const waiters, raised = 40, 10
	var all counts
	l, g := newLine(t, Start(t).Address, waiters, &all)
	reads := all.reads.Load()
	must(t, g.h.SetLimit(t.Context(), 1+raised))
	for range raised {
		l.next(t)
	}
	reads = all.reads.Load() - reads
	t.Logf("raised by %d, %d waiters: %d reads", raised, waiters, reads)
	if most := int64(raised / 2); reads > most {
		t.Errorf("want %d reads at most", most)
	}
}

// next returns what the next one in the line has got.
func (l *line) next(t testing.TB) *grant {
	t.Helper()
	select {
	case g := <-l.got:
		return g
	case <-time.After(Deadline):
		t.Fatal("nobody was served")
		return nil
	}
}
