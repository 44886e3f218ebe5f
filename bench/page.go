package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// What -o writes: a page with the tables, the raw data of each round, and charts.

// A page has what was measured.
type page struct {
	heading []string // paragraphs of it
	below   string   // each chart: when, and where
	facts   [][2]string
	ratios  [][]string
	tables  []table
	peers   []*peer
	measured
}

// pace is the effort of this run.
var pace = thorough

// raw is where each round is written down, in the format of Go's benchmarks, which benchstat reads.
var raw io.Writer = io.Discard

// startRaw begins the raw data.
func startRaw(dir string, facts [][2]string) {
	must(os.MkdirAll(filepath.Join(dir, "picture"), 0o777))
	f, err := os.Create(filepath.Join(dir, "measured.txt"))
	must(err)
	fmt.Fprintf(f, "goos: %s\ngoarch: %s\npkg: github.com/procsem/semaphore/bench\n", runtime.GOOS, runtime.GOARCH)
	for _, fact := range facts {
		if fact[0] == "CPU" || fact[0] == "kernel" {
			fmt.Fprintf(f, "%s: %s\n", strings.ToLower(fact[0]), fact[1])
		}
	}
	fmt.Fprintln(f)
	raw = f
}

// writeRaw writes a line of raw data.
func writeRaw(w io.Writer, name string, n int, units []string, figures []float64) {
	fmt.Fprintf(w, "Benchmark%s %d", name, n)
	for i, f := range figures {
		fmt.Fprintf(w, " %.6g %s", f, units[i])
	}
	fmt.Fprintln(w)
}

// writePage measures what the page has beside the ratios, and writes it.
func writePage(dir string, chosen *regexp.Regexp, facts [][2]string, installed []*peer, ratios [][]string) {
	p := page{facts: facts, ratios: ratios, tables: tables(pace), peers: compared}
	started := time.Now()
	p.measured = measureAll(p.tables, chosen, installed, raw)
	kind, length := fmt.Sprintf("Medians of %d interleaved rounds, of long ones of a third as many.", *rounds), ""
	if *quick {
		kind = fmt.Sprintf("**A quick run**: medians of only %d short interleaved rounds, of long ones of a third as many. It is a rough picture.", *rounds)
		length = ", a quick run"
	}
	day := started.UTC().Format("2 January 2006")
	p.heading = []string{fmt.Sprintf("`cd bench && go run .%s` has measured this, and has written this page, on %s. %s", given(), day, kind)}
	if *note != "" {
		p.heading = append(p.heading, *note)
	}
	p.below = day + length
	for _, f := range facts {
		if f[0] == "CPU" || f[0] == "kernel" {
			p.below += ", " + f[1]
		}
	}
	f, err := os.Create(filepath.Join(dir, "measured.md"))
	must(err)
	p.write(f)
	must(f.Close())
	for _, t := range p.tables {
		for _, c := range t.charts {
			if p.has(t, c) {
				p.draw(t, c, filepath.Join(dir, "picture", "bench-"+c.file+".svg"))
			}
		}
	}
	log.Printf("%s: measured.md, measured.txt for benchstat, and charts", dir)
}

// given are the flags of this run, but for the note.
func given() string {
	var s strings.Builder
	flag.Visit(func(f *flag.Flag) {
		switch v := f.Value.String(); {
		case f.Name == "note":
		case v == "true":
			fmt.Fprintf(&s, " -%s", f.Name)
		default:
			fmt.Fprintf(&s, " -%s '%s'", f.Name, v)
		}
	})
	return s.String()
}

// has reports whether something of the chart was measured.
func (p *page) has(t table, c chart) bool {
	for _, i := range c.columns {
		if p.measured[t.columns[i].work] != nil {
			return true
		}
	}
	return false
}

