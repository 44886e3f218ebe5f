package main

import (
	"fmt"
	"io"
	"log"
	"os/exec"
	"regexp"
	"slices"
	"time"
)

// A work is what peers do while they are measured.
type work struct {
	name       string // in the raw data, as benchmarks are called
	needs      []ability
	units      []string // of the figures that measure returns
	calibrated bool     // the first figure is ns/op, and n is such that a round takes about as long as it should
	least      int      // the least n that makes sense, if that is not 1
	once       bool     // its rounds take so long that there are a third as many
	measure    func(p *peer, n int) []float64
}

// An effort is how much is done in a round.
type effort struct {
	calibrated, share, idle, greedy time.Duration
	handOvers, kills, starts, max   int
}

var (
	thorough = effort{100 * time.Millisecond, 150 * time.Millisecond, time.Second, 3 * time.Second, 20, 10, 10, 500}
	hasty    = effort{10 * time.Millisecond, 25 * time.Millisecond, 300 * time.Millisecond, time.Second, 4, 4, 4, 50}
)

// A table of the page has a column for each figure of a work.
type table struct {
	title, text string
	columns     []column
	charts      []chart
}

type column struct {
	heading string
	work    *work
	figure  int // which of the work's
	format  func(float64) string
}

// A chart shows columns of a table, which all are durations.
type chart struct {
	file, title string
	columns     []int
}

