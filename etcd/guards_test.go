package etcd

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/procsem/semaphore"
	. "github.com/procsem/semaphore/etcd/internal/etcdtest"
)

// short are the times of tests that wait for the end of a lease; in others none ends, however slow the machine is.
var (
	short = []Option{WithTTL(2 * time.Second), WithLossDelay(3 * time.Second)}
	long  = []Option{WithTTL(time.Minute), WithLossDelay(2 * time.Minute)}
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func opened(t testing.TB, c *clientv3.Client, name string, opts ...Option) *handle {
	t.Helper()
	h, _, err := open(context.Background(), c, name, append(long[:len(long):len(long)], opts...))
	must(t, err)
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func acquired(t testing.TB, h *handle, n int) *grant {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Deadline)
	defer cancel()
	g, err := h.Acquire(ctx, n)
	must(t, err)
	return g.(*grant)
}

// joined puts a grant in the line, as Acquire does, and returns the state then.
func joined(t *testing.T, h *handle) (*grant, *state) {
	t.Helper()
	g, err := h.newGrant(t.Context(), 1)
	must(t, err)
	g.isSent()
	_, err = h.txn(t.Context(), nil, g.join(0, nil), nil)
	must(t, err)
	s, err := h.read(t.Context())
	must(t, err)
	g.mu.Lock() // the handle's watch looks at it
	defer g.mu.Unlock()
	g.created = s.line[g.id].created
	return g, s
}

// A waiter in front takes what it has read to be free only if nothing has changed that would keep it from that.
func TestNothingIsGivenOfAnOldState(t *testing.T) {
	c := Connect(t, Start(t).Address)
	for what, change := range map[string]func(h, other *handle, g *grant){
		"nothing":            func(h, other *handle, g *grant) {},
		"others join":        func(h, other *handle, g *grant) { joined(t, other) },
		"the limit is lower": func(h, other *handle, g *grant) { must(t, other.SetLimit(t.Context(), 0)) },
		"another one was given permits": func(h, other *handle, g *grant) {
			to, s := joined(t, other)
			if done, _, err := other.grantIf(t.Context(), to, s); !done || err != nil {
				t.Fatal(done, err)
			}
		},
		"its place is gone": func(h, other *handle, g *grant) {
			_, err := c.Delete(t.Context(), h.key("q/", g.id))
			must(t, err)
		},
		"its lease is gone": func(h, other *handle, g *grant) {
			_, err := c.Revoke(t.Context(), g.lease.id)
			must(t, err)
		},
	} {
		t.Run(what, func(t *testing.T) {
			name := strings.ReplaceAll(what, " ", "-")
			h, other := opened(t, c, name, WithLimit(1)), opened(t, c, name)
			g, s := joined(t, h)
			if s.fits(1) != 1 {
				t.Fatal("nothing is free")
			}
			change(h, other, g)
			done, _, err := h.grantIf(t.Context(), g, s)
			want := what == "nothing" || what == "others join"
			if done != want || err != nil && want {
				t.Errorf("it has got a permit: %v, %v; want %v", done, err, want)
			}
			now, err := h.read(t.Context())
			must(t, err)
			if _, holds := now.held[g.id]; holds != want {
				t.Errorf("it holds in the store: %v, want %v", holds, want)
			}
			if now.sum() > 1 {
				t.Errorf("%d are held", now.sum())
			}
		})
	}
}

// Who gets in tells the one behind it what is left, which is given by that without a look, if nothing has changed since.
func TestWhatIsToldOfTheRest(t *testing.T) {
	c := Connect(t, Start(t).Address)
	place := func(h *handle, g *grant) *mvccpb.KeyValue {
		got, err := c.Get(t.Context(), h.key("q/", g.id))
		must(t, err)
		return got.Kvs[0]
	}
	for what, test := range map[string]struct {
		change func(h *handle, held *grant)
		has    bool
	}{
		"nothing":                {func(*handle, *grant) {}, true},
		"the limit is lowered":   {func(h *handle, _ *grant) { must(t, h.SetLimit(t.Context(), 2)) }, false},
		"a permit is given back": {func(_ *handle, held *grant) { must(t, held.Release(t.Context())) }, true},
		"others are given one": {func(h *handle, _ *grant) {
			g, s := joined(t, h)
			if done, _, err := h.grantIf(t.Context(), g, s); !done || err != nil {
				t.Fatal(done, err)
			}
		}, false},
	} {
		t.Run(what, func(t *testing.T) {
			h := opened(t, c, strings.ReplaceAll(what, " ", "-"), WithLimit(3))
			held := acquired(t, h, 1)
			first, _ := joined(t, h)
			second, before := joined(t, h)
			last, beforeLast := joined(t, h)
			if done, _, err := h.grantIf(t.Context(), first, before); !done || err != nil {
				t.Fatal(done, err)
			}
			if next := beforeLast.after(last.id, second.id, place(h, second)); next != nil {
				t.Errorf("of one that waits: %+v; want nothing", next)
			}
			next := before.after(second.id, first.id, place(h, first))
			if next == nil || next.sum() != 2 {
				t.Fatalf("told: %+v; want two that are held", next)
			}
			test.change(h, held)
			if done, _, err := h.grantIf(t.Context(), second, next); done != test.has || err != nil {
				t.Fatalf("the second has got a permit: %v, %v; want %v", done, err, test.has)
			}
			if !test.has {
				return
			}
			// By what it is told none is left for the last, though one was given back.
			if next := beforeLast.after(last.id, second.id, place(h, second)); next != nil {
				t.Errorf("told: %+v; want that three are held", next)
			}
			// A server that lags behind tells of an earlier place of the same ID.
			earlier := place(h, first)
			must(t, first.Release(t.Context()))
			again, err := h.newGrant(t.Context(), 3)
			must(t, err)
			again.id = first.id
			_, err = h.txn(t.Context(), nil, again.join(0, nil), nil)
			must(t, err)
			behind, afterIt := joined(t, h)
			if ahead, _ := afterIt.ahead(behind.id); ahead != first.id {
				t.Fatalf("ahead is %s, want %s", ahead, first.id)
			}
			if next := afterIt.after(behind.id, first.id, earlier); next != nil {
				t.Errorf("told by an earlier place: %+v; want nothing", next)
			}
			// What is told under a limit that has changed since is of no use; what one does not know yet of the limit, it is told.
			beforeLast.limit.N, beforeLast.limitAt = 4, beforeLast.limitAt+1
			if next := beforeLast.after(last.id, second.id, place(h, second)); next != nil {
				t.Errorf("told under another limit: %+v; want nothing", next)
			}
			before.limit.N, before.limitAt = 1, before.limitAt-1
			if next := before.after(second.id, first.id, earlier); next == nil || next.limit.N != 3 {
				t.Errorf("told before the limit was heard of: %+v; want that it is three", next)
			}
		})
	}
}

// What this handle has left free is taken without a look only if nobody has come since.
func TestCachedStateDoesNotOvertake(t *testing.T) {
	c := Connect(t, Start(t).Address)
	for what, take := range map[string]func(h *handle) (bool, error){
		"TryAcquire": func(h *handle) (bool, error) {
			_, err := h.TryAcquire(t.Context(), 1)
			if errors.Is(err, semaphore.ErrWouldBlock) {
				return false, nil
			}
			return true, err
		},
		"Acquire": func(h *handle) (bool, error) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			_, err := h.Acquire(ctx, 1)
			if ctx.Err() != nil {
				return false, nil
			}
			return true, err
		},
	} {
		for _, come := range []bool{false, true} {
			name := what
			if come {
				name += "-late"
			}
			h, other := opened(t, c, name, WithLimit(1)), opened(t, c, name)
			Eventually(t, "something is cached", func(context.Context) bool { // it is not if the store is slow, and the release is asked for again
				must(t, acquired(t, h, 1).Release(t.Context()))
				return h.cached != nil
			})
			if come {
				joined(t, other)
			}
			if got, err := take(h); got == come || err != nil {
				t.Errorf("%s, others have come: %v: it got a permit: %v, %v", what, come, got, err)
			}
		}
	}
}

