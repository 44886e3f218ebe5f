package etcd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/driver"
)

const (
	retryPause = 100 * time.Millisecond // after the store has not answered, or has refused
	// mostPatience is how long a first try waits for a server, which may have been stopped, before another one is asked.
	mostPatience = 2 * time.Second
	mostCached   = 64 // members that a state may have which Release reads
)

// lookPause is after how long a waiter reads again, for watches have been known to lose events. Tests that count reads change it.
var lookPause = 15 * time.Second

// A handle is the driver.Handle of a semaphore in etcd.
type handle struct {
	opened bool // it has been there
	client *clientv3.Client
	prefix string // of the semaphore's keys
	options

	ctx        context.Context // ends with Close
	cancel     context.CancelFunc
	background sync.WaitGroup

	drops tasks

	leasing chan struct{} // has room for the one that makes a lease

	mu     sync.Mutex
	lease  *lease
	serial int64               // of grants
	mine   map[string]*grant   // what waits or holds, and what was lost and is not released yet. What is in the store and not here is dropped
	dead   map[string]sighting // holders whose lease is gone
	cached *state              // after the last Release, for the next Acquire; nil: not known
}

// A sighting is when a lost holder was first seen.
type sighting struct {
	Created int64         `json:"created"` // the revision of what it held
	At      time.Duration `json:"at"`      // by least
}

// A grant is a driver.Grant, from before it is given.
type grant struct {
	h         *handle
	lease     *lease
	id        string
	serial    int64 // in the values of its keys, which tells it from another grant of that ID
	lost      chan struct{}
	releasing chan struct{} // has room for one Release

	mu      sync.Mutex
	n       int   // wanted, and then held
	came    int64 // when it took its place in the line, Unix time in ns; 0: it has none
	waited  bool  // there was no permit for it then
	created int64 // revision of its place in the line; 0: not known to be there
	token   int64 // revision of its g/ID; 0: it is not held
	sent    bool  // something was sent of it: it may be in the store
	gone    bool  // its place was deleted under it, or its lease is over
	until   int64 // then: the lease's deadline at that time
	leaving bool  // Release has begun: it is not valid any more, whatever comes of that
	done    bool  // it is known to be given back, or lost: Release returns result
	result  error
}

// key returns the key of that kind, "q/" say, of an ID.
func (h *handle) key(kind, id string) string { return h.prefix + kind + id }

func (h *handle) all() clientv3.Op { return clientv3.OpGet(h.prefix, clientv3.WithPrefix()) }

// request calls f until the store answers, for as long as a lease lasts, or until ctx ends. What f does can be done twice.
func (h *handle) request(ctx context.Context, f func(context.Context) error) error {
	started := time.Now()
	for patience := min(h.ttl/4, mostPatience); ; patience *= 2 { // the next try is at another server
		if err := ctx.Err(); err != nil {
			return err
		}
		try, cancel := context.WithTimeout(ctx, min(patience, max(h.ttl-time.Since(started), retryPause)))
		err := f(try)
		cancel()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !transient(err):
			return refusal(err)
		case time.Since(started) > h.ttl:
			return fmt.Errorf("no answer of etcd for %v: %w", h.ttl, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retryPause):
		}
	}
}

// A denied is an error of etcd that says that the user may not do that: it is fs.ErrPermission.
type denied struct{ error }

func (d denied) Unwrap() error        { return d.error }
func (d denied) Is(target error) bool { return target == fs.ErrPermission }

// refusal makes what etcd refuses fs.ErrPermission, if it is that.
func refusal(err error) error {
	for _, of := range []error{rpctypes.ErrPermissionDenied, rpctypes.ErrUserEmpty, rpctypes.ErrAuthFailed} {
		if errors.Is(err, of) {
			return denied{err}
		}
	}
	return err
}

// transient reports whether what has failed so may succeed later.
func transient(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	code := status.Code(err)
	if known := (rpctypes.EtcdError{}); errors.As(err, &known) {
		code = known.Code()
	}
	switch code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Aborted, codes.Internal, codes.Canceled:
		return true
	case codes.Unknown: // so etcd 3.4 tells that the time has passed which the request itself allowed
		for _, text := range []string{context.DeadlineExceeded.Error(), context.Canceled.Error(), "raft proposal dropped"} {
			if strings.Contains(err.Error(), text) {
				return true
			}
		}
	}
	return errors.Is(err, rpctypes.ErrTooManyRequests)
}

func (h *handle) txn(ctx context.Context, ifs []clientv3.Cmp, thens, elses []clientv3.Op) (resp *clientv3.TxnResponse, err error) {
	err = h.request(ctx, func(ctx context.Context) error {
		resp, err = h.client.Txn(ctx).If(ifs...).Then(thens...).Else(elses...).Commit()
		return err
	})
	return resp, err
}

