package etcd

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/procsem/semaphore"
	. "github.com/procsem/semaphore/etcd/internal/etcdtest"
)

func TestNames(t *testing.T) {
	c := Connect(t, Start(t).Address)
	for _, key := range []string{"semaphore/file", "semaphore/other/x", "semaphores/z/limit", "semaphore0", "semaphore/x/y/limit"} {
		_, err := c.Put(t.Context(), key, "not ours")
		must(t, err)
	}
	want := []string{"a", "b!", "b", "x y", "ä", "\xff"}
	for _, name := range want {
		opened(t, c, name)
	}
	opened(t, c, "elsewhere", WithPrefix("of/others"))
	slices.Sort(want)
	got, err := Names(t.Context(), c)
	if !slices.Equal(got, want) || err != nil {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	if got, err = Names(t.Context(), c, WithPrefix("of/others")); !slices.Equal(got, []string{"elsewhere"}) || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if got, err = Names(t.Context(), c, WithPrefix("nothing")); len(got) > 0 || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestObserve(t *testing.T) {
	c := Connect(t, Start(t).Address)
	_, err := Observe(t.Context(), c, "x")
	if !errors.Is(err, fs.ErrNotExist) || err.Error() != `observe "x": no such semaphore: file does not exist` {
		t.Error(err)
	}
	h := opened(t, c, "x", WithLimit(3), WithLabel("me"))
	acquired(t, h, 2)
	waiting := opened(t, c, "x", WithLabel("you"))
	ended := make(chan error, 1)
	go func() {
		g, err := waiting.Acquire(t.Context(), semaphore.All)
		if err == nil {
			err = g.Release(t.Context())
		}
		ended <- err
	}()
	var before int64
	Eventually(t, "the waiter", func(ctx context.Context) bool {
		v, err := Observe(ctx, c, "x")
		must(t, err)
		if len(v.Holders) < 2 {
			return false
		}
		a, b := v.Holders[0], v.Holders[1]
		if v.Limit != 3 || v.Free != 1 || a.Label != "me" || a.Permits != 2 || a.Waiting || time.Since(a.Since) > Deadline ||
			b.Label != "you" || b.Permits != 0 || !b.Waiting || b.Want != semaphore.All || time.Since(b.Arrived) > Deadline || !b.Since.IsZero() {
			t.Errorf("%+v", v)
		}
		got, err := c.Get(ctx, h.prefix, clientv3.WithPrefix())
		must(t, err)
		before = got.Header.Revision
		return true
	})
	_, err = Observe(t.Context(), c, "x")
	must(t, err)
	if got, err := c.Get(t.Context(), h.prefix); err != nil || got.Header.Revision != before {
		t.Errorf("a look has changed something: %v", err)
	}
	must(t, h.SetLimit(t.Context(), 2))
	if _, err := Open(t.Context(), c, "x", WithLimit(5)); err != nil {
		t.Errorf("the limit that was set: %v", err)
	}
	must(t, ForgetLimit(t.Context(), c, "x"))
	if _, err := Open(t.Context(), c, "x", WithLimit(5)); !errors.Is(err, semaphore.ErrLimitMismatch) {
		t.Errorf("the limit that was forgotten: %v", err)
	}
	if err := ForgetLimit(t.Context(), c, "y"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	must(t, h.Close())
	must(t, <-ended)
}

func TestExclusive(t *testing.T) {
	c := Connect(t, Start(t).Address)
	s, err := Open(t.Context(), c, "x", WithExclusive(true), WithLimit(2))
	must(t, err)
	must(t, s.Close())
	if _, err := Open(t.Context(), c, "x", WithExclusive(true)); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	if _, err := Open(t.Context(), c, "x", WithExclusive(true), WithCreate(false)); !errors.Is(err, semaphore.ErrInvalidOption) {
		t.Error(err)
	}
	if s, err = Open(t.Context(), c, "x", WithCreate(false)); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Limit(); n != 2 || err != nil {
		t.Error(n, err)
	}
	must(t, s.Close())
}

// What is wrong whatever the store says is found without it.
func TestWrongArguments(t *testing.T) {
	c := Connect(t, "127.0.0.1:1")
	for what, tt := range map[string]struct {
		client *clientv3.Client
		name   string
		opt    Option
		want   error
	}{
		"no client":     {nil, "x", WithLimit(1), semaphore.ErrInvalidOption},
		"a slash":       {c, "x/y", WithLimit(1), semaphore.ErrInvalidName},
		"a key's name":  {c, "limit", WithLimit(1), semaphore.ErrInvalidName},
		"no option":     {c, "x", nil, semaphore.ErrInvalidOption},
		"no permits":    {c, "x", WithLimit(0), semaphore.ErrInvalidValue},
		"a short TTL":   {c, "x", WithTTL(time.Millisecond), semaphore.ErrInvalidOption},
		"a short delay": {c, "x", WithLossDelay(time.Second), semaphore.ErrInvalidOption},
		"a long label":  {c, "x", WithLabel(strings.Repeat("x", 33)), semaphore.ErrInvalidOption},
	} {
		if _, err := Open(t.Context(), tt.client, tt.name, tt.opt); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v; want %v", what, err, tt.want)
		}
	}
}

func TestLeft(t *testing.T) {
	c := Connect(t, Start(t).Address)
	s, err := Open(t.Context(), c, "x", short...)
	must(t, err)
	defer s.Close()
	p, err := s.Acquire(t.Context())
	must(t, err)
	if left := Left(p); left <= 0 || left > 2*time.Second {
		t.Error(left)
	}
	must(t, p.Release())
	for _, p := range []*semaphore.Permit{p, nil, {}} {
		if left := Left(p); left != 0 {
			t.Error(left)
		}
	}
}
