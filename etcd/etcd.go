// Package etcd has semaphores for many machines, in etcd: the type [semaphore.Semaphore], with a limit that holds over all of them.
// [Open] opens one; its methods are those of one on one machine, but for those that have nobody to tell of a loss (see [semaphore.FromDriver]).
//
//	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"etcd-1:2379", "etcd-2:2379", "etcd-3:2379"}})
//	...
//	s, err := etcd.Open(ctx, client, "builds", etcd.WithLimit(3))
//	...
//	p, err := s.Acquire(ctx)
//	...
//	defer p.Release()
//	for more work {
//		if err := p.Err(); err != nil {
//			return err // lost: others may be at work
//		}
//		...
//	}
//
// [docs/cluster.md] says what is promised and what is not, and how to run etcd for it.
//
// # Losses
//
// A permit is held for a time ([WithTTL]) that the package prolongs in the background as long as the handle is open. A holder that has stood still, or was cut off from
// the store, for longer loses it, and learns that from [semaphore.Permit.Err] and [semaphore.Permit.Lost]. [Left] says for how long others are kept out at
// least, and [Guard] lets the store refuse a transaction of one that has lost its permit. What such a holder had comes back to others after the loss
// delay ([WithLossDelay]).
//
// # Times
//
// Acquire and AcquireN wait for permits as long as their context allows. Else each call gives up with an error when the store has not answered for one TTL (Acquire that waits in the
// line, for two), or its context ends; so do Release, Value and the other methods that take no context. Close waits for the store for as long as the handle's lease lasts.
//
// # Errors
//
// Errors are [*semaphore.Error], over one of package semaphore or io/fs, [ErrInUse], or what the client of etcd returns; what etcd refuses to the client's user
// is [fs.ErrPermission]. A context's own error is bare from the methods of a Semaphore, and wrapped from the functions of this package.
//
// [docs/cluster.md]: https://github.com/procsem/semaphore/blob/main/docs/cluster.md
package etcd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/procsem/semaphore"
)

// An Option changes how Open, and the other functions of this package, work. Where several set the same thing, the last one counts. A nil one
// is [semaphore.ErrInvalidOption].
type Option func(*options)

type options struct {
	limit     int
	limited   bool
	create    bool
	exclusive bool
	ttl       time.Duration
	delay     time.Duration
	delaySet  bool
	root      string
	label     string
	host      string
	type_     []semaphore.Option
}

// DefaultPrefix is where semaphores are in the store, unless [WithPrefix] says something else.
const DefaultPrefix = "semaphore/"

// ErrInUse is why Unlink removes nothing: somebody holds permits, or has lost some that count on, or waits.
var ErrInUse = errors.New("etcd: the semaphore is in use")

var errNone = fmt.Errorf("no such semaphore: %w", fs.ErrNotExist)

// WithLimit sets how many permits there are, 1 to [semaphore.MaxValue]. Another one that is in force is changed if nobody holds or waits, and else
// Open fails with [semaphore.ErrLimitMismatch]; but what [semaphore.Semaphore.SetLimit] has set stays, without an error. Without the option the limit that is in force
// is used, and 1 for a new semaphore.
func WithLimit(n int) Option { return func(o *options) { o.limit, o.limited = n, true } }

// WithCreate says whether Open makes a semaphore that does not exist. The default is true; with false that is [fs.ErrNotExist].
func WithCreate(create bool) Option { return func(o *options) { o.create = create } }

// WithExclusive(true) makes Open fail with [fs.ErrExist] if the semaphore exists. The default is false.
func WithExclusive(exclusive bool) Option { return func(o *options) { o.exclusive = exclusive } }

// WithTTL sets the time of the lease under which the handle holds permits, 5 s by default and 1 s at least; the store counts in seconds, so others may wait for up to a second more. etcd raises it to
// one and a half of its election timeout. The longer it is, the longer a holder can be out of touch with the store without losing its permits, and the later these come back
// when it dies.
func WithTTL(d time.Duration) Option { return func(o *options) { o.ttl = d } }

// WithLossDelay sets for how long a permit counts on whose holder's lease has ended: the TTL, and a second and a fifth of the TTL, 2 s at least, by default. It
// has to be at least the TTL and the election timeout of the store together, and a tenth of both, for clocks do not run at the same rate. The longer one of the holder's and the waiter's counts.
func WithLossDelay(d time.Duration) Option { return func(o *options) { o.delay, o.delaySet = d, true } }

// WithPrefix sets where semaphores are in the store, [DefaultPrefix] by default. Programs that name the same one share semaphores. A slash at its end
// is added if it has none.
func WithPrefix(prefix string) Option { return func(o *options) { o.root = prefix } }

// WithLabel gives the handle a text that [semaphore.Semaphore.Holders] and [Observe] show, of at most 32 bytes.
func WithLabel(text string) Option { return func(o *options) { o.label = text } }

// WithOptions adds options of package semaphore: [semaphore.WithLogger], [semaphore.WithCloseOnExit]. Others are [semaphore.ErrInvalidOption].
func WithOptions(opts ...semaphore.Option) Option {
	return func(o *options) { o.type_ = append(o.type_, opts...) }
}