// read reads the semaphore.
func (h *handle) read(ctx context.Context) (*state, error) {
	var got *clientv3.GetResponse
	err := h.request(ctx, func(ctx context.Context) (err error) {
		got, err = h.client.Get(ctx, h.prefix, clientv3.WithPrefix())
		return err
	})
	if err != nil {
		return nil, err
	}
	return stateOf(h.prefix, got.Header.Revision, got.Kvs), nil
}

// read returns the state that the range at the end of a transaction's answers has shown; nil if that left something off.
func (h *handle) shown(revision int64, answers []*etcdserverpb.ResponseOp) *state {
	got := answers[len(answers)-1].GetResponseRange()
	if got == nil || got.More {
		return nil
	}
	return stateOf(h.prefix, revision, got.Kvs)
}

func absent(key string) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(key), "=", 0)
}

// unchanged are the conditions under which a state that had room for a grant still has it: since then the limit was not put,
// and nothing was granted. (A key that was deleted and put again has a later revision, too.)
func (h *handle) unchanged(s *state) []clientv3.Cmp {
	return []clientv3.Cmp{
		clientv3.Compare(clientv3.ModRevision(h.prefix+"limit"), "=", s.limitAt),
		clientv3.Compare(clientv3.ModRevision(h.prefix+"g/"), "<", s.revision+1).WithPrefix(),
	}
}

// nobodyCame is the condition under which nobody has joined the line since the state.
func (h *handle) nobodyCame(s *state) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(h.prefix+"q/"), "<", s.revision+1).WithPrefix()
}

// join are the operations that put a grant's place in the line, if that waits or has got n permits; in is the state in which it was in front, if somebody
// may wait for it: the next one is told what is left (see after), and need not read.
func (g *grant) join(n int, in *state) []clientv3.Op {
	m := member{Serial: g.serial, N: g.n, Host: g.h.host, PID: os.Getpid(), Label: g.h.label, Delay: int64(g.h.delay)}
	g.mu.Lock()
	if n == 0 && g.came == 0 {
		g.came = time.Now().UnixNano()
	}
	if n == 0 || g.waited {
		m.Came = g.came
	}
	g.mu.Unlock()
	if n == 0 {
		return []clientv3.Op{clientv3.OpPut(g.h.key("q/", g.id), m.String(), clientv3.WithLease(g.lease.id))}
	}
	m.N, m.Since = n, time.Now().UnixNano()
	if in != nil {
		m.Held, m.Limit, m.LimitAt = in.sum()+n, in.limit.N, in.limitAt
	}
	text := m.String()
	return []clientv3.Op{clientv3.OpPut(g.h.key("q/", g.id), text, clientv3.WithLease(g.lease.id)), clientv3.OpPut(g.h.key("g/", g.id), text)}
}

var errRejoin = errors.New("the place in the line was lost")

// TryAcquire is that of driver.Handle.
func (h *handle) TryAcquire(ctx context.Context, n int) (driver.Grant, error) {
	return h.retry(ctx, n, h.try)
}

// Acquire is that of driver.Handle.
func (h *handle) Acquire(ctx context.Context, n int) (driver.Grant, error) {
	return h.retry(ctx, n, h.wait)
}

// retry calls how with a new grant, and once more when its place in the line was lost.
func (h *handle) retry(ctx context.Context, n int, how func(context.Context, *grant) error) (driver.Grant, error) {
	for {
		g, err := h.newGrant(ctx, n)
		if err != nil {
			return nil, err
		}
		if err = how(ctx, g); err == nil && g.Valid() {
			return g, nil
		}
		h.abandon(g)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			g.lease.lose()
		case err != nil && err != errRejoin:
			return nil, err
		}
	}
}

// newGrant makes one that has no place in the line yet.
func (h *handle) newGrant(ctx context.Context, n int) (*grant, error) {
	l, err := h.lasting(ctx)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.serial++
	g := &grant{h: h, lease: l, id: l.takeID(), serial: h.serial, n: n, lost: make(chan struct{}), releasing: make(chan struct{}, 1)}
	h.mine[g.id] = g
	h.mu.Unlock()
	granted.Store((<-chan struct{})(g.lost), g)
	if !l.valid() { // and has perhaps told its grants before this one was among them
		g.lose()
	}
	return g, nil
}

