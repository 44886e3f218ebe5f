package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/procsem/semaphore"
)

// What processes do that are measured. Their arguments are the mode, the peer, a number, and names of
// semaphores; libc/bench.c and python/bench.py have the same modes as far as their peers have them.
//
//	loop N        take and give N times
//	ping N        take the first one and give the second, N times
//	ring N        N steps: take the next one, and give the one before
//	share MS      take and give for that long, and print a histogram of the times from one turn to the next
//	open N        open and close N times
//	reopen N      the same while it is open
//	goroutines/COUNT N   so many goroutines take and give, N times in all
//	cancel N      cancel N waits
//	waiting COUNT so many wait, in a process
//	member NUMBER do what is ordered (obey)
//
// A process that is ready to begin prints "ready", and begins when it reads a line. In the end it prints how many
// operations it has done, and the nanoseconds of wall and CPU time that they took; and the histogram.
func doMode(mode string, p *peer, n int, names []string) {
	mode, more, _ := strings.Cut(mode, "/")
	switch mode {
	case "open", "reopen":
		if mode == "reopen" {
			p.open(names[0])
		}
		begin(n, func() {
			for range n {
				must(p.open(names[0]).(interface{ Close() error }).Close())
			}
		})
		return
	case "waiting":
		waiting(p, more, n, names[0])
		return
	case "member":
		obey(p, n, names)
		return
	case "greedy":
		greedy(p.open(names[0]), int64(n))
		return
	}
	var all []lock
	for _, name := range names {
		all = append(all, p.open(name))
	}
	first := all[0]
	switch mode {
	case "loop", "ping":
		begin(n, func() { takeAndGive(first, all[len(all)-1], n) })
	case "ring":
		must(first.Wait())
		begin(n, func() {
			for i, at := 0, 0; i < n; i++ {
				next := at + 1
				if next == len(all) {
					next = 0
				}
				if all[next].Wait() != nil || all[at].Post() != nil {
					fail("Wait or Post failed")
				}
				at = next
			}
		})
	case "share":
		share(first, time.Duration(n)*time.Millisecond)
	case "goroutines":
		count, err := strconv.Atoi(more)
		must(err)
		contendInProcess(p, first, names[0], count, max(1, n/count))
	case "cancel":
		cancelWaits(p, first, names[0], n)
	default:
		fail("no mode %q", mode)
	}
}

// begin does f, which does n operations, when the time has come.
func begin(n int, f func()) {
	ready()
	start, cpu := time.Now(), cpuTime()
	f()
	finish(n, time.Since(start), cpuTime()-cpu, "")
}

func ready() {
	fmt.Println("ready")
	stdin.ReadString('\n')
}

var stdin = bufio.NewReader(os.Stdin)

func finish(operations int, wall, cpu time.Duration, more string) {
	fmt.Printf("%d %d %d%s\n", operations, wall.Nanoseconds(), cpu.Nanoseconds(), more)
}

// takeAndGive is the loop of a program: it calls the type's methods, as programs do, and not an interface's.
func takeAndGive(a, b lock, n int) {
	x, ours := a.(*semaphore.Semaphore)
	if !ours {
		for range n {
			if a.Wait() != nil || b.Post() != nil {
				fail("Wait or Post failed")
			}
		}
		return
	}
	y := b.(*semaphore.Semaphore)
	for range n {
		if x.Wait() != nil || y.Post() != nil {
			fail("Wait or Post failed")
		}
	}
}

func share(l lock, d time.Duration) {
	var turns histogram
	done := 0
	ready()
	start, cpu := time.Now(), cpuTime()
	for last := time.Duration(0); last < d; done++ {
		takeAndGive(l, l, 1)
		at := time.Since(start)
		turns.count(int64(at - last))
		last = at
	}
	finish(done, time.Since(start), cpuTime()-cpu, turns.String())
}

// contendInProcess lets goroutines take and give one permit, n times each. All are
// started before the permit is free: otherwise one goroutine might be done before the
// next one starts, and they would never contend.
func contendInProcess(p *peer, first lock, name string, count, n int) {
	var all, begun sync.WaitGroup
	must(first.Wait())
	for range count {
		l := first
		if p.single {
			l = p.open(name)
		}
		begun.Add(1)
		all.Go(func() {
			begun.Done()
			takeAndGive(l, l, n)
		})
	}
	begun.Wait()
	for range count {
		runtime.Gosched()
	}
	begin(n*count, func() {
		must(first.Post())
		all.Wait()
	})
}

