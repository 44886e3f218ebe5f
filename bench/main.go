// Bench measures the semaphores of this module side by side with those of others, in
// interleaved rounds, and prints ratios: "go run ." in this folder. It needs
// Linux, a C compiler, and flock and sem (GNU parallel) for the rows of the command. With -check it fails if a target is missed.
//
// With -o it also compares with all peers that are installed (peers.go), at all works (works.go), and writes a page, charts,
// and each round for benchstat. For peers in Python and for task-spooler that needs python3, python3-portalocker and
// task-spooler (tsp); a peer that is not there has a row that says so.
package main

import (
	"flag"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/procsem/semaphore"
)

var (
	rounds  = flag.Int("rounds", 11, "interleaved rounds of each comparison")
	scale   = flag.Float64("scale", 1, "how much work each round does: the power to which its operations are raised")
	check   = flag.Bool("check", false, "exit with status 1 if a target is missed")
	run     = flag.String("run", "", "only rows that match this regular `expression`")
	out     = flag.String("o", "", "also compare all peers, and write a page (measured.md), the raw data (measured.txt) and charts into this `directory`")
	quick   = flag.Bool("quick", false, "short rounds, and if -rounds and -scale are not given 3 and 0.5: less than two minutes")
	note    = flag.String("note", "", "a `sentence` for the page, about the machine")
	verbose = flag.Bool("v", false, "say how long each row and each late hand-over took")
)

func main() {
	if len(os.Args) > 4 && os.Args[1] == "worker" {
		n, err := strconv.Atoi(os.Args[4])
		must(err)
		doMode(os.Args[2], peers[os.Args[3]], n, os.Args[5:])
		return
	}
	flag.Parse()
	hurry()
	chosen, err := regexp.Compile(*run)
	must(err)
	exitOnSignal()
	dir, err := os.MkdirTemp("", "semaphore-bench-")
	must(err)
	atExit(func() { os.RemoveAll(dir) })
	buildPrograms(dir)

	var facts [][2]string
	installed := slices.DeleteFunc(slices.Clone(compared), func(p *peer) bool { return p.missing != nil && p.missing() != "" })
	if *out != "" {
		facts = machine(installed)
		startRaw(*out, facts)
	}

	met := true
	var shown [][]string
	printHeader()
	for _, r := range rows() {
		if chosen.MatchString(r.name) {
			cells, ok := r.measure()
			shown, met = append(shown, cells), ok && met
		}
	}
	for _, c := range counts() {
		if chosen.MatchString(c.name) {
			cells, ok := c.measure()
			shown, met = append(shown, cells), ok && met
		}
	}
	if *out != "" {
		writePage(*out, chosen, facts, installed, shown)
	}
	if !met && *check {
		exit(1)
	}
	exit(0)
}

// hurry makes rounds short and few.
func hurry() {
	if !*quick {
		return
	}
	pace = hasty
	given := make(map[string]bool)
	flag.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if !given["rounds"] {
		*rounds = 3
	}
	if !given["scale"] {
		*scale = 0.5
	}
}

// times returns how many operations a round does that does n at -scale 1.
func times(n int) int { return max(1, int(math.Pow(float64(n), *scale))) }