// lasting returns the handle's lease, a new one if it has none that lasts.
func (h *handle) lasting(ctx context.Context) (l *lease, err error) {
	select {
	case h.leasing <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-h.leasing }()
	h.mu.Lock()
	l = h.lease
	h.mu.Unlock()
	if l != nil && l.valid() {
		return l, nil
	}
	err = h.request(ctx, func(ctx context.Context) (err error) {
		l, err = h.grantLease(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.lease = l
	h.mu.Unlock()
	h.background.Go(func() { h.watchOwn(l) })
	return l, nil
}

// check returns why so many permits cannot be had, as of the state.
func (h *handle) check(s *state, n int) error {
	switch {
	case s.limitAt == 0 && !h.opened:
		return errNone
	case s.limitAt == 0:
		return fmt.Errorf("the semaphore was removed: %w", fs.ErrNotExist)
	case n > 1 && n > s.limit.N: // with a limit of 0 one waits for better times
		return fmt.Errorf("%w: %d permits, and the limit is %d", semaphore.ErrInvalidValue, n, s.limit.N)
	}
	return nil
}

// has notes that a grant was given, and reports whether it was.
func (g *grant) has(s *state, n int) bool {
	e, is := s.held[g.id]
	if !is || e.Serial != g.serial {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.created, g.token, g.n = s.line[g.id].created, e.created, e.N
	return true
}

// try takes what is free, without a place in the line before that.
func (h *handle) try(ctx context.Context, g *grant) error {
	s := h.takeCached()
	for {
		if s != nil {
			err := h.check(s, g.n)
			if n := s.fits(g.n); err == nil && n > 0 && !s.blocked() {
				ifs := append(h.unchanged(s), h.nobodyCame(s), absent(h.key("q/", g.id)))
				g.isSent()
				resp, err := h.txn(ctx, ifs, g.join(n, nil), []clientv3.Op{h.all()})
				if err != nil {
					return err
				}
				if resp.Succeeded {
					g.given(resp.Header.Revision, n)
					return nil
				}
				if s = h.shown(resp.Header.Revision, resp.Responses); g.has(s, n) {
					return nil // by the try before, whose answer did not come
				}
				if place, there := s.line[g.id]; there { // of an earlier grant of that ID, or of this one, by a try that was held up
					h.drop(g.id, place.created)
					return errRejoin
				}
				continue
			}
		}
		fresh, err := h.read(ctx)
		if err != nil {
			return err
		}
		if err := h.check(fresh, g.n); err != nil {
			return err
		}
		if fresh.fits(g.n) == 0 || fresh.blocked() {
			due, err := h.bury(ctx, fresh)
			if err != nil {
				return err
			}
			if due > 0 {
				return semaphore.ErrWouldBlock
			}
			continue // some were removed
		}
		s = fresh
	}
}

// blocked reports whether somebody waits who is to be served before one that comes now.
func (s *state) blocked() bool {
	return slices.ContainsFunc(s.waiters(), func(id string) bool { return !s.passable(id) })
}

// isSent notes that something of it may be in the store from now on.
func (g *grant) isSent() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sent = true
}

// hasToWait notes that.
func (g *grant) hasToWait() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waited = true
}

// given notes what a transaction of that revision has given.
func (g *grant) given(revision int64, n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.created == 0 {
		g.created = revision
	}
	g.token, g.n = revision, n
}

func (h *handle) takeCached() (s *state) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, h.cached = h.cached, nil
	return s
}

// wait takes a place in the line, and waits for its turn.
func (h *handle) wait(ctx context.Context, g *grant) error {
	join := append(g.join(0, nil), h.all())
	s := h.takeCached()
	if s != nil && h.check(s, g.n) == nil && !s.blocked() && s.fits(g.n) > 0 {
		// What was free when this handle gave it back is taken by one transaction, unless somebody else has come.
		n := s.fits(g.n)
		join = []clientv3.Op{clientv3.OpTxn(append(h.unchanged(s), h.nobodyCame(s)), append(g.join(n, nil), h.all()), join)}
	}
	g.isSent()
	resp, err := h.txn(ctx, []clientv3.Cmp{absent(h.key("q/", g.id))}, join, []clientv3.Op{h.all()})
	if err != nil {
		return err
	}
	answers := resp.Responses
	if inner := answers[0].GetResponseTxn(); inner != nil {
		answers = inner.Responses
	}
	s = h.shown(resp.Header.Revision, answers)
	if g.has(s, g.n) {
		return nil
	}
	if err := h.check(s, g.n); err != nil {
		return err
	}
	for {
		place, there := s.line[g.id]
		if !there {
			return errRejoin
		}
		if place.Serial != g.serial { // a request of an earlier grant of that ID, which has come to pass now
			h.drop(g.id, place.created)
			return errRejoin
		}
		g.mu.Lock()
		g.created = place.created
		g.mu.Unlock()
		if s.limitAt == 0 {
			return h.check(s, g.n)
		}
		if other, is := s.ahead(g.id); is || s.passable(g.id) {
			g.hasToWait()
			s, err = h.awaitChange(ctx, g, s, other)
		} else {
			var done bool
			if s, done, err = h.inFront(ctx, g, s); done {
				return nil
			}
		}
		if err != nil {
			return err
		}
	}
}

// awaitChange waits until somebody else is the one ahead, who was other in the state s, and returns the state then. An other of "" is nobody:
// it waits for a limit under which it is not too much that it wants.
func (h *handle) awaitChange(ctx context.Context, g *grant, s *state, other string) (*state, error) {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	keys := []string{h.prefix + "limit"}
	if other != "" {
		keys = append(keys, h.key("q/", other))
	}
	events := h.watch(watching, keys)
	look := time.NewTicker(lookPause)
	defer look.Stop()
	for begun := 0; ; {
		select {
		case e := <-events:
			switch {
			case e.Created: // what happened before that is not told
				if begun++; begun < len(keys) {
					continue
				}
			case begun >= len(keys) && h.staysBehind(g, s, other, e.Events):
				continue
			case begun >= len(keys) && len(e.Events) > 0:
				last := e.Events[len(e.Events)-1]
				if string(last.Kv.Key) == h.key("q/", other) && last.Type != clientv3.EventTypeDelete {
					if next := s.after(g.id, other, last.Kv); next != nil {
						return next, nil
					}
				}
			}
		case <-look.C:
		case <-g.lost:
			return nil, errRejoin
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		var err error
		if s, err = h.read(ctx); err != nil {
			return nil, err
		}
		ahead, _ := s.ahead(g.id)
		if _, there := s.line[g.id]; !there || s.limitAt == 0 || ahead != other || other == "" && !s.passable(g.id) {
			return s, nil
		}
	}
}

// staysBehind reports whether all that has happened is another limit, under which the one ahead is the same. All waiters hear of a limit, and those that need not read must not, or
// those in front would have to wait for their answers. No one comes to be before the grant that was not there in the state.
func (h *handle) staysBehind(g *grant, s *state, other string, events []*clientv3.Event) bool {
	for _, e := range events {
		if string(e.Kv.Key) != h.prefix+"limit" || e.Type == clientv3.EventTypeDelete {
			return false
		}
		s.apply("limit", e.Kv, false)
	}
	ahead, is := s.ahead(g.id)
	return is && ahead == other
}

// watch returns a channel on which it tells what happens to keys, or to all that begin with one, and that a watch has begun, from when on it tells
// that. A watch that does not begin, or breaks off, begins anew elsewhere: client.Watch itself waits for a server that has stopped.
func (h *handle) watch(ctx context.Context, keys []string, opts ...clientv3.OpOption) <-chan clientv3.WatchResponse {
	all := make(chan clientv3.WatchResponse)
	for _, key := range keys {
		h.background.Go(func() {
			for try := 0; ctx.Err() == nil; try++ {
				h.watchOnce(ctx, try, key, opts, all)
				_ = h.pause(ctx)
			}
		})
	}
	return all
}

func (h *handle) watchOnce(ctx context.Context, try int, key string, opts []clientv3.OpOption, to chan<- clientv3.WatchResponse) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	// The watches of one client with the same metadata share a stream, to one server.
	elsewhere := metadata.AppendToOutgoingContext(clientv3.WithRequireLeader(ctx), "semaphore-watch", fmt.Sprint(try))
	begun := time.AfterFunc(2*mostPatience, stop)
	for e := range h.client.Watch(elsewhere, key, append(opts, clientv3.WithCreatedNotify())...) {
		if e.Created {
			begun.Stop()
		}
		if e.Err() != nil {
			return
		}
		select {
		case to <- e:
		case <-ctx.Done():
			return
		}
	}
}

// pause is after something has failed.
func (h *handle) pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(retryPause):
		return nil
	}
}

