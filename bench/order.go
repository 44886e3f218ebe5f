package main

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/procsem/semaphore"
)

// How long waiters wait, and in which order they are served.

// The loops of greedy: how many there are, how long each holds the permit, and how long it
// takes to ask again.
const (
	greedyLoops = 12
	greedyHold  = 10 * time.Millisecond
	greedyPause = 2 * time.Millisecond
)

// greedyWaits runs the loops, and returns all their waits, the shortest first.
func greedyWaits(p *peer) (waits []float64) {
	name, remove := p.create(1)
	defer remove()
	end := int(monotonic() + pace.greedy.Nanoseconds())
	var outs []func() []byte
	for range greedyLoops {
		cmd := p.command("greedy", end, name)
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
	measure := func(p *peer) func() sample {
		return func() sample {
			waits := greedyWaits(p)
			return sample{waits[int(math.Ceil(which*float64(len(waits))))-1], math.NaN()}
		}
	}
	return independent(measure(ours(semaphore.EngineRecoverable, withCgo)), measure(flocked))
}

// disorder counts the waiters that are served before one that came earlier, of n that come
// one after the other.
func disorder(p *peer, n int) func() sample {
	return func() sample {
		g := newGroup(p, n, 0, 0)
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