// Of a place that is deleted though the lease lasts the holder is told by its own watch.
func TestPlaceDeleted(t *testing.T) {
	c := Connect(t, Start(t).Address)
	h := opened(t, c, "place", WithTTL(time.Minute), WithLossDelay(time.Hour))
	g := acquired(t, h, 1)
	_, err := c.Delete(t.Context(), h.key("q/", g.id))
	must(t, err)
	select {
	case <-g.Lost():
	case <-time.After(Deadline):
		t.Error("the holder is not told")
	}
	if g.Valid() {
		t.Error("it is valid")
	}
}

// A lease that has ended while nothing was under it, of which no watch tells, is found by the next Acquire, which has another one.
func TestIdleLeaseEnds(t *testing.T) {
	c := Connect(t, Start(t).Address)
	h := opened(t, c, "idle", WithTTL(time.Hour), WithLossDelay(time.Hour)) // no renewal finds it out soon
	must(t, acquired(t, h, 1).Release(t.Context()))
	_, err := c.Revoke(t.Context(), h.lease.id)
	must(t, err)
	g := acquired(t, h, 1)
	must(t, g.Release(t.Context()))
}

// A link passes on what a server says only after a delay.
func link(t *testing.T, server string, delay time.Duration) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", server)
			if err != nil {
				in.Close()
				continue
			}
			go func() {
				_, _ = io.Copy(out, in)
				out.Close()
			}()
			go passLate(in, out, delay)
		}
	}()
	return l.Addr().String()
}