// inFront waits for permits in front of the line, and reports whether it has got them. It also returns when it is not in front any
// more.
func (h *handle) inFront(ctx context.Context, g *grant, s *state) (_ *state, done bool, err error) {
	if done, s, err = h.grantIf(ctx, g, s); done || err != nil {
		return s, done, err
	}
	g.hasToWait()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	events := h.watch(watching, []string{h.prefix}, clientv3.WithPrefix())
	// Until the watch has begun what it tells is no news, and what is not told is not known: then the state is read.
	begun, read := false, s.revision
	for look := time.Now().Add(lookPause); ; {
		due, err := h.bury(ctx, s)
		if err != nil {
			return nil, false, err
		}
		timer := time.NewTimer(min(due, time.Until(look)))
		again := false
		select {
		case e := <-events:
			switch {
			case e.Created:
				begun, again = true, true
			case begun:
				// The state's revision stays: the transaction that gives asks itself what was put since, whether a watch has told of it or not.
				for _, each := range e.Events {
					kind := strings.TrimPrefix(string(each.Kv.Key), h.prefix)
					switch {
					case each.Kv.ModRevision <= read:
					case each.Type == clientv3.EventTypeDelete:
						s.apply(kind, each.Kv, true)
					case !strings.HasPrefix(kind, "q/") && !strings.HasPrefix(kind, "s/"):
						again = true
					}
				}
			}
		case <-timer.C:
			again = true
		case <-g.lost:
			err = errRejoin
		case <-ctx.Done():
			err = ctx.Err()
		}
		timer.Stop()
		if err != nil {
			return nil, false, err
		}
		if again {
			look = time.Now().Add(lookPause)
			if s, err = h.read(ctx); err != nil {
				return nil, false, err
			}
			read = s.revision
		}
		if _, there := s.line[g.id]; !there || s.limitAt == 0 || s.passable(g.id) {
			return s, false, nil
		}
		if _, is := s.ahead(g.id); is {
			return s, false, nil
		}
		if done, s, err = h.grantIf(ctx, g, s); done || err != nil {
			return s, done, err
		}
	}
}

