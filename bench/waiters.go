package main

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore"
)

// Processes that wait for one permit. Each is ordered what to do, one after the other.

// A group is the holder of the only permit and the processes that wait for it.
type group struct {
	*peer
	semaphore string
	megabytes int // how much memory each process has touched
	reports   *bufio.Reader
	in, out   *os.File // the pipe through which the processes report
	members   map[int]*member
	last      int // the highest number of a member
	holder    *member
	remove    func()
}

type member struct {
	number int
	cmd    *exec.Cmd
	orders io.WriteCloser
}

// A report says what a member has done, and when.
type report struct {
	from *member
	what string
	at   int64 // CLOCK_MONOTONIC, ns
}

// newGroup starts the processes. When it returns, the first one holds the permit and
// the waiting ones sleep, in the order of their numbers. The idle ones do neither.
func newGroup(p *peer, waiting, megabytes, idle int) *group {
	g := &group{peer: p, megabytes: megabytes, members: make(map[int]*member)}
	var remove func()
	g.semaphore, remove = p.create(1)
	var err error
	g.in, g.out, err = os.Pipe()
	must(err)
	g.reports = bufio.NewReader(g.in)
	g.remove = atExit(func() {
		for _, m := range g.members {
			m.cmd.Process.Kill()
		}
		for _, m := range g.members {
			m.cmd.Wait()
		}
		g.in.Close()
		g.out.Close()
		remove()
	})
	for range 1 + waiting + idle {
		g.start()
	}
	for range 1 + waiting + idle {
		g.next("ready")
	}
	g.members[1].order("wait")
	g.holder = g.next("got").from
	for i := range waiting {
		g.wait(g.members[i+2])
	}
	return g
}

// start starts a process, which will report that it is ready.
func (g *group) start() {
	g.last++
	m := &member{number: g.last}
	names := []string{g.semaphore}
	if g.megabytes > 0 {
		names = append(names, strconv.Itoa(g.megabytes))
	}
	m.cmd = g.command("member", m.number, names...)
	m.cmd.Stdout = g.out
	var err error
	m.orders, err = m.cmd.StdinPipe()
	must(err)
	must(m.cmd.Start())
	g.members[m.number] = m
}

func (m *member) order(what string) {
	_, err := fmt.Fprintln(m.orders, what)
	must(err)
}

// patience is how long a report, or a process's falling asleep, may take.
const patience = 20 * time.Second

// next reads the next report, which must be one of the expected ones.
func (g *group) next(expected ...string) report {
	g.in.SetReadDeadline(time.Now().Add(patience))
	line, err := g.reports.ReadString('\n')
	if err != nil {
		fail("%s: of %d processes none reported %q: %v", g.key, len(g.members), expected, err)
	}
	var number int
	var r report
	_, err = fmt.Sscan(line, &number, &r.what, &r.at)
	must(err)
	r.from = g.members[number]
	for _, e := range expected {
		if r.from != nil && r.what == e {
			return r
		}
	}
	fail("%s: report %q in place of %q", g.key, strings.TrimSpace(line), expected)
	panic("unreachable")
}

// wait orders a process to wait for the permit, and returns when it sleeps.
func (g *group) wait(m *member) {
	m.order("wait")
	if g.sleep == nil {
		time.Sleep(2 * time.Millisecond) // it polls, and may sleep as it does while it has nothing to do
		return
	}
	for start := time.Now(); !m.sleepsIn(g.sleep); time.Sleep(20 * time.Microsecond) {
		if time.Since(start) > patience {
			fail("%s: process %d does not sleep in one of the system calls %d", g.key, m.cmd.Process.Pid, g.sleep)
		}
	}
}

// sleepsIn reports whether one of the process's threads sleeps in one of those system calls.
func (m *member) sleepsIn(calls []int) bool {
	for _, task := range m.tasks("syscall") {
		f := strings.Fields(task) // the number and the arguments, or "running"
		n, err := strconv.Atoi(f[0])
		if err != nil || !slices.Contains(calls, n) {
			continue
		}
		if operation, err := strconv.ParseInt(f[2], 0, 64); n == unix.SYS_FUTEX && (err != nil || operation&futexPrivate != 0) {
			continue // of Go's runtime
		}
		return true
	}
	return false
}

const futexPrivate = 128 // FUTEX_PRIVATE_FLAG of <linux/futex.h>

