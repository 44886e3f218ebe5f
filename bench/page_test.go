package main

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/perf/benchfmt"
)

// A work that is measured without doing anything, and one that is not.
func example(*testing.T) (page, *peer) {
	able := &peer{key: "able", name: "a|b_c"}
	unable := &peer{key: "unable", name: "unable", cannot: map[ability]string{looping: "no: a <reason>"}}
	absent := &peer{key: "absent", name: "absent", missing: func() string { return "not installed" }}
	figure := 1500.0
	w := &work{name: "Pair", needs: []ability{looping}, units: []string{"ns/op", "threads"}, measure: func(*peer, int) []float64 {
		figure += 1000
		return []float64{figure, 1234567}
	}}
	all := []table{
		{title: "One", text: "What.", charts: []chart{{"one", "A chart", []int{0}}}, columns: []column{{"time", w, 0, duration}, {"threads", w, 1, exactly}}},
		{title: "Not chosen", columns: []column{{"time", &work{name: "Other", measure: w.measure}, 0, duration}}},
	}
	p := page{heading: []string{"Measured."}, facts: [][2]string{{"CPU", "x"}}, tables: all, peers: []*peer{able, unable, absent}}
	return p, able
}

func TestPage(t *testing.T) {
	p, able := example(t)
	var raw, got strings.Builder
	p.measured = measureAll(p.tables, regexp.MustCompile("^Pair$"), []*peer{able, p.peers[1]}, &raw)
	p.write(&got)
	for _, want := range []string{
		"# Measured\n\nMeasured.\n",
		"| CPU | x |\n",
		"## One\n\nWhat.\n\n![A chart](picture/bench-one.svg)\n\n|  | time | threads |\n|---|---|---|\n",
		"| a\\|b\\_c | 7.5 µs | 1,234,567 |\n", // the median of 11 rounds, the first of which was 2,500
		"| unable | no: a &lt;reason> | no: a &lt;reason> |\n",
		"| absent | not installed | not installed |\n",
	} {
		if !strings.Contains(got.String(), want) {
			t.Errorf("the page has no %q:\n%s", want, got.String())
		}
	}
	for _, other := range []string{"## Ratios", "Not chosen"} {
		if strings.Contains(got.String(), other) {
			t.Errorf("the page has %q, of which nothing was measured", other)
		}
	}
}

// benchstat reads the raw data by this package.
func TestRawData(t *testing.T) {
	p, able := example(t)
	var raw strings.Builder
	measureAll(p.tables, regexp.MustCompile("Pair"), []*peer{able}, &raw)
	writeRaw(&raw, "Row/row="+rawName("Wait+Post, of 1/2: C")+"/side=ours", 1, []string{"ns/op"}, []float64{2})
	names := make(map[string]int)
	for r := benchfmt.NewReader(strings.NewReader(raw.String()), "raw"); r.Scan(); {
		result, ok := r.Result().(*benchfmt.Result)
		if !ok {
			t.Fatal(r.Result())
		}
		names[result.Name.String()]++
		if seconds, there := result.Value("sec/op"); !there || seconds <= 0 || seconds > 1e-3 {
			t.Errorf("%s: %v s", result.Name, seconds)
		}
	}
	want := map[string]int{"Pair/peer=able": *rounds, "Row/row=Wait-Post-of-1-2-C/side=ours": 1}
	if !maps.Equal(names, want) {
		t.Errorf("%v, want %v", names, want)
	}
}

// Names in raw data say what is compared, so no two rows may have the same one; and each work needs abilities that
// all peers either have or lack with a reason.
func TestRowsAndWorks(t *testing.T) {
	seen := make(map[string]bool)
	name := func(n string) {
		if seen[n] {
			t.Errorf("%q is there twice", n)
		}
		seen[n] = true
	}
	for _, r := range rows() {
		name(rawName(r.name))
	}
	for _, c := range counts() {
		name(rawName(c.name))
	}
	for _, p := range compared {
		name(p.key)
	}
	works := make(map[*work]bool)
	for _, table := range tables(thorough) {
		for _, c := range table.columns {
			works[c.work] = true
			if slices.ContainsFunc(compared, func(p *peer) bool { return c.work.cannot(p) == "" }) {
				continue
			}
			t.Errorf("%s: nobody can do it", c.work.name)
		}
	}
	for w := range works {
		name(w.name)
	}
}

func TestCalibrate(t *testing.T) {
	for _, each := range []float64{5, 3e4, 1e12} {
		w := &work{name: "Pair", measure: func(_ *peer, n int) []float64 { return []float64{each} }}
		n := w.calibrate(nil)
		if took := each * float64(n); n != 1 && (took < float64(pace.calibrated)/2 || took > 4*float64(pace.calibrated)) {
			t.Errorf("%v ns each: %d operations, %v ns", each, n, took)
		}
	}
}

func TestHistogram(t *testing.T) {
	for _, ns := range []int64{0, 1, 15, 16, 17, 31, 32, 1000, 123_456_789, 1 << 62} {
		var one, all histogram
		one.count(ns)
		if err := all.add(strings.Fields(one.String())); err != nil || all != one {
			t.Errorf("%d: written as %q, and read with %v", ns, one.String(), err)
		}
		if got := all.quantile(0.5); got < float64(ns)*0.95 || got > float64(ns)*1.05+0.6 {
			t.Errorf("%d is counted as %v", ns, got)
		}
	}
	var h histogram
	for ns := range int64(100) {
		h.count(ns)
	}
	if low, high := h.quantile(0.5), h.quantile(1); low < 45 || low > 55 || high < 95 || high > 105 {
		t.Errorf("of 0 to 99 the median is %v and the longest %v", low, high)
	}
	if err := h.add([]string{"1024:1"}); err == nil {
		t.Error("a bucket that is none is read")
	}
}

func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		format func(float64) string
		x      float64
		want   string
	}{
		{duration, 0, "0 ns"}, {duration, 0.25, "0.25 ns"}, {duration, 7.84, "7.8 ns"}, {duration, 999.7, "1.0 µs"}, {duration, 12_345, "12 µs"},
		{duration, 2.5e9, "2.5 s"}, {bytes, 3141, "3.1 kB"}, {bytes, 12, "12 B"},
		{number, 7, "7"}, {number, 447_563, "450,000"}, {exactly, 10_001, "10,001"},
	} {
		if got := c.format(c.x); got != c.want {
			t.Errorf("%v is written as %q, want %q", c.x, got, c.want)
		}
	}
}