// grantIf gives permits to the one in front, if they are free in the state, and still are. Its transaction also asks for its place in
// the line, which is leased: nobody is given a permit whose lease was gone.
func (h *handle) grantIf(ctx context.Context, g *grant, s *state) (done bool, _ *state, err error) {
	for {
		n := s.fits(g.n)
		if n == 0 {
			return false, s, nil
		}
		ifs := append(h.unchanged(s), clientv3.Compare(clientv3.CreateRevision(h.key("q/", g.id)), "=", g.created))
		resp, err := h.txn(ctx, ifs, g.join(n, s), []clientv3.Op{h.all()})
		if err != nil {
			return false, s, err
		}
		if resp.Succeeded {
			g.given(resp.Header.Revision, n)
			return true, s, nil
		}
		s = h.shown(resp.Header.Revision, resp.Responses)
		if g.has(s, n) {
			return true, s, nil
		}
		if _, is := s.ahead(g.id); is || s.line[g.id].created != g.created {
			return false, s, nil
		}
	}
}

// bury removes what lost holders held, when it has been seen that they are lost for as long as their loss delay says, and returns after how
// long there is one to remove; 0 if some were removed. When they were first seen is noted in the store, too, for programs that only try, and are gone
// before it is time. The time is that of one machine's clock since it was started, so it counts for programs of that machine only.
func (h *handle) bury(ctx context.Context, s *state) (due time.Duration, err error) {
	due = lookPause
	h.mu.Lock()
	for id, seen := range h.dead {
		if s.held[id].created != seen.Created {
			delete(h.dead, id)
		}
	}
	h.mu.Unlock()
	for id, e := range s.held {
		if _, lives := s.line[id]; lives {
			continue
		}
		key := h.key("g/", id)
		is := clientv3.Compare(clientv3.CreateRevision(key), "=", e.created)
		note := h.key("s/", id) + "/"
		h.mu.Lock()
		seen, known := h.dead[id]
		first := false
		if !known {
			seen = sighting{e.created, least()}
			if earlier, noted := s.seen[id]; noted && earlier.Created == e.created && earlier.At <= seen.At {
				seen = earlier
			} else {
				first = thisMachine() != ""
			}
			h.dead[id] = seen
		}
		h.mu.Unlock()
		if left := max(time.Duration(e.Delay), h.delay) - (least() - seen.At); left > 0 {
			if first {
				text, _ := json.Marshal(seen)
				if _, err := h.txn(ctx, []clientv3.Cmp{is}, []clientv3.Op{clientv3.OpPut(note+thisMachine(), string(text))}, nil); err != nil {
					return 0, err
				}
			}
			due = min(due, left)
			continue
		}
		deletes := []clientv3.Op{clientv3.OpDelete(key), clientv3.OpDelete(note, clientv3.WithPrefix())}
		if _, err := h.txn(ctx, []clientv3.Cmp{absent(h.key("q/", id)), is}, deletes, nil); err != nil {
			return 0, err
		}
		due = 0
	}
	return due, nil
}

// abandon gives up a grant that was not given to the caller, without waiting for the store. If something of it was sent its ID is not used again.
func (h *handle) abandon(g *grant) {
	g.mu.Lock()
	sent := g.sent
	g.mu.Unlock()
	h.forget(g, !sent)
	if sent {
		h.drop(g.id, 0)
	}
}

