package main

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/procsem/semaphore"
	xsync "golang.org/x/sync/semaphore"
)

// Measurements within one process.

// timed runs f, which does n operations, and returns the cost of one of them.
func timed(n int, f func()) sample {
	start, cpu := time.Now(), cpuTime()
	f()
	return sample{float64(time.Since(start).Nanoseconds()) / float64(n), float64((cpuTime() - cpu).Nanoseconds()) / float64(n)}
}

// onePermit makes a semaphore of one permit, which is free or, with 0, taken.
func onePermit(e semaphore.Engine, free int) (s *semaphore.Semaphore, remove func()) {
	s, remove = newSemaphore(e, 1)
	if free == 0 {
		must(s.Wait())
	}
	return s, remove
}

func waitAndPost(s *semaphore.Semaphore) {
	must(s.Wait())
	must(s.Post())
}

func tryInVain(s *semaphore.Semaphore) {
	if err := s.TryWait(); !errors.Is(err, semaphore.ErrWouldBlock) {
		fail("TryWait: %v", err)
	}
}

func acquireAndRelease(s *semaphore.Semaphore) {
	p, err := s.Acquire(context.Background())
	must(err)
	must(p.Release())
}

// repeated measures one operation, n times, on a semaphore with one permit.
func repeated(e semaphore.Engine, free, n int, operation func(*semaphore.Semaphore)) func() sample {
	return func() sample {
		s, remove := onePermit(e, free)
		defer remove()
		return timed(n, func() {
			for range n {
				operation(s)
			}
		})
	}
}

// tryXsyncInVain and acquireXsync are the same with x/sync.
func tryXsyncInVain(n int) sample {
	s := xsync.NewWeighted(1)
	must(s.Acquire(context.Background(), 1))
	return timed(n, func() {
		for range n {
			if s.TryAcquire(1) {
				fail("x/sync gives a second permit")
			}
		}
	})
}

func acquireXsync(n int) sample {
	s := xsync.NewWeighted(1)
	return timed(n, func() {
		for range n {
			must(s.Acquire(context.Background(), 1))
			s.Release(1)
		}
	})
}

// bytesOf and allocationsOf return what an operation on a semaphore with one permit allocates.
func bytesOf(e semaphore.Engine, free int, operation func(*semaphore.Semaphore)) int64 {
	s, remove := onePermit(e, free)
	defer remove()
	return testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			operation(s)
		}
	}).AllocedBytesPerOp()
}

func allocationsOf(e semaphore.Engine, free int, operation func(*semaphore.Semaphore)) int64 {
	s, remove := onePermit(e, free)
	defer remove()
	return int64(testing.AllocsPerRun(1000, func() { operation(s) }))
}

// waitingMemory returns by how much the resident memory of a process grows for each of 10,000 goroutines
// that wait for a permit, those goroutines included.
func waitingMemory(p *peer, mode string) func() sample {
	return func() sample { return sample{manyWait(p, mode, 10_000, 0).bytes, math.NaN()} }
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
			tryInVain(c.Semaphore)
		}
	})
}

// crowds compares a large crowd with a small one.
func crowds(f func(*crowd, int) sample, n int) func() (func(int) (sample, sample), func()) {
	return func() (func(int) (sample, sample), func()) {
		large, small := newCrowd(10_000), newCrowd(10)
		return alternate(
				func() sample { return f(large, times(n)) },
				func() sample { return f(small, times(n)) },
			), func() {
				large.remove()
				small.remove()
			}
	}
}