func passLate(to io.WriteCloser, from io.Reader, delay time.Duration) {
	type piece struct {
		text []byte
		due  time.Time
	}
	pieces := make(chan piece, 10_000)
	go func() {
		defer to.Close()
		for p := range pieces {
			time.Sleep(time.Until(p.due))
			if _, err := to.Write(p.text); err != nil {
				return
			}
		}
	}()
	defer close(pieces)
	for {
		text := make([]byte, 64<<10)
		n, err := from.Read(text)
		if err != nil {
			return
		}
		pieces <- piece{text[:n], time.Now().Add(delay)}
	}
}

// The holder reckons its time from before it has asked, not from when the answer came.
func TestTimeIsReckonedFromBeforeAsking(t *testing.T) {
	const late, ttl = 400 * time.Millisecond, 6 * time.Second
	h := opened(t, Connect(t, link(t, Start(t).Address, late)), "late", WithTTL(ttl), WithLossDelay(2*ttl))
	l, err := h.lasting(t.Context())
	must(t, err)
	check := func(what string) {
		t.Helper()
		if left := l.left(); left > ttl-late {
			t.Errorf("%s: %v are left, want %v at most", what, left, ttl-late)
		}
	}
	check("a new lease")
	first := l.deadline.Load()
	Eventually(t, "a renewal", func(context.Context) bool {
		check("later")
		return l.deadline.Load() != first
	})
	check("a renewal")
}

// A holder that was stopped for longer than its permit lasts is refused whatever it asks when it goes on, before anything has told it
// of the loss: by its own clock, and by the store.
func TestStoppedHolder(t *testing.T) {
	if endpoint := os.Getenv(stoppedVariable); endpoint != "" {
		stoppedHolder(t, endpoint)
		return
	}
	server := Start(t)
	cmd := exec.Command(os.Args[0], "-test.run", "^TestStoppedHolder$", "-test.v")
	cmd.Env = append(os.Environ(), stoppedVariable+"="+server.Address)
	in, err := cmd.StdinPipe()
	must(t, err)
	var out output
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	must(t, cmd.Start())
	defer cmd.Process.Kill()
	Eventually(t, "the holder", func(context.Context) bool { return strings.Contains(out.String(), "holds") })
	other := opened(t, Connect(t, server.Address), "stopped", short...)
	suspend(t, cmd.Process)
	g := acquired(t, other, 1) // when the other one's is lost
	_, err = io.WriteString(in, "go on\n")
	must(t, err)
	resume(t, cmd.Process)
	defer time.AfterFunc(Deadline, func() { _ = cmd.Process.Kill() }).Stop()
	err = cmd.Wait()
	if text := out.String(); err != nil || !strings.Contains(text, "refused") {
		t.Errorf("%v: %s", err, text)
	}
	if !g.Valid() {
		t.Error("the next holder has lost its permit")
	}
}

const stoppedVariable = "SEMAPHORE_TEST_STOPPED"

// stoppedHolder takes a permit, and acts when it is told to, after it was stopped.
func stoppedHolder(t *testing.T, endpoint string) {
	c := Connect(t, endpoint)
	s, err := Open(t.Context(), c, "stopped", short...)
	must(t, err)
	p, err := s.Acquire(t.Context())
	must(t, err)
	guard, err := Guard(p)
	must(t, err)
	os.Stdout.WriteString("holds\n")
	_, err = os.Stdin.Read(make([]byte, 1)) // what follows is the first thing that it does when it goes on
	if lost := p.Err(); !errors.Is(lost, semaphore.ErrLost) {
		t.Errorf("Err is %v", lost)
	}
	must(t, err)
	if left := Left(p); left > 0 {
		t.Errorf("it has %v left", left)
	}
	resp, err := c.Txn(t.Context()).If(guard).Then(clientv3.OpPut("act", "x")).Commit()
	must(t, err)
	if resp.Succeeded {
		t.Error("the store takes what only a holder may write")
	}
	if err := p.Release(); !errors.Is(err, semaphore.ErrLost) {
		t.Errorf("Release: %v", err)
	}
	if !t.Failed() {
		os.Stdout.WriteString("refused\n")
	}
}

type output struct {
	mu sync.Mutex
	b  strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}