// forget ends a grant. An ID that nothing is there of any more is used again: for each key that it has ever had etcd has a place in its index, until it is
// compacted, and looks at it whenever it looks at all keys of the semaphore.
func (h *handle) forget(g *grant, again bool) {
	h.mu.Lock()
	delete(h.mine, g.id)
	if again {
		g.lease.free = append(g.lease.free, g.id)
	}
	h.mu.Unlock()
	granted.Delete((<-chan struct{})(g.lost))
}

// drop deletes what is there of an ID, and was put at that revision, in the background; or whatever may be there, if that is 0 and the ID is not used any
// more. If it cannot for as long as that is of use, as the store does not answer, others bury what is left.
func (h *handle) drop(id string, created int64) {
	q, g := h.key("q/", id), h.key("g/", id)
	deletes := []clientv3.Op{clientv3.OpDelete(g), clientv3.OpDelete(q), clientv3.OpDelete(h.key("s/", id)+"/", clientv3.WithPrefix())}
	var ifs []clientv3.Cmp
	if created != 0 {
		// What was given was put with the place, or after it.
		ifs = []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(q), "=", created)}
	}
	h.drops.Go(func() {
		for started := time.Now(); time.Since(started) < h.delay && h.ctx.Err() == nil; {
			if _, err := h.txn(h.ctx, ifs, deletes, nil); err == nil {
				return
			}
			_ = h.pause(h.ctx)
		}
	})
}

// watchOwn hears what happens to the handle's places in the line. That one is deleted which the handle has not released is a loss. One that is there
// though the handle does not know it is dropped: a request of it came to pass after it was given up or released. A request can do that at any time, also
// after another one of the same transaction, if the server that had it was stopped.
func (h *handle) watchOwn(l *lease) {
	ctx, stop := context.WithCancel(h.ctx)
	defer stop()
	prefix := h.key("q/", fmt.Sprintf("%016x-", int64(l.id)))
	events := h.watch(ctx, []string{prefix}, clientv3.WithPrefix())
	look := time.NewTicker(lookPause)
	defer look.Stop()
	soon := time.NewTicker(time.Second)
	defer soon.Stop()
	type arrival struct {
		at      time.Time
		created int64
	}
	late := make(map[string]arrival) // those that are not known, and when they came: mostly they are about to be deleted
	for {
		select {
		case <-l.lost:
			return
		case <-h.ctx.Done():
			return
		case <-soon.C:
			for id, came := range late {
				if time.Since(came.at) > time.Second {
					delete(late, id)
					h.drop(id, came.created)
				}
			}
		case <-look.C:
			h.compareOwn(prefix)
		case e := <-events:
			if e.Created {
				h.compareOwn(prefix)
			}
			for _, each := range e.Events {
				id := strings.TrimPrefix(string(each.Kv.Key), h.prefix+"q/")
				g := h.ofMine(id)
				switch {
				case each.Type != clientv3.EventTypeDelete && (g == nil || g.serial != memberOf(each.Kv).Serial):
					late[id] = arrival{time.Now(), each.Kv.CreateRevision}
				case each.Type != clientv3.EventTypeDelete:
				case g != nil && g.createdBefore(each.Kv.ModRevision):
					g.lose()
					fallthrough
				default:
					delete(late, id)
				}
			}
		}
	}
}

// createdBefore reports whether the grant's place was there before that revision, so that a deletion then was its. Of one whose own request has not been answered
// yet that is not known: it finds out itself.
func (g *grant) createdBefore(revision int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.created != 0 && g.created < revision
}

func (h *handle) ofMine(id string) *grant {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mine[id]
}

// compareOwn compares the handle's places in the line with what is there.
func (h *handle) compareOwn(prefix string) {
	h.mu.Lock()
	var known []*grant
	for _, g := range h.mine {
		known = append(known, g)
	}
	h.mu.Unlock()
	known = slices.DeleteFunc(known, func(g *grant) bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.created == 0 || !strings.HasPrefix(h.key("q/", g.id), prefix)
	})
	var got *clientv3.GetResponse
	err := h.request(h.ctx, func(ctx context.Context) (err error) {
		got, err = h.client.Get(ctx, prefix, clientv3.WithPrefix())
		return err
	})
	if err != nil {
		return
	}
	there := make(map[string]int64) // serials
	for _, kv := range got.Kvs {
		id := strings.TrimPrefix(string(kv.Key), h.prefix+"q/")
		there[id] = memberOf(kv).Serial
		if g := h.ofMine(id); g == nil || g.serial != memberOf(kv).Serial {
			h.drop(id, kv.CreateRevision)
		}
	}
	for _, g := range known {
		if there[g.id] != g.serial && g.createdBefore(got.Header.Revision) {
			g.lose()
		}
	}
}

