// Bench measures the semaphores of this module side by side with those of others, in
// interleaved rounds, and prints ratios: "go run ." in this folder. It needs
// Linux, a C compiler, and flock and sem (GNU parallel) for the rows of the command. With -check it fails if a target is missed.
package main

import (
	"flag"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"time"

	"github.com/procsem/semaphore"
)

var (
	rounds  = flag.Int("rounds", 11, "interleaved rounds of each comparison")
	scale   = flag.Float64("scale", 1, "how much work each round does: the power to which its operations are raised")
	check   = flag.Bool("check", false, "exit with status 1 if a target is missed")
	run     = flag.String("run", "", "only rows that match this regular `expression`")
	verbose = flag.Bool("v", false, "say how long each row and each late hand-over took")
)

func main() {
	if len(os.Args) > 4 {
		switch os.Args[1] {
		case "worker":
			worker(os.Args[2], os.Args[3:])
			return
		case "member":
			obey(os.Args[2:])
			return
		case "greedy":
			greedy(os.Args[2:])
			return
		case "waiting":
			waiting(os.Args[2:])
			return
		}
	}
	flag.Parse()
	chosen, err := regexp.Compile(*run)
	must(err)
	exitOnSignal()
	dir, err := os.MkdirTemp("", "semaphore-bench-")
	must(err)
	atExit(func() { os.RemoveAll(dir) })
	buildPrograms(dir)

	met := true
	printHeader()
	for _, r := range rows() {
		if chosen.MatchString(r.name) {
			met = r.measure() && met
		}
	}
	for _, c := range counts() {
		if chosen.MatchString(c.name) {
			met = c.measure() && met
		}
	}
	if !met && *check {
		exit(1)
	}
	exit(0)
}

// work returns how many operations a round does that does n at -scale 1.
func work(n int) int { return max(1, int(math.Pow(float64(n), *scale))) }

