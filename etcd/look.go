package etcd

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/driver"
)

// Names lists the semaphores in the store, below the prefix of [WithPrefix], in order; none is no error. Options are as those of [Observe].
func Names(ctx context.Context, client *clientv3.Client, opts ...Option) ([]string, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, &semaphore.Error{Op: "list", Err: err}
	}
	h := newHandle(client, "", o)
	defer h.cancel()
	var names []string
	from, end := o.root, clientv3.GetPrefixRangeEnd(o.root)
	for {
		var got *clientv3.GetResponse
		err := h.request(ctx, func(ctx context.Context) (err error) {
			got, err = client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithKeysOnly(), clientv3.WithLimit(1))
			return err
		})
		if err != nil {
			return nil, &semaphore.Error{Op: "list", Err: err}
		}
		if len(got.Kvs) == 0 {
			slices.Sort(names) // the slash at their ends made another order
			return names, nil
		}
		name, rest, below := strings.Cut(strings.TrimPrefix(string(got.Kvs[0].Key), o.root), "/")
		switch {
		case !below: // somebody else's
			from = string(got.Kvs[0].Key) + "\x00"
			continue
		case rest == "limit" || strings.HasPrefix(rest, "g/") || strings.HasPrefix(rest, "q/"):
			names = append(names, name)
		}
		from = clientv3.GetPrefixRangeEnd(o.root + name + "/")
	}
}

// A View is a semaphore as it was at one moment. What lost holders had counts as held until the loss delay is over.
type View struct {
	Limit   int             // permits that there are
	Free    int             // permits that nobody holds
	Holders []driver.Holder // those that hold permits, and then those that wait, in their order
}

// Observe looks at the semaphore of that name without being one of its users: it changes nothing. Of the options [WithPrefix] and
// [WithTTL], the time after which it gives up if the store does not answer, count.
//
// Errors: [fs.ErrNotExist] if there is none, [fs.ErrPermission], [semaphore.ErrInvalidName], [semaphore.ErrInvalidOption].
func Observe(ctx context.Context, client *clientv3.Client, name string, opts ...Option) (View, error) {
	o, err := newOptions(opts)
	if err == nil {
		err = o.check(client, name)
	}
	if err != nil {
		return View{}, &semaphore.Error{Op: "observe", Name: name, Err: err}
	}
	h := newHandle(client, name, o)
	defer h.cancel()
	s, err := h.look(ctx)
	if err != nil {
		return View{}, &semaphore.Error{Op: "observe", Name: name, Err: err}
	}
	return View{s.limit.N, max(0, s.limit.N-s.sum()), s.holders()}, nil
}

// ForgetLimit takes back that [semaphore.Semaphore.SetLimit] has set the semaphore's limit: it stays, and the next [WithLimit] counts again. Options
// and errors are those of [Observe].
func ForgetLimit(ctx context.Context, client *clientv3.Client, name string, opts ...Option) error {
	o, err := newOptions(opts)
	if err == nil {
		err = o.check(client, name)
	}
	if err == nil {
		h := newHandle(client, name, o)
		defer h.cancel()
		err = h.putLimit(ctx, func(l limit) limit { l.Set = false; return l })
	}
	if err != nil {
		return &semaphore.Error{Op: "setlimit", Name: name, Err: err}
	}
	return nil
}

// Left returns for how long nobody else can have what p took, at least, if nothing is heard of the store any more: Err is nil for that long, unless
// the lease, or its keys, are removed before. It counts on if p is lost before its time, for others have to wait for the loss delay, and is 0 or less
// when that is over, and if p was released or has nothing of this store.
func Left(p *semaphore.Permit) time.Duration {
	of, is := granted.Load(p.Lost())
	if !is || errors.Is(p.Err(), semaphore.ErrNotHeld) {
		return 0
	}
	g := of.(*grant)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gone { // the lease may be renewed all the same
		return time.Duration(g.until) - latest()
	}
	return g.lease.left()
}
