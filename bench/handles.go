package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
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
// that wait for a permit, those goroutines included: garbage is collected before both looks. The mode says how
// they wait.
func waitingMemory(mode string, e semaphore.Engine) func() sample {
	return func() sample {
		name := ""
		if mode != "xsync" {
			s, remove := onePermit(e, 0)
			defer remove()
			name = s.Name()
		}
		cmd := exec.Command(programs[withCgo], "waiting", mode, strconv.Itoa(int(e)), "10000", name)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		must(err)
		bytes, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
		must(err)
		return sample{bytes, math.NaN()}
	}
}

// waiting is the main function of that process, with the arguments MODE ENGINE N NAME. It prints the bytes.
func waiting(args []string) {
	engine, err := strconv.Atoi(args[1])
	must(err)
	n, err := strconv.Atoi(args[2])
	must(err)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wait func() error
	if args[0] == "xsync" {
		s := xsync.NewWeighted(1)
		must(s.Acquire(ctx, 1))
		wait = func() error { return s.Acquire(ctx, 1) }
	} else {
		s := openSemaphore(semaphore.Engine(engine), args[3])
		wait = s.Wait
		if args[0] == "context" {
			wait = func() error { return s.WaitContext(ctx) }
		}
	}
	before, asleep := residentMemory(), goroutinesAsleep()
	for range n {
		go func() {
			if err := wait(); ctx.Err() == nil {
				fail("a wait has ended: %v", err)
			}
		}()
	}
	for goroutinesAsleep() < asleep+n {
		time.Sleep(time.Millisecond)
	}
	fmt.Println((residentMemory() - before) / n)
}

func residentMemory() int {
	debug.FreeOSMemory()
	content, err := os.ReadFile("/proc/self/statm")
	must(err)
	var total, resident int
	_, err = fmt.Sscan(string(content), &total, &resident)
	must(err)
	return resident * os.Getpagesize()
}

func goroutinesAsleep() int {
	states := []metrics.Sample{
		{Name: "/sched/goroutines/waiting:goroutines"},
		{Name: "/sched/goroutines/not-in-go:goroutines"}, // the one that sleeps in the kernel for all
	}
	metrics.Read(states)
	return int(states[0].Value.Uint64() + states[1].Value.Uint64())
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
				func() sample { return f(large, work(n)) },
				func() sample { return f(small, work(n)) },
			), func() {
				large.remove()
				small.remove()
			}
	}
}
