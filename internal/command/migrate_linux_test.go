package command

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/procsem/semaphore/internal/testkit"
)

// A tool is one that people come from.
type tool struct {
	title   string // of its table in docs/coming-from.md
	command string // "" if it is not to be run
	holds   string // how it takes the lock for a command that waits
	ends    string // what ends its server
}

var tools = []tool{
	{title: "From flock", command: "flock", holds: "flock build.lock ./hold"},
	{title: "From sem", command: "sem", holds: "sem --id build --fg ./hold"},
	{title: "From lckdo", command: "lckdo", holds: "lckdo build.lock ./hold"},
	{title: "From setlock", command: "setlock", holds: "setlock build.lock ./hold"},
	{title: "From tsp", command: "tsp", holds: "tsp -nf ./hold", ends: "tsp -K"},
	{title: "From consul lock"}, // it needs an agent
}

// The lines of the tables do the same, if the lock is free and if it is taken, and what the last column says. make is a
// stand-in with a status that no tool has.
func TestComingFrom(t *testing.T) {
	parts := chapter(t, "coming-from.md", "Commands")
	for title := range parts {
		if !slices.ContainsFunc(tools, func(tool tool) bool { return tool.title == title }) {
			t.Errorf("the table %q has no test", title)
		}
	}
	for _, tool := range tools {
		t.Run(tool.title, func(t *testing.T) {
			rows := rowsOf(t, parts[tool.title])
			for _, row := range rows {
				old, ours, taken := row[0], row[1], row[2]
				if strings.Contains(ours, "lock --fd") && os.Getenv("SEMAPHORE_TEST_NO_OFD_LOCKS") != "" {
					continue // it has a test of its own, which is skipped
				}
				t.Run(ours, func(t *testing.T) {
					ourFree, ourTaken := tryLine(t, ours, heldByUs(ours), "", taken)
					if tool.command == "" {
						return
					}
					testkit.NeedTool(t, tool.command)
					free, held := tryLine(t, old, tool.heldFor(old), tool.ends, taken)
					if free != ourFree {
						t.Errorf("a free lock: %s: %v; %s: %v", old, free, ours, ourFree)
					}
					if held != ourTaken {
						t.Errorf("a taken one: %s: %v; %s: %v", old, held, ours, ourTaken)
					}
				})
			}
		})
	}
}

// rowsOf returns the rows of a table that have three columns of which two are code.
func rowsOf(t *testing.T, text string) (rows [][]string) {
	t.Helper()
	row := regexp.MustCompile("(?m)^\\| `(.*)` \\| `(.*)` \\| (waits|status \\d+) \\|$")
	for _, m := range row.FindAllStringSubmatch(text, -1) {
		for i := range m {
			m[i] = strings.ReplaceAll(m[i], `\|`, "|")
		}
		rows = append(rows, m[1:])
	}
	if lines := strings.Count(text, "\n|") - 2; len(rows) == 0 || len(rows) != lines { // but for the head and the line below it
		t.Fatalf("%d of %d lines are rows of a table", len(rows), lines)
	}
	return rows
}

// A done is how a line has ended, and what the commands wrote down.
type done struct {
	status int
	log    string
}

// tryLine runs a line twice: when the lock is free, and when it is taken. If it then waits, the lock is given back in the
// end. held are the lines that take it.
func tryLine(t *testing.T, line string, held []string, ends, whenTaken string) (free, taken done) {
	t.Helper()
	ready := func() *place {
		p := newPlace(t)
		p.standIn("make", `echo made "$@" >>"$LOG"; exit 5`)
		p.standIn("./hold", waits("lock", "go"))
		if ends != "" {
			t.Cleanup(func() { p.begin(ends, "").end(t) })
		}
		if strings.Contains(line, "procsem wait") { // which wants one that exists
			if got := p.run("procsem create build"); got.status != 0 {
				t.Fatal(got)
			}
		}
		return p
	}
	p := ready()
	got := p.run(line)
	free = done{got.status, p.log()}
	if want := strings.Contains(line, "make"); strings.Contains(free.log, "made") != want {
		t.Errorf("%s: %+v, and the command has run: %v, want %v", line, got, !want, want)
	}

	p = ready()
	var holders []*job
	for _, h := range held {
		holders = append(holders, p.begin(h, ""))
	}
	eventually(t, "the lock is taken", func() bool { return strings.Count(p.log(), "lock begins") == len(held) })
	j := p.begin(line, "")
	status, fails := strings.CutPrefix(whenTaken, "status ")
	if fails {
		got := j.end(t)
		taken = done{got.status, p.log()}
		if strconv.Itoa(got.status) != status || strings.Contains(taken.log, "made") {
			t.Errorf("%s: when it is taken: %+v, log %q; want %s and no command", line, got, taken.log, whenTaken)
		}
	} else if strings.Contains(line, "make") && strings.Contains(line, "procsem") {
		awaitWaiters(t, "build", 1)
	}
	// Whatever waits does so until then.
	p.note("given back")
	p.touch("go")
	for _, h := range holders {
		if got := h.end(t); got.status != 0 {
			t.Errorf("the holder: %+v", got)
		}
	}
	if !fails {
		got := j.end(t)
		taken = done{got.status, p.log()}
		early, _, _ := strings.Cut(taken.log, "given back")
		if got.status != free.status || strings.Contains(early, "made") {
			t.Errorf("%s: when it is taken: %+v, log %q; want that it waits", line, got, taken.log)
		}
	}
	// Several holders end in any order, and those that wait begin while the last ones end.
	taken.log = strings.Join(regexp.MustCompile("made.*\n").FindAllString(taken.log, -1), "")
	return free, taken
}

// heldByUs returns the line that takes all permits that the line of a table wants.
func heldByUs(line string) []string {
	limit := regexp.MustCompile(` -n \d+`).FindString(line)
	return []string{"procsem run" + limit + " -k all build ./hold"}
}

// heldFor returns the lines that take what the line of a table wants.
func (tool tool) heldFor(line string) (lines []string) {
	holds, n := tool.holds, 1
	if slots := regexp.MustCompile(`^sem .*( -j (\d+))|^(tsp -S (\d+)); `).FindStringSubmatch(line); slots != nil {
		n = max(atoiOr(slots[2]), atoiOr(slots[4]))
		if slots[1] != "" {
			holds = strings.Replace(holds, " --fg", slots[1]+" --fg", 1)
		} else {
			holds = slots[3] + "; " + holds
		}
	}
	for range n {
		lines = append(lines, holds)
	}
	return lines
}

// atoiOr is 0 of an empty text.
func atoiOr(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil && !errors.Is(err, strconv.ErrSyntax) {
		panic(err)
	}
	return n
}
