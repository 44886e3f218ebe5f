package etcd

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.etcd.io/etcd/client/v3/concurrency"

	. "github.com/procsem/semaphore/etcd/internal/etcdtest"
)

// Each round of a comparison does both things, one after the other, so that whatever else the machine does falls on both. What is to be
// read is the ratio.

// ratio does two things b.N times, in turn, and reports the time of the first, that of the second, and the quotient.
func ratio(b *testing.B, ours, theirs func() time.Duration) {
	var us, them time.Duration
	for b.Loop() {
		us += ours()
		them += theirs()
	}
	b.ReportMetric(float64(us.Microseconds())/float64(b.N), "µs/ours")
	b.ReportMetric(float64(them.Microseconds())/float64(b.N), "µs/theirs")
	b.ReportMetric(us.Seconds()/them.Seconds(), "ratio")
	b.ReportMetric(0, "ns/op")
}

func timed(f func()) func() time.Duration {
	return func() time.Duration {
		began := time.Now()
		f()
		return time.Since(began)
	}
}

// Taking and giving back a free permit, against what the store itself takes to write one key, and against the lock of etcd's own
// package.
func BenchmarkAcquireRelease(b *testing.B) {
	c := Connect(b, Start(b).Address)
	h := opened(b, c, "free", WithLimit(1))
	ours := timed(func() { must(b, acquired(b, h, 1).Release(b.Context())) })
	ours() // makes the lease
	b.Run("against=Put", func(b *testing.B) {
		ratio(b, ours, timed(func() {
			_, err := c.Put(b.Context(), "key", "value")
			must(b, err)
		}))
	})
	b.Run("against=Mutex", func(b *testing.B) {
		session, err := concurrency.NewSession(c)
		must(b, err)
		defer session.Close()
		mutex := concurrency.NewMutex(session, "mutex")
		theirs := timed(func() {
			must(b, mutex.Lock(b.Context()))
			must(b, mutex.Unlock(b.Context()))
		})
		theirs()
		ratio(b, ours, theirs)
	})
}

// From Release to the return of the next one's Acquire, with 100 waiting, each over a connection of its own, against 1.
func BenchmarkHandOver(b *testing.B) {
	server := Start(b)
	handOver := func(l *line, g **grant) func() time.Duration {
		return func() time.Duration {
			began := time.Now()
			must(b, (*g).Release(b.Context()))
			next := l.next(b)
			took := time.Since(began)
			l.join(b, (*g).h)
			*g = next
			return took
		}
	}
	many, first := newLine(b, server.Address, 100, nil)
	one, only := newLine(b, server.Address, 1, nil)
	b.Run("waiting=100/against=1", func(b *testing.B) { ratio(b, handOver(many, &first), handOver(one, &only)) })
}

// A limit of 1 with 50 waiting is raised to 51, until all have got in, against 50 Puts in a row.
func BenchmarkRaise(b *testing.B) {
	const waiting = 50
	server := Start(b).Address
	c := Connect(b, server)
	h := opened(b, c, "raise", WithLimit(1))
	var handles []*handle
	for range waiting {
		handles = append(handles, opened(b, Connect(b, server), "raise"))
	}
	ratio(b, func() time.Duration {
		must(b, h.SetLimit(b.Context(), 1))
		l := &line{"raise", make(chan *grant, waiting)}
		held := []*grant{acquired(b, h, 1)}
		for _, each := range handles {
			l.join(b, each)
		}
		began := time.Now()
		must(b, h.SetLimit(b.Context(), waiting+1))
		for range waiting {
			held = append(held, l.next(b))
		}
		took := time.Since(began)
		for _, g := range held {
			must(b, g.Release(b.Context()))
		}
		return took
	}, timed(func() {
		for i := range waiting {
			_, err := c.Put(b.Context(), fmt.Sprint("key", i), "value")
			must(b, err)
		}
	}))
}

// From the death of a holder until a waiter has its permit, against TTL and loss delay.
func BenchmarkDeath(b *testing.B) {
	c := Connect(b, Start(b).Address)
	waiter := opened(b, c, "death", append(short[:len(short):len(short)], WithLimit(1))...)
	var dead *handle
	ratio(b, func() time.Duration {
		h, _, err := open(b.Context(), c, "death", short)
		must(b, err)
		dead = h
		acquired(b, h, 1)
		l := &line{"death", make(chan *grant)}
		l.join(b, waiter)
		began := time.Now()
		dead.cancel() // nothing is heard of it any more
		g := l.next(b)
		took := time.Since(began)
		must(b, g.Release(context.Background()))
		return took
	}, func() time.Duration { return dead.ttl + dead.delay })
}