// lose says that the grant is lost, unless its Release has begun: that decides it then.
func (g *grant) lose() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.leaving && !g.gone {
		g.gone, g.until = true, g.lease.deadline.Load()
		close(g.lost)
	}
}

// loseAll says so of all that are under the lease.
func (h *handle) loseAll(l *lease) {
	h.mu.Lock()
	var all []*grant
	for _, g := range h.mine {
		if g.lease == l {
			all = append(all, g)
		}
	}
	h.mu.Unlock()
	for _, g := range all {
		g.lose()
	}
}

// Valid is that of driver.Grant.
func (g *grant) Valid() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.token != 0 && !g.leaving && !g.gone && g.lease.valid()
}

func (g *grant) Lost() <-chan struct{} { return g.lost }

func (g *grant) Token() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.token
}

// Release is that of driver.Grant. From its first call on the grant is not valid: that call's transaction may come to pass whatever becomes of the
// answer.
func (g *grant) Release(ctx context.Context) error {
	h := g.h
	g.mu.Lock()
	lost := !g.leaving && (g.gone || !g.lease.valid())
	g.leaving = true
	g.mu.Unlock()
	select {
	case g.releasing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-g.releasing }()
	g.mu.Lock()
	if g.done {
		defer g.mu.Unlock()
		return g.result
	}
	token := g.token
	g.mu.Unlock()
	if lost || !g.lease.valid() {
		return g.end(semaphore.ErrLost)
	}
	ifs := []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(h.key("g/", g.id)), "=", token)}
	thens := []clientv3.Op{clientv3.OpDelete(h.key("g/", g.id)), clientv3.OpDelete(h.key("q/", g.id)),
		clientv3.OpDelete(h.key("s/", g.id)+"/", clientv3.WithPrefix()), // of one who has seen that the lease was ended early
		clientv3.OpGet(h.prefix, clientv3.WithPrefix(), clientv3.WithLimit(mostCached))}
	for {
		inTime, cancel := context.WithTimeout(ctx, max(0, g.lease.left()))
		resp, err := h.txn(inTime, ifs, thens, nil)
		cancel()
		switch {
		case err == nil && resp.Succeeded:
			h.mu.Lock()
			h.cached = h.shown(resp.Header.Revision, resp.Responses)
			h.mu.Unlock()
			return g.end(nil)
		case !g.lease.valid():
			return g.end(semaphore.ErrLost)
		case err == nil:
			// It is gone, and the lease lasts: nobody has buried it, but another try of this transaction has come to pass.
			return g.end(nil)
		case ctx.Err() != nil:
			return ctx.Err()
		case !transient(err):
			return err
		}
	}
}

// end notes how a Release has ended for good. What was lost may still be in the store: its holder says that it has ended, so it comes back
// the sooner.
func (g *grant) end(result error) error {
	g.mu.Lock()
	g.done, g.result = true, result
	g.mu.Unlock()
	if result != nil {
		g.h.abandon(g)
	} else {
		g.h.forget(g, true)
	}
	return result
}

func (h *handle) Value(ctx context.Context) (int, error) {
	s, err := h.look(ctx)
	if err != nil {
		return 0, err
	}
	return max(0, s.limit.N-s.sum()), nil
}

func (h *handle) Limit(ctx context.Context) (int, error) {
	s, err := h.look(ctx)
	if err != nil {
		return 0, err
	}
	return s.limit.N, nil
}

// look reads the semaphore, which has to be there.
func (h *handle) look(ctx context.Context) (*state, error) {
	s, err := h.read(ctx)
	if err == nil {
		err = h.check(s, 0)
	}
	return s, err
}

func (h *handle) SetLimit(ctx context.Context, n int) error {
	if n < 0 || n > semaphore.MaxValue {
		return fmt.Errorf("%w: a limit of %d; allowed are 0 to %d", semaphore.ErrInvalidValue, n, semaphore.MaxValue)
	}
	return h.putLimit(ctx, func(l limit) limit { return limit{n, true, l.By} })
}