type canceller interface {
	WaitContext(context.Context) error
}

// cancelWaits measures how long it takes from the end of a wait's context to the return of the wait.
func cancelWaits(p *peer, holder lock, name string, n int) {
	waiter := p.other(holder, name)
	must(holder.Wait())
	ready()
	var took time.Duration
	cpu := cpuTime()
	for range n {
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan time.Time)
		asleep := goroutinesAsleep()
		go func() {
			if err := waiter.(canceller).WaitContext(ctx); !errors.Is(err, context.Canceled) {
				fail("a cancelled wait: %v", err)
			}
			ended <- time.Now()
		}()
		for goroutinesAsleep() <= asleep {
			time.Sleep(100 * time.Microsecond)
		}
		start := time.Now()
		cancel()
		took += (<-ended).Sub(start)
	}
	finish(n, took, cpuTime()-cpu, "")
}

// other returns what another goroutine waits on, while the lock is held.
func (p *peer) other(l lock, name string) lock {
	if p.cannot[processes] != "" { // it has no name by which to open it again
		return l
	}
	return p.open(name)
}

// waiting lets goroutines wait for a permit, as Wait or with a context, until standard input ends. It prints "waiting"
// when all sleep. Garbage is collected before it prints that, and before "ready": so its memory can be compared.
func waiting(p *peer, how string, n int, name string) {
	holder := p.open(name)
	must(holder.Wait())
	shared := p.other(holder, name)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	debug.FreeOSMemory()
	ready()
	asleep := goroutinesAsleep()
	for range n {
		l := shared
		if p.single {
			l = p.open(name)
		}
		wait := l.Wait
		if how == "context" {
			wait = func() error { return l.(canceller).WaitContext(ctx) }
		}
		go func() {
			if err := wait(); ctx.Err() == nil {
				fail("a wait has ended: %v", err)
			}
		}()
	}
	for goroutinesAsleep() < asleep+n {
		time.Sleep(time.Millisecond)
	}
	debug.FreeOSMemory()
	fmt.Println("waiting")
	for {
		if _, err := stdin.ReadByte(); err != nil {
			os.Exit(0)
		}
	}
}

func goroutinesAsleep() int {
	states := []metrics.Sample{
		{Name: "/sched/goroutines/waiting:goroutines"},
		{Name: "/sched/goroutines/not-in-go:goroutines"}, // the one that sleeps in the kernel for all
	}
	metrics.Read(states)
	return int(states[0].Value.Uint64() + states[1].Value.Uint64())
}

// obey does what is ordered: to wait, or to give. It reports to standard output what it has done, and when, and ends when its
// orders end. The names are that of the semaphore and, if there are two, how many megabytes of memory it is to touch.
func obey(p *peer, number int, names []string) {
	l := p.open(names[0])
	megabytes := 0
	if len(names) > 1 {
		var err error
		megabytes, err = strconv.Atoi(names[1])
		must(err)
	}
	memory := make([]byte, megabytes<<20+1)
	for i := 0; i < len(memory); i += os.Getpagesize() {
		memory[i] = 1
	}
	report := func(what string, at int64) { fmt.Println(number, what, at) }
	orders := make(chan string)
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			orders <- lines.Text()
		}
		os.Exit(0)
	}()
	report("ready", 0)
	for order := range orders {
		switch order {
		case "wait":
			must(l.Wait())
			report("got", monotonic())
		case "give":
			at := monotonic()
			must(l.Post())
			report("gave", at)
		}
	}
	memory[0]++ // the memory must stay allocated until here
}

// greedy is one of several that want the same permit again soon
// after they have given it, until that time. It prints how long it waited,
// each time. The pause is what a loop of commands needs to start the next one. Without it
// a waiter that flock(2) has woken often finds the file locked again by the one who gave it:
// then one loop has nearly all the turns, and a percentile of all waits is its own, of microseconds.
func greedy(l lock, end int64) {
	var waits []time.Duration
	for monotonic() < end {
		start := time.Now()
		must(l.Wait())
		waits = append(waits, time.Since(start))
		time.Sleep(greedyHold)
		must(l.Post())
		time.Sleep(greedyPause)
	}
	for _, w := range waits {
		fmt.Println(w.Nanoseconds())
	}
}