// tasks reads the file of that name that /proc has for each thread of the process.
func (m *member) tasks(file string) (contents []string) {
	paths, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/%s", m.cmd.Process.Pid, file))
	for _, path := range paths {
		if content, err := os.ReadFile(path); err == nil {
			contents = append(contents, string(content))
		}
	}
	return contents
}

// wakeUps counts the wake-ups of the process's threads by how often they have gone to
// sleep.
func (m *member) wakeUps() (n int) {
	for _, status := range m.tasks("status") {
		_, after, _ := strings.Cut(status, "\nvoluntary_ctxt_switches:")
		line, _, _ := strings.Cut(after, "\n")
		switches, err := strconv.Atoi(strings.TrimSpace(line))
		must(err)
		n += switches
	}
	return n
}

// kill kills the holder, and returns how long it took until another process had the
// permit. Then it starts a new waiter, so that there are as many as before.
func (g *group) kill() time.Duration {
	dead := g.holder
	from := monotonic()
	must(unix.Kill(dead.cmd.Process.Pid, unix.SIGKILL))
	got := g.next("got")
	g.holder = got.from
	dead.cmd.Wait()
	delete(g.members, dead.number)
	g.start()
	g.wait(g.next("ready").from)
	return time.Duration(got.at - from)
}

// coldHandOver is handOver with cold caches.
func (g *group) coldHandOver() time.Duration {
	evictCaches()
	return g.handOver()
}

// evictCaches fills the caches of all processors with other memory.
func evictCaches() {
	const cacheLine = 64
	const moreThanCache = 64 << 20
	var all sync.WaitGroup
	for cpu := range runtime.NumCPU() {
		if len(cacheFillers) == cpu {
			cacheFillers = append(cacheFillers, make([]byte, moreThanCache))
		}
		block := cacheFillers[cpu]
		all.Go(func() {
			for i := 0; i < len(block); i += cacheLine {
				block[i]++
			}
		})
	}
	all.Wait()
}

var cacheFillers [][]byte // one for each processor

// handOver makes the holder give its permit, and returns how long it took until another
// process had it. Then it makes the giver wait again.
func (g *group) handOver() time.Duration {
	giver := g.holder
	giver.order("give")
	var gave, got report
	for range 2 {
		if r := g.next("gave", "got"); r.what == "gave" {
			gave = r
		} else {
			got = r
		}
	}
	g.holder = got.from
	g.wait(giver)
	return time.Duration(got.at - gave.at)
}

// groups compares the hand-overs of two groups. A round has n of each, alternately.
func groups(a, b func() *group, handOver func(*group) time.Duration, n int) func() (func(int) (sample, sample), func()) {
	return func() (func(int) (sample, sample), func()) {
		ours, theirs := a(), b()
		round := func(int) (sample, sample) {
			var x, y []float64
			for i := range n {
				both := alternate(
					func() sample { return sample{wall: countLate(handOver(ours), &lateOurs)} },
					func() sample { return sample{wall: countLate(handOver(theirs), &lateTheirs)} })
				p, q := both(i)
				x, y = append(x, p.wall), append(y, q.wall)
			}
			return sample{median(x), math.NaN()}, sample{median(y), math.NaN()}
		}
		return round, func() {
			ours.remove()
			theirs.remove()
		}
	}
}

// countLate counts a hand-over that took d if it was late, and returns d in ns.
func countLate(d time.Duration, count *int) float64 {
	if d > late {
		*count++
		latest = max(latest, d)
		if *verbose {
			log.Printf("a hand-over took %v", d)
		}
	}
	return float64(d.Nanoseconds())
}

// idle counts how often per second each of n waiting processes wakes up, and each of n
// idle ones.
func idle(n int, d time.Duration) func() (func(int) (sample, sample), func()) {
	return func() (func(int) (sample, sample), func()) {
		g := newGroup(ours(semaphore.EngineRecoverable, withCgo), n, 0, n)
		count := func() (waiting, idle float64) {
			for i, m := range g.members {
				switch w := float64(m.wakeUps()); {
				case i == 1: // the holder
				case i <= n+1:
					waiting += w
				default:
					idle += w
				}
			}
			return waiting, idle
		}
		time.Sleep(time.Second) // until the processes have finished starting
		return func(int) (sample, sample) {
			start := time.Now()
			waiting, idle := count()
			time.Sleep(d)
			w, i := count()
			per := time.Since(start).Seconds() * float64(n)
			return sample{(w - waiting) / per, math.NaN()}, sample{(i - idle) / per, math.NaN()}
		}, g.remove
	}
}