// putLimit changes the limit to what f makes of it.
func (h *handle) putLimit(ctx context.Context, f func(limit) limit) error {
	key := h.prefix + "limit"
	for {
		s, err := h.look(ctx)
		if err != nil {
			return err
		}
		to := f(s.limit)
		if s.limit == to {
			return nil
		}
		// Compared, so that a try that was held up changes nothing after a later SetLimit.
		resp, err := h.txn(ctx, []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", s.limitAt)}, []clientv3.Op{clientv3.OpPut(key, to.String())}, nil)
		if err != nil || resp.Succeeded {
			return err
		}
	}
}

func (l limit) String() string {
	text, _ := json.Marshal(l)
	return string(text)
}

func (h *handle) Holders(ctx context.Context) ([]driver.Holder, error) {
	s, err := h.look(ctx)
	if err != nil {
		return nil, err
	}
	return s.holders(), nil
}

// holders lists who holds and who waits, as driver.Handle has it.
func (s *state) holders() []driver.Holder {
	var ids []string
	for id := range s.held {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b string) int { return cmp.Compare(s.held[a].created, s.held[b].created) })
	var all []driver.Holder
	for _, id := range ids {
		e := s.held[id]
		_, lives := s.line[id]
		all = append(all, driver.Holder{Host: e.Host, PID: e.PID, Label: e.Label, Permits: e.N, Lost: !lives, Arrived: timeOf(e.Came), Since: timeOf(e.Since)})
	}
	for _, id := range s.waiters() {
		e := s.line[id]
		all = append(all, driver.Holder{Host: e.Host, PID: e.PID, Label: e.Label, Waiting: true, Want: e.N, Arrived: timeOf(e.Came)})
	}
	return all
}

// timeOf returns a time that is kept as nanoseconds, zero for 0.
func timeOf(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}

// empty are the conditions under which nobody holds or waits.
func (h *handle) empty() (ifs []clientv3.Cmp) {
	for _, kind := range []string{"q/", "g/"} {
		ifs = append(ifs, clientv3.Compare(clientv3.CreateRevision(h.prefix+kind), "=", 0).WithPrefix())
	}
	return ifs
}

// Unlink is that of driver.Handle. It removes nothing that somebody uses: whoever came next would be let in beside them.
func (h *handle) Unlink(ctx context.Context) error {
	for tried := false; ; tried = true {
		s, err := h.read(ctx)
		switch {
		case err != nil:
			return err
		case s.limitAt == 0 && tried:
			return nil // by the try before, whose answer did not come
		case s.limitAt == 0:
			return errNone
		}
		if empty, err := h.emptied(ctx, s); err != nil {
			return err
		} else if !empty {
			return ErrInUse
		}
		ifs := append(h.empty(), clientv3.Compare(clientv3.ModRevision(h.prefix+"limit"), "=", s.limitAt))
		// Below the prefix there may be another one's prefix.
		deletes := []clientv3.Op{clientv3.OpDelete(h.prefix + "limit")}
		for _, kind := range []string{"q/", "g/", "s/"} {
			deletes = append(deletes, clientv3.OpDelete(h.prefix+kind, clientv3.WithPrefix()))
		}
		resp, err := h.txn(ctx, ifs, deletes, nil)
		if err != nil || resp.Succeeded {
			return err
		}
	}
}

// emptied reports whether nobody waits or holds, when what lost holders hold has been buried, for which it waits if there is nothing else.
func (h *handle) emptied(ctx context.Context, s *state) (bool, error) {
	for {
		if len(s.line) > 0 || len(s.held) == 0 {
			return len(s.line) == 0, nil
		}
		due, err := h.bury(ctx, s)
		if err != nil {
			return false, err
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(due):
		}
		if s, err = h.read(ctx); err != nil {
			return false, err
		}
	}
}

// Close is that of driver.Handle.
func (h *handle) Close() error {
	defer func() {
		h.cancel()
		h.background.Wait()
		<-h.drops.idle()
	}()
	h.mu.Lock()
	leases := make(map[*lease]bool)
	mine := h.mine
	h.mine = make(map[string]*grant)
	for _, g := range mine {
		leases[g.lease] = true
	}
	if h.lease != nil {
		leases[h.lease] = true
	}
	h.mu.Unlock()
	// What is under a lease that has ended comes back by itself nearly as soon as after an answer that is late.
	patience := min(h.ttl, time.Second)
	for l := range leases {
		patience = max(patience, l.left())
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, g := range mine {
		g.mu.Lock()
		g.leaving = true
		g.mu.Unlock()
		granted.Delete((<-chan struct{})(g.lost))
	}
	var errs []error
	for l := range leases {
		var deletes []clientv3.Op
		for _, kind := range []string{"g/", "q/", "s/"} {
			deletes = append(deletes, clientv3.OpDelete(h.key(kind, fmt.Sprintf("%016x-", int64(l.id))), clientv3.WithPrefix()))
		}
		if _, err := h.txn(ctx, nil, deletes, nil); err != nil {
			errs = append(errs, fmt.Errorf("what it held comes back after the loss delay, %v, only: %w", h.delay, err))
			continue
		}
		_, _ = h.client.Revoke(ctx, l.id) // nothing is under it any more, and it ends by itself if this fails
	}
	select {
	case <-h.drops.idle():
	case <-ctx.Done():
		errs = append(errs, fmt.Errorf("something that was given up comes back after the loss delay, %v, only", h.delay))
	}
	return errors.Join(errs...)
}