// Open opens the semaphore of that name in the store of the client, which stays the caller's, to be closed after the Semaphore. It creates it if it
// does not exist, unless the options say otherwise. The context is that of Open alone. A name has 1 to 251 bytes, without slash and NUL, and is
// none of ., .., q, g, s and limit.
//
// Errors: [semaphore.ErrInvalidName], [semaphore.ErrInvalidOption] (also if client is nil), [semaphore.ErrInvalidValue],
// [semaphore.ErrLimitMismatch], [fs.ErrExist], [fs.ErrNotExist], [fs.ErrPermission].
func Open(ctx context.Context, client *clientv3.Client, name string, opts ...Option) (*semaphore.Semaphore, error) {
	h, o, err := open(ctx, client, name, opts)
	if err != nil {
		return nil, &semaphore.Error{Op: "open", Name: name, Err: err}
	}
	s, err := semaphore.FromDriver(name, h, o.type_...)
	if err != nil {
		_ = h.Close()
	}
	return s, err
}

func open(ctx context.Context, client *clientv3.Client, name string, opts []Option) (*handle, *options, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, nil, err
	}
	if err := o.check(client, name); err != nil {
		return nil, nil, err
	}
	h := newHandle(client, name, o)
	if err := h.ensure(ctx); err != nil {
		h.cancel()
		return nil, nil, err
	}
	h.opened = true
	return h, o, nil
}

func newHandle(client *clientv3.Client, name string, o *options) *handle {
	h := &handle{client: client, prefix: o.root + name + "/", options: *o, leasing: make(chan struct{}, 1), mine: make(map[string]*grant), dead: make(map[string]sighting)}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h
}

func newOptions(opts []Option) (*options, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	o := &options{limit: 1, create: true, ttl: 5 * time.Second, root: DefaultPrefix, host: host}
	for i, opt := range opts {
		if opt == nil {
			return nil, fmt.Errorf("%w: option %d of %d is nil", semaphore.ErrInvalidOption, i+1, len(opts))
		}
		opt(o)
	}
	if !o.delaySet {
		o.delay = o.ttl + max(2*time.Second, time.Second+o.ttl/5)
	}
	if !strings.HasSuffix(o.root, "/") {
		o.root += "/"
	}
	return o, nil
}

func (o *options) check(client *clientv3.Client, name string) error {
	wrong := func(of error, format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{of}, args...)...)
	}
	switch {
	case client == nil:
		return wrong(semaphore.ErrInvalidOption, "the client is nil")
	case name == "" || len(name) > 251 || strings.ContainsAny(name, "/\x00") || name == "." || name == ".." || slices.Contains([]string{"q", "g", "s", "limit"}, name):
		return wrong(semaphore.ErrInvalidName, "%q; allowed are 1 to 251 bytes without slash and NUL, but for ., .., q, g, s and limit", name)
	case o.exclusive && !o.create:
		return wrong(semaphore.ErrInvalidOption, "WithExclusive(true) and WithCreate(false)")
	case o.limit < 1 || o.limit > semaphore.MaxValue:
		return wrong(semaphore.ErrInvalidValue, "WithLimit(%d); allowed are 1 to %d", o.limit, semaphore.MaxValue)
	case o.ttl < time.Second:
		return wrong(semaphore.ErrInvalidOption, "WithTTL(%v); 1 s at least is allowed", o.ttl)
	case o.delay < o.ttl:
		return wrong(semaphore.ErrInvalidOption, "WithLossDelay(%v); the TTL, %v, at least is allowed", o.delay, o.ttl)
	case len(o.label) > 32:
		return wrong(semaphore.ErrInvalidOption, "WithLabel(%q): it has %d bytes; at most 32 are allowed", o.label, len(o.label))
	}
	return nil
}

// ensure makes the semaphore if it is not there, and sees to its limit.
func (h *handle) ensure(ctx context.Context) error {
	key := h.prefix + "limit"
	by := rand.Text()
	for {
		s, err := h.read(ctx)
		if err != nil {
			return err
		}
		ifs := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", s.limitAt)}
		switch {
		case s.limitAt == 0 && !h.create:
			return errNone
		case s.limitAt == 0:
		case s.limit.By == by:
			return nil // made by a try whose answer did not come
		case h.exclusive:
			return fmt.Errorf("the semaphore exists: %w", fs.ErrExist)
		case !h.limited || s.limit.Set || s.limit.N == h.limit:
			return nil
		case len(s.line) > 0 || len(s.held) > 0:
			if empty, err := h.emptied(ctx, s); err != nil {
				return err
			} else if empty {
				continue
			}
			return fmt.Errorf("%w: %d, and %d was asked for", semaphore.ErrLimitMismatch, s.limit.N, h.limit)
		default:
			ifs = append(ifs, h.empty()...)
		}
		resp, err := h.txn(ctx, ifs, []clientv3.Op{clientv3.OpPut(key, limit{N: h.limit, By: by}.String())}, nil)
		if err != nil {
			return err
		}
		if resp.Succeeded {
			return nil
		}
	}
}

// granted are the grants of this program by their channels, by which a Permit is known again.
var granted sync.Map // <-chan struct{} to *grant

// Guard returns a condition for a transaction of the same store that is true as long as p holds what it took, or what it has lost is given to nobody else: put into
// the transaction that only a holder may do, it keeps one out that has lost its permit, at whatever moment that was. If p was released, or is no Permit of this package, it is [semaphore.ErrNotHeld].
func Guard(p *semaphore.Permit) (clientv3.Cmp, error) {
	if g, is := granted.Load(p.Lost()); is {
		g := g.(*grant)
		return clientv3.Compare(clientv3.CreateRevision(g.h.key("g/", g.id)), "=", g.token), nil
	}
	return clientv3.Cmp{}, &semaphore.Error{Op: "guard", Err: semaphore.ErrNotHeld}
}
