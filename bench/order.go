package main

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// How long waiters wait, and in which order they are served.

// flocked is flock(2) of a file, whose waiters the kernel serves in their order.
var flocked = kind{
	name: "flock",
	make: kernelLock.make,
	open: func(name string) lock {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		must(err)
		return flock{f}
	},
	sleep: unix.SYS_FLOCK,
}

type flock struct{ f *os.File }

func (l flock) Wait() error { return l.set(unix.LOCK_EX) }
func (l flock) Post() error { return l.set(unix.LOCK_UN) }

func (l flock) set(how int) error {
	for {
		if err := unix.Flock(int(l.f.Fd()), how); err != unix.EINTR {
			return err
		}
	}
}

// The loops of greedy: how many there are, how long each holds the permit, how long it
// takes to ask again, and for how long they go on.
const (
	greedyLoops = 12
	greedyHold  = 10 * time.Millisecond
	greedyPause = 2 * time.Millisecond
	greedyTime  = 3 * time.Second
)

// greedy is the main function of one of several processes that want the same permit again soon
// after they have given it, with the arguments KIND NAME END. It prints how long it waited,
// each time. The pause is what a loop of commands needs to start the next one. Without it
// a waiter that flock(2) has woken often finds the file locked again by the one who gave it:
// then one loop has nearly all the turns, and a percentile of all waits is its own, of microseconds.
func greedy(args []string) {
	l := kinds[args[0]].open(args[1])
	end, err := strconv.ParseInt(args[2], 10, 64)
	must(err)
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

// greedyWaits runs the loops, and returns all their waits, the shortest first.
func greedyWaits(k kind) (waits []float64) {
	name, remove := k.make()
	defer remove()
	end := fmt.Sprint(monotonic() + greedyTime.Nanoseconds())
	var outs []func() []byte
	for range greedyLoops {
		cmd := exec.Command(self, "greedy", k.name, name, end)
		cmd.Stderr = os.Stderr
		out := make(chan []byte, 1)
		go func() {
			b, err := cmd.Output()
			must(err)
			out <- b
		}()
		outs = append(outs, func() []byte { return <-out })
	}
	for _, out := range outs {
		for _, line := range strings.Fields(string(out())) {
			w, err := strconv.ParseFloat(line, 64)
			must(err)
			waits = append(waits, w)
		}
	}
	slices.Sort(waits)
	return waits
}

// waitsOfLoops compares one of the waits of the loops with flock's: which is 1 for the longest, 0.9
// for the 90th percentile.
func waitsOfLoops(which float64) func() (func(int) (sample, sample), func()) {
	measure := func(k kind) func() sample {
		return func() sample {
			waits := greedyWaits(k)
			return sample{waits[int(math.Ceil(which*float64(len(waits))))-1], math.NaN()}
		}
	}
	return independent(measure(ours), measure(flocked))
}

// disorder counts the waiters that are served before one that came earlier, of n that come
// one after the other.
func disorder(k kind, n int) func() sample {
	return func() sample {
		g := newGroup(k, n, 0, 0)
		defer g.remove()
		passed, latest := 0, g.holder.number
		for range n {
			g.holder.order("give")
			for range 2 {
				if r := g.next("gave", "got"); r.what == "got" {
					g.holder = r.from
				}
			}
			if g.holder.number < latest {
				passed++
			}
			latest = max(latest, g.holder.number)
		}
		return sample{float64(passed), math.NaN()}
	}
}