func rows() (rows []row) {
	add := func(name string, t target, prepare func() (func(int) (sample, sample), func())) *row {
		rows = append(rows, row{name: name, target: t, prepare: prepare})
		return &rows[len(rows)-1]
	}
	loops := func(name string, t target, ours, theirs func() sample) { add(name, t, independent(ours, theirs)) }

	for _, s := range slices.Concat(inBothBuilds(semaphore.EngineAuto), inBothBuilds(semaphore.EngineRecoverable)) {
		loops(s.name+": Wait+Post, uncontended: C", atMost(1),
			func() sample { return contend(s, 1, work(4_000_000)) },
			func() sample { return contend(c, 1, work(4_000_000)) })
	}
	for _, ours := range []side{native, recoverable} {
		engine := ours.engine.String() + ": "
		if ours.engine == semaphore.EngineRecoverable {
			loops(engine+"Wait+Post, uncontended: SEM_UNDO in C", atMost(1./15),
				func() sample { return contend(ours, 1, work(4_000_000)) },
				func() sample { return undo(work(400_000)) })
		} else {
			loops(engine+"ping-pong of two processes: C", onceAtMost(1),
				func() sample { return pingPong(ours, work(40_000)) },
				func() sample { return pingPong(c, work(40_000)) })
		}
		loops(engine+"ping-pong round a ring: C", onceAtMost(1),
			func() sample { return ring(ours, work(20_000)) },
			func() sample { return ring(c, work(20_000)) })
		for _, p := range []int{2, 4} {
			loops(fmt.Sprintf("%s%d processes on one permit: C", engine, p), onceAtMost(1),
				func() sample { return contend(ours, p, work(1_000_000)) },
				func() sample { return contend(c, p, work(1_000_000)) })
		}
		loops(engine+"1,000 goroutines on one permit: x/sync Weighted", atMost(1),
			func() sample { return goroutines(ourPermit(ours.engine), work(300)) },
			func() sample { return goroutines(xsyncPermit(), work(300)) })
	}

	for _, o := range []struct {
		side
		limit float64
	}{
		{goSide(semaphore.EngineAuto, withCgo), 2},
		{goSide(semaphore.EngineLibc, withCgo), 2},
		{goSide(semaphore.EngineAuto, withoutCgo), 2},
		{native, 3},
		{recoverable, 8},
	} {
		loops(o.name+": Open+Close: C", atMost(o.limit), opening(o.side, "open", work(2_000)), opening(c, "open", work(5_000)))
		loops(o.name+": Open+Close of one that is open: C", atMost(2), opening(o.side, "reopen", work(2_000)), opening(c, "reopen", work(5_000)))
	}

	for _, e := range kindsOfHandles {
		kind := nameOf(e) + ": "
		loops(kind+"TryWait in vain: x/sync TryAcquire", atMost(3),
			repeated(e, 0, work(1_000_000), tryInVain), func() sample { return tryXsyncInVain(work(1_000_000)) })
		loops(kind+"Acquire+Release: x/sync Acquire+Release", atMost(2),
			repeated(e, 1, work(1_000_000), acquireAndRelease), func() sample { return acquireXsync(work(1_000_000)) })
		for _, mode := range []string{"wait", "context"} {
			add(kind+"bytes of each of 10,000 goroutines, "+waysToWait[mode]+": x/sync", oursAtMost(3000),
				independent(waitingMemory(mode, e), waitingMemory("xsync", e)))
		}
	}

	const taken = "9,999 of 10,000 taken: 9 of 10"
	add("Wait+Post with "+taken, atMost(3), crowds((*crowd).takeAndGive, 300_000))
	add("Wait+Post of another permit each time "+taken, atMost(3), crowds((*crowd).takeElsewhere, 50_000))
	add("the same of two permits far apart", information, crowds((*crowd).takeTwo, 5_000))
	add("TryWait in vain with 10,000 of 10,000 taken: 10 of 10", atMost(3), crowds((*crowd).tryInVain, 100_000))

	with := func(k kind, n, megabytes int) func() *group {
		return func() *group { return newGroup(k, n, megabytes, 0) }
	}
	// While a process sleeps through a hundred hand-overs of others, these evict its
	// memory from all caches, whatever the semaphore does.
	handOvers := max(5, work(60))
	for _, n := range []int{100, 200} {
		add(fmt.Sprintf("hand-over with %d processes waiting: with 1", n), atMost(2),
			groups(with(ours, n, 0), with(ours, 1, 0), (*group).handOver, handOvers))
		add("the same, cold caches on both sides", information,
			groups(with(ours, n, 0), with(ours, 1, 0), (*group).coldHandOver, handOvers/3+1))
	}
	add("SEM_UNDO: hand-over with 100 processes waiting: with 1", information,
		groups(with(sysvUndo, 100, 0), with(sysvUndo, 1, 0), (*group).handOver, handOvers))
	for _, n := range []int{100, 200} {
		add(fmt.Sprintf("hand-over with %d processes waiting: SEM_UNDO", n), atMost(1.2),
			groups(with(ours, n, 0), with(sysvUndo, n, 0), (*group).handOver, handOvers))
	}

	loop := fmt.Sprintf("%d loops that hold %v: ", greedyLoops, greedyHold)
	add(loop+"longest wait: flock", atMost(1.1), waitsOfLoops(1)).fewer = 2
	add(loop+"90th percentile: flock", atMost(1.1), waitsOfLoops(0.9)).fewer = 2
	add("20 waiters in a row, out of their order: flock", moreByAtMost(1), independent(disorder(ours, 20), disorder(flocked, 20))).fewer = 2

	kills := max(5, work(20))
	add("kill of a holder to hand-over: SEM_UNDO", atMost(1.1),
		groups(with(ours, 1, 0), with(sysvUndo, 1, 0), (*group).kill, kills))
	add("the same: SEM_UNDO in processes with such a handle too", information,
		groups(with(ours, 1, 0), with(undoBeside, 1, 0), (*group).kill, kills))
	add("the same of a bare file lock: SEM_UNDO", information,
		groups(with(kernelLock, 1, 0), with(sysvUndo, 1, 0), (*group).kill, kills))
	add("kill of a holder of 200 MB to hand-over: SEM_UNDO", atMost(1.2),
		groups(with(ours, 1, 200), with(sysvUndo, 1, 200), (*group).kill, kills)).fewer = 3
	add("kill to hand-over, 100 processes waiting: SEM_UNDO", information,
		groups(with(ours, 100, 0), with(sysvUndo, 100, 0), (*group).kill, kills)).fewer = 3
	add("kill to hand-over, 100 processes waiting: 1 waiting", information,
		groups(with(ours, 100, 0), with(ours, 1, 0), (*group).kill, kills)).fewer = 3

	add("kill to hand-over, 500 processes waiting: 50 waiting", atMost(2),
		groups(with(ours, 500, 0), with(ours, 50, 0), (*group).kill, kills/2)).fewer = 4

	for build, name := range builds {
		add("procsem run NAME true, "+name+": flock FILE true", atMost(1.8), pairsOf(max(1, work(15)), runTrue(build), flockTrue))
	}
	add("procsem run NAME true: sem --fg true", atMost(1./30), pairsOf(max(1, work(4)), runTrue(withoutCgo), semTrue))

	add("wake-ups/s, each of 100 waiting: of 100 idle", moreByAtMost(1.1),
		idle(100, time.Duration(max(2, work(11)))*time.Second)).fewer = math.MaxInt32
	return rows
}

// The kinds of handles that are compared within one process.
var kindsOfHandles = []semaphore.Engine{semaphore.EngineAuto, semaphore.EngineRecoverable}

var waysToWait = map[string]string{"wait": "Wait", "context": "WaitContext"}

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
