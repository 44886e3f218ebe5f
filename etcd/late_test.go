package etcd

import (
	"context"
	. "github.com/procsem/semaphore/etcd/internal/etcdtest"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// A transaction may come to pass after the client has given up on it, and has sent it again with success: a server that was stopped passes it
// on when it goes on. Each kind is put here by hand, when what it was for has ended.
func TestLateTransactions(t *testing.T) {
	endpoint := Start(t).Address
	c := Connect(t, endpoint)
	for what, late := range map[string]func(ctx context.Context, h *handle, g *grant) []clientv3.Op{
		"a place in the line": func(_ context.Context, _ *handle, g *grant) []clientv3.Op { return g.join(0, nil) },
		"a grant":             func(_ context.Context, _ *handle, g *grant) []clientv3.Op { return g.join(1, nil) },
	} {
		for _, busy := range []bool{false, true} {
			name := "late"
			h, _, err := open(t.Context(), c, name, []Option{WithLimit(1), WithTTL(2 * time.Second)})
			if err != nil {
				t.Fatal(err)
			}
			d, err := h.Acquire(t.Context(), 1)
			if err != nil {
				t.Fatal(err)
			}
			g := d.(*grant)
			if err := g.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Txn(t.Context()).If(absent(h.key("q/", g.id))).Then(late(t.Context(), h, g)...).Commit(); err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithTimeout(t.Context(), Deadline)
			if busy { // the ID is used again
				d, err := h.Acquire(ctx, 1)
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				if got := d.(*grant); got.Valid() && got.token == 0 {
					t.Errorf("%s: %+v", what, got)
				}
				if err := d.Release(ctx); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
			for {
				s, err := h.read(ctx)
				if err != nil {
					t.Fatalf("%s: it stays in the store: %v", what, err)
				}
				if len(s.line) == 0 && len(s.held) == 0 {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			stop()
			if err := h.Close(); err != nil {
				t.Error(err)
			}
			if err := h.Unlink(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
}