func tables(e effort) []table {
	simple := func(name, mode string, needs ...ability) *work {
		return &work{name: name, needs: append([]ability{looping}, needs...), units: []string{"ns/op", "cpu-ns/op"}, calibrated: true,
			measure: func(p *peer, n int) []float64 {
				s := alone(p, mode, n)
				return []float64{s.wall, s.cpu}
			}}
	}
	one := table{
		title: "One process",
		text: "A free permit is taken and given back. A semaphore, of which there is a file, is opened and closed. A wait for a permit that is taken is " +
			"cancelled: how long until it returns.",
		charts: []chart{{"take-and-give", "Take and give a free permit", []int{0}}},
	}
	add := func(t *table, heading string, w *work) {
		t.columns = append(t.columns, column{heading, w, 0, duration})
	}
	add(&one, "take and give", simple("Pair", "loop"))
	add(&one, "open and close", simple("Open", "open", handles))
	add(&one, "the same, already open", simple("Reopen", "reopen", handles))
	cancelled := simple("Cancel", "cancel", cancelling)
	cancelled.calibrated = false
	measure := cancelled.measure
	cancelled.measure = func(p *peer, _ int) []float64 { return measure(p, 5*e.kills) }
	add(&one, "cancel", cancelled)

	contended, four, fair := table{
		title: "Processes that contend for a permit",
		text: "Two processes that take turns go round a ring of three semaphores of one permit, in which each has to wait for the other at each step. " +
			"Processes that contend take and give as fast as they can: time for each turn of any of them.",
	}, table{
		title: "Processes that contend for four permits",
		text:  "As above.",
	}, table{
		title: "How even it is",
		text: "Of the same processes: the longest time from one turn of a process to its next one, divided by the median of these times. It is high where a process " +
			"that has given a permit takes it again at once, while others sleep; the columns are processes and permits.",
	}
	add(&contended, "two take turns", &work{name: "Ring", needs: []ability{looping, processes}, units: []string{"ns/op", "cpu-ns/op"}, calibrated: true,
		measure: func(p *peer, n int) []float64 {
			s := ring(p, n)
			return []float64{s.wall, s.cpu}
		}})
	for _, permits := range []int{1, 4} {
		t, needs := &contended, []ability{looping, processes}
		if permits > 1 {
			t, needs = &four, append(needs, several)
		}
		for _, n := range []int{2, 4, 8, 16} {
			// Many processes take long to start, those of Python above all.
			w := &work{name: fmt.Sprintf("Share/processes=%d/permits=%d", n, permits), needs: needs, units: []string{"ns/op", "cpu-ns/op", "max/median"}, once: *quick && n > 4,
				measure: func(p *peer, _ int) []float64 { return shared(p, n, permits, e.share) }}
			add(t, fmt.Sprintf("%d processes", n), w)
			fair.columns = append(fair.columns, column{fmt.Sprintf("%d, %d", n, permits), w, 2, number})
		}
	}
	contended.charts = []chart{{"processes", "Processes that contend for one permit: time for each turn", []int{1, 2, 3, 4}}}

	inside := table{
		title:  "Goroutines that contend for a permit",
		text:   "Of one process, each through the same handle if there are handles: time for each turn.",
		charts: []chart{{"goroutines", "Goroutines that contend for one permit: time for each turn", []int{0, 1, 2, 3, 4}}},
	}
	for _, n := range []int{1, 10, 100, 1_000, 10_000} {
		w := simple(fmt.Sprintf("Goroutines/n=%d", n), fmt.Sprintf("goroutines/%d", n), goroutines)
		w.least = n
		if n == 10_000 {
			w.needs = append(w.needs, thousands)
		}
		add(&inside, thousandsOf(n), w)
	}

	many := &work{name: "Waiting/n=10000", needs: []ability{looping, crowding}, units: []string{"threads", "B/waiter", "cpu-ns/s"}, once: true,
		measure: func(p *peer, _ int) []float64 {
			w := manyWait(p, "waiting", 10_000, e.idle)
			return []float64{float64(w.threads), w.bytes, w.cpu}
		}}
	idle := &work{name: "Idle", needs: []ability{looping, processes}, units: []string{"cpu-ns/s"}, once: true,
		measure: func(p *peer, _ int) []float64 {
			g := newGroup(p, 1, 0, 0)
			defer g.remove()
			time.Sleep(e.idle / 10)
			return []float64{cpuWhile(g.members[2].cmd.Process.Pid, e.idle)}
		}}
	waiting := table{
		title: "Waiting",
		text: "10,000 wait in a process, goroutines or in C threads: what its resident memory grows by for each of them, which is without the kernel's memory for " +
			"threads; its threads in all; processor time that it takes in a second in which nothing happens. And the processor time of a process in which one waits.",
		columns: []column{
			{"10,000: memory each", many, 1, bytes}, {"threads", many, 0, exactly}, {"CPU each second", many, 2, duration}, {"one: CPU each second", idle, 0, duration},
		},
	}

	served := table{
		title: "Processes that wait in a row",
		text: "One holds the only permit and so many others sleep: the time from just before it gives the permit until another one has it. And the time from the kill " +
			"of the holder, of a small program, until the only waiting one has it.",
	}
	for _, n := range []int{1, 10, 50, 500} {
		if n > e.max {
			break
		}
		add(&served, thousandsOf(n)+" waiting", &work{name: fmt.Sprintf("HandOver/waiting=%d", n), needs: []ability{looping, processes}, units: []string{"ns/op"}, once: n > 1,
			measure: func(p *peer, _ int) []float64 { return inGroup(p, n, e.handOvers, (*group).handOver) }})
	}
	of := make([]int, len(served.columns))
	for i := range of {
		of[i] = i
	}
	add(&served, "kill", &work{name: "Kill", needs: []ability{looping, processes, returning}, units: []string{"ns/op"},
		measure: func(p *peer, _ int) []float64 { return inGroup(p, 1, e.kills, (*group).kill) }})
	served.charts = []chart{
		{"hand-over", "One process gives the permit, until another one has it", of},
		{"kill", "A holder is killed, until another process has the permit", []int{len(of)}},
	}

	begun := table{title: "Commands", text: `With a free permit, from the start of the command with "true" until it has ended.`}
	begun.columns = []column{{"run true", &work{name: "Start", needs: []ability{starting}, units: []string{"ns/op", "cpu-ns/op"},
		measure: func(p *peer, _ int) []float64 { return startUp(p, e.starts) }}, 0, duration}}
	return []table{one, contended, four, fair, inside, waiting, served, begun}
}

