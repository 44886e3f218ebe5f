package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"
)

// A sample is the cost of one operation in one round, in ns.
type sample struct{ wall, cpu float64 }

// A row compares two things.
type row struct {
	name   string
	target target
	// prepare sets up what the rounds share, and returns a function that measures
	// one round and a function that cleans up.
	prepare func() (round func(i int) (ours, theirs sample), done func())
	// fewer divides the number of rounds, for rows whose rounds take long.
	fewer int
	unit  string // of the samples, if it is not ns/op
}

// A target is what a row must reach.
type target struct {
	text string
	met  func(result) bool
}

// A result is what the rounds of a row come to.
type result struct{ ours, theirs, ratio, leastRatio, more float64 } // medians, but for one

var information = target{text: "-", met: func(result) bool { return true }}

// atMost limits the median ratio.
func atMost(limit float64) target {
	return target{text: fmt.Sprintf("<= %.3g", limit), met: func(r result) bool { return r.ratio <= limit }}
}

// onceAtMost limits the ratio of the best round.
func onceAtMost(limit float64) target {
	return target{text: fmt.Sprintf("<= %.3g in a round", limit), met: func(r result) bool { return r.leastRatio <= limit }}
}

// moreByAtMost limits the median difference.
func moreByAtMost(limit float64) target {
	return target{text: fmt.Sprintf("<= +%.3g", limit), met: func(r result) bool { return r.more <= limit }}
}

// oursAtMost limits our own figure.
func oursAtMost(limit float64) target {
	return target{text: fmt.Sprintf("ours <= %.5g", limit), met: func(r result) bool { return r.ours <= limit }}
}

// alternate makes a round of two independent measurements.
func alternate(ours, theirs func() sample) func(i int) (sample, sample) {
	return func(i int) (x, y sample) {
		if i%2 == 0 { // neither side is always measured first
			x = ours()
			y = theirs()
		} else {
			y = theirs()
			x = ours()
		}
		return x, y
	}
}

// independent makes a row's prepare for measurements that share nothing.
func independent(ours, theirs func() sample) func() (func(int) (sample, sample), func()) {
	return func() (func(int) (sample, sample), func()) { return alternate(ours, theirs), func() {} }
}

const rowFormat = "%-68s %9s %9s   %-20s %-9s %s\n"

func printHeader() {
	fmt.Printf("medians of interleaved rounds (%d, of long ones fewer), ns per operation; ratio ours/theirs: median [minimum, maximum]\n\n", *rounds)
	fmt.Printf(rowFormat, "", "ours", "theirs", "ratio", "CPU ratio", "target")
}

// measure runs the row's rounds, prints it, and reports whether its target is met.
func (r row) measure() (cells []string, met bool) {
	begin := time.Now()
	lateOurs, lateTheirs, latest = 0, 0, 0
	n := *rounds
	if r.fewer > 1 {
		n = max(1, (n+r.fewer-1)/r.fewer)
	}
	round, done := r.prepare()
	var a, b, ratios, more, cpu []float64
	for i := range n {
		x, y := round(i)
		unit := []string{cmp.Or(r.unit, "ns/op")}
		writeRaw(raw, "Row/row="+rawName(r.name)+"/side=ours", 1, unit, []float64{x.wall})
		writeRaw(raw, "Row/row="+rawName(r.name)+"/side=theirs", 1, unit, []float64{y.wall})
		a, b = append(a, x.wall), append(b, y.wall)
		ratios, more, cpu = append(ratios, x.wall/y.wall), append(more, x.wall-y.wall), append(cpu, x.cpu/y.cpu)
	}
	done()
	cpuRatio := "-"
	if c := median(cpu); !math.IsNaN(c) {
		cpuRatio = fmt.Sprintf("%.2f", c)
	}
	verdict := r.target.text
	res := result{median(a), median(b), median(ratios), slices.Min(ratios), median(more)}
	met = r.target.met(res)
	switch {
	case !met:
		verdict += " MISSED"
	case r.target.text != information.text:
		verdict += " met"
	}
	if lateOurs+lateTheirs > 0 {
		verdict += fmt.Sprintf("; later than %v: %d ours, %d theirs, at most %v", late, lateOurs, lateTheirs, latest.Round(time.Millisecond))
	}
	if *verbose {
		verdict += fmt.Sprintf("; %d rounds, %.1f s", n, time.Since(begin).Seconds())
	}
	return printRow(r.name, fmt.Sprintf("%.1f", res.ours), fmt.Sprintf("%.1f", res.theirs),
		fmt.Sprintf("%s [%s, %s]", short(res.ratio), short(res.leastRatio), short(slices.Max(ratios))), cpuRatio, verdict), met
}

// printRow prints and returns the cells of a row.
func printRow(cells ...string) []string {
	fmt.Printf(rowFormat, cells[0], cells[1], cells[2], cells[3], cells[4], cells[5])
	return cells
}

// rawName is a row's name in raw data, where slashes and spaces have a meaning.
func rawName(name string) string {
	return strings.Join(strings.FieldsFunc(name, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }), "-")
}

func (c count) measure() (cells []string, met bool) {
	got := c.get()
	met = got <= c.want
	verdict := "met"
	if !met {
		verdict = "MISSED"
	}
	return printRow(c.name, fmt.Sprint(got), "", "", "", fmt.Sprintf("ours <= %d %s", c.want, verdict)), met
}

func short(x float64) string {
	switch {
	case math.IsNaN(x) || math.IsInf(x, 0):
		return "-"
	case x < 0.1:
		return fmt.Sprintf("%.3f", x)
	}
	return fmt.Sprintf("%.2f", x)
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	return (x[(len(x)-1)/2] + x[len(x)/2]) / 2
}

// A hand-over that takes longer than late points to a missed report or notification: then
// only the waiters' safety net, once a second, finds the permit.
const late = 100 * time.Millisecond

// The late hand-overs in the row that is being measured.
var (
	lateOurs, lateTheirs int           // how many there were
	latest               time.Duration // the longest
)