func rows() (rows []row) {
	add := func(name string, t target, prepare func() (func(int) (sample, sample), func())) *row {
		rows = append(rows, row{name: name, target: t, prepare: prepare})
		return &rows[len(rows)-1]
	}
	loops := func(name string, t target, ours, theirs func() sample) { add(name, t, independent(ours, theirs)) }

	native, recoverable := ours(semaphore.EngineNative, withCgo), ours(semaphore.EngineRecoverable, withCgo)
	for _, p := range slices.Concat(inBothBuilds(semaphore.EngineAuto), inBothBuilds(semaphore.EngineRecoverable)) {
		loops(p.name+": Wait+Post, uncontended: C", atMost(1),
			func() sample { return alone(p, "loop", times(4_000_000)) },
			func() sample { return alone(cPeer, "loop", times(4_000_000)) })
	}
	for _, ours := range []*peer{native, recoverable} {
		engine, _, _ := strings.Cut(ours.name, ",")
		engine += ": "
		if ours == recoverable {
			loops(engine+"Wait+Post, uncontended: SEM_UNDO in C", atMost(1./15),
				func() sample { return alone(ours, "loop", times(4_000_000)) },
				func() sample { return alone(sysvUndo, "loop", times(400_000)) })
		} else {
			loops(engine+"ping-pong of two processes: C", onceAtMost(1),
				func() sample { return pingPong(ours, times(40_000)) },
				func() sample { return pingPong(cPeer, times(40_000)) })
		}
		loops(engine+"ping-pong round a ring: C", onceAtMost(1),
			func() sample { return ring(ours, times(20_000)) },
			func() sample { return ring(cPeer, times(20_000)) })
		for _, n := range []int{2, 4} {
			loops(fmt.Sprintf("%s%d processes on one permit: C", engine, n), onceAtMost(1),
				func() sample { return contend(ours, n, times(1_000_000)) },
				func() sample { return contend(cPeer, n, times(1_000_000)) })
		}
		loops(engine+"1,000 goroutines on one permit: x/sync Weighted", atMost(1),
			func() sample { return alone(ours, "goroutines/1000", 1000*times(300)) },
			func() sample { return alone(xsyncPeer, "goroutines/1000", 1000*times(300)) })
	}

	for _, o := range []struct {
		*peer
		limit float64
	}{
		{ours(semaphore.EngineAuto, withCgo), 2},
		{ours(semaphore.EngineLibc, withCgo), 2},
		{ours(semaphore.EngineAuto, withoutCgo), 2},
		{native, 3},
		{recoverable, 8},
	} {
		open := func(name, mode string, t target) {
			loops(o.name+": "+name+": C", t,
				func() sample { return alone(o.peer, mode, times(2_000)) },
				func() sample { return alone(cPeer, mode, times(5_000)) })
		}
		open("Open+Close", "open", atMost(o.limit))
		open("Open+Close of one that is open", "reopen", atMost(2))
	}

	for _, e := range kindsOfHandles {
		kind := nameOf(e) + ": "
		loops(kind+"TryWait in vain: x/sync TryAcquire", atMost(3),
			repeated(e, 0, times(1_000_000), tryInVain), func() sample { return tryXsyncInVain(times(1_000_000)) })
		loops(kind+"Acquire+Release: x/sync Acquire+Release", atMost(2),
			repeated(e, 1, times(1_000_000), acquireAndRelease), func() sample { return acquireXsync(times(1_000_000)) })
		for _, way := range []struct{ name, mode string }{{"Wait", "waiting"}, {"WaitContext", "waiting/context"}} {
			add(kind+"bytes of each of 10,000 goroutines, "+way.name+": x/sync", oursAtMost(3000),
				independent(waitingMemory(ours(e, withCgo), way.mode), waitingMemory(xsyncPeer, way.mode))).unit = "B/waiter"
		}
	}

	const taken = "9,999 of 10,000 taken: 9 of 10"
	add("Wait+Post with "+taken, atMost(3), crowds((*crowd).takeAndGive, 300_000))
	add("Wait+Post of another permit each time "+taken, atMost(3), crowds((*crowd).takeElsewhere, 50_000))
	add("the same of two permits far apart", information, crowds((*crowd).takeTwo, 5_000))
	add("TryWait in vain with 10,000 of 10,000 taken: 10 of 10", atMost(3), crowds((*crowd).tryInVain, 100_000))

	with := func(p *peer, n, megabytes int) func() *group {
		return func() *group { return newGroup(p, n, megabytes, 0) }
	}
	// While a process sleeps through a hundred hand-overs of others, these evict its
	// memory from all caches, whatever the semaphore does.
	handOvers := max(5, times(60))
	for _, n := range []int{100, 200} {
		add(fmt.Sprintf("hand-over with %d processes waiting: with 1", n), atMost(2),
			groups(with(recoverable, n, 0), with(recoverable, 1, 0), (*group).handOver, handOvers))
		add(fmt.Sprintf("the same with %d and 1, cold caches on both sides", n), information,
			groups(with(recoverable, n, 0), with(recoverable, 1, 0), (*group).coldHandOver, handOvers/3+1))
	}
	add("SEM_UNDO: hand-over with 100 processes waiting: with 1", information,
		groups(with(undoInGo, 100, 0), with(undoInGo, 1, 0), (*group).handOver, handOvers))
	for _, n := range []int{100, 200} {
		add(fmt.Sprintf("hand-over with %d processes waiting: SEM_UNDO", n), atMost(1.2),
			groups(with(recoverable, n, 0), with(undoInGo, n, 0), (*group).handOver, handOvers))
	}

	loop := fmt.Sprintf("%d loops that hold %v: ", greedyLoops, greedyHold)
	add(loop+"longest wait: flock", atMost(1.1), waitsOfLoops(1)).fewer = 2
	add(loop+"90th percentile: flock", atMost(1.1), waitsOfLoops(0.9)).fewer = 2
	outOfOrder := add("20 waiters in a row, out of their order: flock", moreByAtMost(1), independent(disorder(recoverable, 20), disorder(flocked, 20)))
	outOfOrder.fewer, outOfOrder.unit = 2, "waiters"

	kills := max(5, times(20))
	add("kill of a holder to hand-over: SEM_UNDO", atMost(1.1),
		groups(with(recoverable, 1, 0), with(undoInGo, 1, 0), (*group).kill, kills))
	add("the same: SEM_UNDO in processes with such a handle too", information,
		groups(with(recoverable, 1, 0), with(undoBeside, 1, 0), (*group).kill, kills))
	add("the same of a bare file lock: SEM_UNDO", information,
		groups(with(kernelLock, 1, 0), with(undoInGo, 1, 0), (*group).kill, kills))
	add("kill of a holder of 200 MB to hand-over: SEM_UNDO", atMost(1.2),
		groups(with(recoverable, 1, 200), with(undoInGo, 1, 200), (*group).kill, kills)).fewer = 3
	add("kill to hand-over, 100 processes waiting: SEM_UNDO", information,
		groups(with(recoverable, 100, 0), with(undoInGo, 100, 0), (*group).kill, kills)).fewer = 3
	add("kill to hand-over, 100 processes waiting: 1 waiting", information,
		groups(with(recoverable, 100, 0), with(recoverable, 1, 0), (*group).kill, kills)).fewer = 3

	add("kill to hand-over, 500 processes waiting: 50 waiting", atMost(2),
		groups(with(recoverable, 500, 0), with(recoverable, 50, 0), (*group).kill, kills/2)).fewer = 4

	for build, name := range builds {
		add("procsem run NAME true, "+name+": flock FILE true", atMost(1.8), pairsOf(max(1, times(15)), runTrue(build), flockTrue))
	}
	add("procsem run NAME true: sem --fg true", atMost(1./30), pairsOf(max(1, times(4)), runTrue(withoutCgo), semTrue))

	wakeUps := add("wake-ups/s, each of 100 waiting: of 100 idle", moreByAtMost(1.1),
		idle(100, time.Duration(max(2, times(11)))*time.Second))
	wakeUps.fewer, wakeUps.unit = math.MaxInt32, "wake-ups/s"
	return rows
}

// The kinds of handles that are compared within one process.
var kindsOfHandles = []semaphore.Engine{semaphore.EngineAuto, semaphore.EngineRecoverable}

// A count is what an operation allocates, which is the same in each round.
type count struct {
	name string
	want int64
	get  func() int64
}

func counts() (counts []count) {
	for _, e := range kindsOfHandles {
		kind := nameOf(e) + ": "
		counts = append(counts,
			count{kind + "bytes allocated by an uncontended Wait+Post", 0, func() int64 { return bytesOf(e, 1, waitAndPost) }},
			count{kind + "bytes allocated by a TryWait in vain", 0, func() int64 { return bytesOf(e, 0, tryInVain) }},
			count{kind + "allocations of an Acquire+Release", 1, func() int64 { return allocationsOf(e, 1, acquireAndRelease) }})
	}
	return counts
}