// shared lets processes take and give for a while.
func shared(p *peer, n, permits int, d time.Duration) []float64 {
	name, remove := p.create(permits)
	defer remove()
	var cmds []*exec.Cmd
	for range n {
		cmds = append(cmds, p.command("share", int(d.Milliseconds()), name))
	}
	j := together(cmds)
	return []float64{j.wall, j.cpu, j.turns.quantile(1) / j.turns.quantile(0.5)}
}

// inGroup returns the median of n hand-overs.
func inGroup(p *peer, waiting, n int, handOver func(*group) time.Duration) []float64 {
	g := newGroup(p, waiting, 0, 0)
	defer g.remove()
	var took []float64
	for range n {
		took = append(took, float64(handOver(g)))
	}
	return []float64{median(took)}
}

// Measured are the figures of each round, of each work and peer.
type measured map[*work]map[*peer][][]float64

// measureAll does the works whose names match, and writes down each round as it ends.
func measureAll(all []table, chosen *regexp.Regexp, installed []*peer, raw io.Writer) measured {
	result := make(measured)
	for _, t := range all {
		for _, c := range t.columns {
			if result[c.work] == nil && chosen.MatchString(c.work.name) {
				begin := time.Now()
				result[c.work] = c.work.rounds(installed, raw)
				log.Printf("%s: %.1f s", c.work.name, time.Since(begin).Seconds())
			}
		}
	}
	return result
}

// rounds measures all peers that can do the work, in each round once.
func (w *work) rounds(installed []*peer, raw io.Writer) map[*peer][][]float64 {
	figures := make(map[*peer][][]float64)
	n := make(map[*peer]int)
	var able []*peer
	for _, p := range installed {
		if w.cannot(p) == "" {
			able = append(able, p)
			n[p] = max(1, w.least)
			if w.calibrated {
				n[p] = w.calibrate(p)
			}
		}
	}
	rounds := *rounds
	if w.once {
		rounds = (rounds + 2) / 3
	}
	for i := range rounds {
		for j := range able {
			p := able[(i+j)%len(able)] // another one is the first in each round
			f := w.measure(p, n[p])
			figures[p] = append(figures[p], f)
			writeRaw(raw, w.name+"/peer="+p.key, n[p], w.units, f)
			if w.calibrated {
				n[p] = w.fewer(n[p], f[0])
			}
		}
	}
	return figures
}

// cannot returns why the peer can't do the work, or nothing.
func (w *work) cannot(p *peer) string {
	for _, need := range w.needs {
		if why := p.cannot[need]; why != "" {
			return why
		}
	}
	return ""
}

// calibrate returns how many operations take as long as a round should.
func (w *work) calibrate(p *peer) int {
	goal := float64(pace.calibrated)
	n := max(1, w.least)
	for {
		each := w.measure(p, n)[0]
		took := each * float64(n)
		if took >= goal/2 || n >= 100_000_000 {
			return w.fewer(n, each)
		}
		n = int(float64(n) * min(10, max(2, goal/max(1, took))))
	}
}

// fewer returns a lower n if that many take far longer than a round should: those who poll take a thousand times as long when
// they miss each other as when they happen not to.
func (w *work) fewer(n int, each float64) int {
	goal := float64(pace.calibrated)
	if each*float64(n) < 4*goal {
		return n
	}
	return max(1, w.least, int(goal/each))
}

// figure returns the median of one of the figures.
func (m measured) figure(c column, p *peer) (float64, bool) {
	var all []float64
	for _, round := range m[c.work][p] {
		all = append(all, round[c.figure])
	}
	if len(all) == 0 {
		return 0, false
	}
	return median(all), true
}

// cell is what the page has for a peer.
func (m measured) cell(c column, p *peer) string {
	if why := c.work.cannot(p); why != "" {
		return why
	}
	if f, there := m.figure(c, p); there {
		return c.format(f)
	}
	return p.missing()
}

// shownIn returns those columns of the table that were measured.
func (m measured) shownIn(t table) (columns []column) {
	return slices.DeleteFunc(slices.Clone(t.columns), func(c column) bool { return m[c.work] == nil })
}
