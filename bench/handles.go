package main

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/procsem/semaphore"
	xsync "golang.org/x/sync/semaphore"
)

// Measurements within one process.

func cpuTime() time.Duration {
	var u syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// timed runs f, which does n operations, and returns the cost of one of them.
func timed(n int, f func()) sample {
	start, cpu := time.Now(), cpuTime()
	f()
	return sample{float64(time.Since(start).Nanoseconds()) / float64(n), float64((cpuTime() - cpu).Nanoseconds()) / float64(n)}
}

type permit struct{ take, give, remove func() }

func ourPermit(e semaphore.Engine) permit {
	s, remove := newSemaphore(e, 1)
	return permit{func() { must(s.Wait()) }, func() { must(s.Post()) }, remove}
}

func xsyncPermit() permit {
	s := xsync.NewWeighted(1)
	return permit{func() { must(s.Acquire(context.Background(), 1)) }, func() { s.Release(1) }, func() {}}
}

// goroutines lets 1,000 goroutines take and give one permit, n times each. All are
// started before the permit is free: otherwise one goroutine might be done before the
// next one starts, and they would never contend.
func goroutines(p permit, n int) sample {
	const count = 1000
	defer p.remove()
	var all, begun sync.WaitGroup
	p.take()
	for range count {
		begun.Add(1)
		all.Go(func() {
			begun.Done()
			for range n {
				p.take()
				p.give()
			}
		})
	}
	begun.Wait()
	for range count {
		runtime.Gosched()
	}
	return timed(n*count, func() {
		p.give()
		all.Wait()
	})
}

// allocations returns how many bytes an uncontended Wait and Post allocate.
func allocations(e semaphore.Engine) int64 {
	p := ourPermit(e)
	defer p.remove()
	return testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p.take()
			p.give()
		}
	}).AllocedBytesPerOp()
}

// A crowd is a recoverable semaphore most of whose permits are taken.
type crowd struct {
	*semaphore.Semaphore                      // a handle without permits, which is measured
	most                 *semaphore.Semaphore // the handle that holds most permits
	taken                []*semaphore.Permit  // those of most, in the order of their words
	remove               func()
}

func newCrowd(limit int) *crowd {
	most, remove := newSemaphore(semaphore.EngineRecoverable, limit)
	c := &crowd{most: most, Semaphore: openSemaphore(semaphore.EngineRecoverable, most.Name())}
	c.remove = func() {
		c.Close()
		remove()
	}
	for range limit {
		c.taken = append(c.taken, c.acquire())
	}
	return c
}

func (c *crowd) acquire() *semaphore.Permit {
	p, err := c.most.TryAcquire()
	must(err)
	return p
}

// takeAndGive takes and gives the only free permit.
func (c *crowd) takeAndGive(n int) sample {
	at := len(c.taken) / 2
	must(c.taken[at].Release())
	defer func() { c.taken[at] = c.acquire() }()
	return timed(n, func() {
		for range n {
			must(c.Wait())
			must(c.Post())
		}
	})
}

// takeElsewhere takes and gives another permit each time, so that each take has to
// search for it: first the handle most gives that permit, and in the end takes it again.
func (c *crowd) takeElsewhere(n int) sample {
	const stride = 7919 // coprime to the number of permits, so that each has its turn
	at := 0
	return timed(2*n, func() {
		for range n {
			at = (at + stride) % len(c.taken)
			must(c.taken[at].Release())
			must(c.Wait())
			must(c.Post())
			c.taken[at] = c.acquire()
		}
	})
}

// takeTwo takes both of the only free permits, which are far apart, and gives both.
func (c *crowd) takeTwo(n int) sample {
	first, last := 0, len(c.taken)-1
	must(c.taken[first].Release())
	must(c.taken[last].Release())
	defer func() {
		c.taken[first] = c.acquire()
		c.taken[last] = c.acquire()
	}()
	return timed(2*n, func() {
		for range n {
			must(c.Wait())
			must(c.Wait())
			must(c.Post())
			must(c.Post())
		}
	})
}

// tryInVain tries to take a permit when none is free.
func (c *crowd) tryInVain(n int) sample {
	return timed(n, func() {
		for range n {
			if err := c.TryWait(); !errors.Is(err, semaphore.ErrWouldBlock) {
				fail("TryWait: %v", err)
			}
		}
	})
}

// crowds compares a large crowd with a small one.
func crowds(f func(*crowd, int) sample, n int) func() (func(int) (sample, sample), func()) {
	return func() (func(int) (sample, sample), func()) {
		large, small := newCrowd(10_000), newCrowd(10)
		return alternate(
				func() sample { return f(large, work(n)) },
				func() sample { return f(small, work(n)) },
			), func() {
				large.remove()
				small.remove()
			}
	}
}