// draw draws a chart by the program chart.
func (p *page) draw(t table, c chart, path string) {
	type row struct {
		Name   string
		Ours   bool
		Values []float64
		Label  string
	}
	var drawn struct {
		Title  string
		Below  string
		Series []string
		Rows   []row
	}
	drawn.Title, drawn.Below = c.title, p.below
	for _, i := range c.columns {
		drawn.Series = append(drawn.Series, t.columns[i].heading)
	}
	for _, peer := range p.peers {
		r := row{Name: peer.title(), Ours: peer.ours}
		some := false
		for _, i := range c.columns {
			f, there := p.figure(t.columns[i], peer)
			r.Values = append(r.Values, f)
			some = some || there
			if there && len(c.columns) == 1 {
				r.Label = t.columns[i].format(f)
			}
		}
		if some {
			drawn.Rows = append(drawn.Rows, r)
		}
	}
	text, err := json.Marshal(drawn)
	must(err)
	cmd := exec.Command("go", "run", "./chart")
	cmd.Stdin, cmd.Stderr = strings.NewReader(string(text)), os.Stderr
	picture, err := cmd.Output()
	must(err)
	must(os.WriteFile(path, picture, 0o666))
}

func (p *page) write(w io.Writer) {
	fmt.Fprintf(w, "# Measured\n\n%s\n\n", strings.Join(p.heading, "\n\n"))
	fmt.Fprint(w, "What the figures mean, and where the time goes, is in [benchmarks.md](benchmarks.md).\n\n")
	writeTable(w, []string{"", ""}, pairs(p.facts))
	if len(p.ratios) > 0 {
		fmt.Fprint(w, "## Ratios\n\nEach row compares two in one run. The figures are ns for each operation, where the row names no other unit; the ratio is the median of the "+
			"rounds' ratios, with the least and the greatest.\n\n")
		writeTable(w, []string{"", "ours", "theirs", "ratio", "CPU ratio", "target"}, p.ratios)
	}
	for _, t := range p.tables {
		columns := p.shownIn(t)
		if len(columns) == 0 {
			continue
		}
		fmt.Fprintf(w, "## %s\n\n%s\n\n", t.title, t.text)
		for _, c := range t.charts {
			if p.has(t, c) {
				fmt.Fprintf(w, "![%s](picture/bench-%s.svg)\n\n", c.title, c.file)
			}
		}
		head := []string{""}
		for _, c := range columns {
			head = append(head, c.heading)
		}
		var rows [][]string
		for _, peer := range p.peers {
			row := []string{peer.title()}
			for _, c := range columns {
				row = append(row, p.cell(c, peer))
			}
			rows = append(rows, row)
		}
		writeTable(w, head, rows)
	}
}

func pairs(facts [][2]string) (rows [][]string) {
	for _, f := range facts {
		rows = append(rows, f[:])
	}
	return rows
}

func writeTable(w io.Writer, head []string, rows [][]string) {
	line := func(cells []string) {
		for _, c := range cells {
			fmt.Fprintf(w, "| %s ", escape(c))
		}
		fmt.Fprintln(w, "|")
	}
	line(head)
	fmt.Fprintln(w, strings.Repeat("|---", len(head))+"|")
	for _, r := range rows {
		line(r)
	}
	fmt.Fprintln(w)
}

// escape makes a text stand for itself in a cell.
func escape(s string) string {
	return strings.NewReplacer("\\", "\\\\", "|", "\\|", "<", "&lt;", "*", "\\*", "_", "\\_", "`", "\\`", "[", "\\[", "\n", " ").Replace(s)
}

// duration writes ns in the unit that suits them.
func duration(ns float64) string {
	for _, u := range []struct {
		name string
		ns   float64
	}{{"s", 1e9}, {"ms", 1e6}, {"µs", 1e3}} {
		if ns >= u.ns*0.9995 { // else it would be 1000 of the smaller unit
			return digits(ns/u.ns) + " " + u.name
		}
	}
	return digits(ns) + " ns"
}

func bytes(n float64) string {
	if n >= 1000 {
		return digits(n/1000) + " kB"
	}
	return digits(n) + " B"
}

// number writes two digits, and zeros.
func number(x float64) string {
	unit := 1.0
	for x/unit >= 100 {
		unit *= 10
	}
	return thousandsOf(int(math.Round(x/unit) * unit))
}

// exactly is for numbers that are counted.
func exactly(x float64) string { return thousandsOf(int(x)) }

func thousandsOf(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// digits writes two or three digits.
func digits(x float64) string {
	switch {
	case x >= 9.95:
		return fmt.Sprintf("%.0f", x)
	case x >= 0.95:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2g", x)
}
