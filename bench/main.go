// Bench measures the semaphores of this package side by side with others', in
// interleaved rounds, and prints ratios: "go run ." in this folder. It needs a
// C compiler. With -check it fails if a target is missed.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/procsem/semaphore"
	xsync "golang.org/x/sync/semaphore"
)

var (
	rounds = flag.Int("rounds", 11, "interleaved rounds of each comparison")
	scale  = flag.Float64("scale", 1, "how much work each round does")
	check  = flag.Bool("check", false, "exit with status 1 if a target is missed")
)

func main() {
	if len(os.Args) == 6 && os.Args[1] == "worker" {
		worker(os.Args[2], os.Args[3], os.Args[4], os.Args[5])
		return
	}
	flag.Parse()
	dir, err := os.MkdirTemp("", "semaphore-bench-")
	must(err)
	defer os.RemoveAll(dir)
	cProgram := filepath.Join(dir, "bench")
	cc := exec.Command("cc", "-O2", "-o", cProgram, "libc/bench.c", "-pthread")
	cc.Stderr = os.Stderr
	must(cc.Run())
	self, err := os.Executable()
	must(err)
	c := func(mode string, n int, a, b string) *exec.Cmd {
		return exec.Command(cProgram, mode, strconv.Itoa(n), "/"+a, "/"+b)
	}
	ours := func(mode string, n int, a, b string) *exec.Cmd {
		return exec.Command(self, "worker", mode, strconv.Itoa(n), a, b)
	}

	fmt.Printf("medians of %d interleaved rounds, ns per operation; ratio ours/theirs: median [minimum, maximum]\n\n", *rounds)
	fmt.Printf("%-50s %9s %9s   %-20s %-9s %s\n", "", "ours", "theirs", "ratio", "CPU ratio", "target")
	met := true
	row := func(name string, target float64, ours, theirs func() sample) {
		met = compare(name, target, ours, theirs) && met
	}

	row("Wait+Post, uncontended: C", 1.2,
		func() sample { return contend(ours, 1, work(4_000_000)) },
		func() sample { return contend(c, 1, work(4_000_000)) })
	row("ping-pong of two processes: C", 1.0,
		func() sample { return pingPong(ours, work(40_000)) },
		func() sample { return pingPong(c, work(40_000)) })
	for _, p := range []int{2, 4} {
		row(fmt.Sprintf("%d processes on one permit: C", p), 1.0,
			func() sample { return contend(ours, p, work(2_000_000)) },
			func() sample { return contend(c, p, work(2_000_000)) })
	}
	row("1,000 goroutines on one permit: x/sync Weighted", 2.0,
		func() sample { return goroutines(ourPermit(), work(300)) },
		func() sample { return goroutines(xsyncPermit(), work(300)) })

	allocations := allocations()
	fmt.Printf("%-50s %9d\n", "bytes allocated by an uncontended Wait+Post", allocations)
	met = met && allocations == 0
	if !met && *check {
		os.RemoveAll(dir)
		os.Exit(1)
	}
}

func work(n int) int { return max(1, int(float64(n)**scale)) }

// A sample is the cost of one operation in one round.
type sample struct{ wall, cpu float64 }

func compare(name string, target float64, ours, theirs func() sample) (met bool) {
	var a, b, ratios, cpu []float64
	for i := range *rounds {
		var x, y sample
		if i%2 == 0 { // neither side always comes after the other
			x, y = ours(), theirs()
		} else {
			y, x = theirs(), ours()
		}
		a, b = append(a, x.wall), append(b, y.wall)
		ratios, cpu = append(ratios, x.wall/y.wall), append(cpu, x.cpu/y.cpu)
	}
	ratio := median(ratios)
	met = ratio <= target || target == 1 && slices.Min(ratios) <= 1
	verdict := "met"
	if !met {
		verdict = "MISSED"
	}
	fmt.Printf("%-50s %9.1f %9.1f   %4.2f [%4.2f, %4.2f]    %4.2f      <= %.1f %s\n",
		name, median(a), median(b), ratio, slices.Min(ratios), slices.Max(ratios), median(cpu), target, verdict)
	return met
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	return (x[(len(x)-1)/2] + x[len(x)/2]) / 2
}

// newSemaphore makes a semaphore for the time of one measurement.
func newSemaphore(value int) (s *semaphore.Semaphore, remove func()) {
	name := fmt.Sprintf("bench%d.%d", os.Getpid(), time.Now().UnixNano())
	s, err := semaphore.Open(name, semaphore.WithEngine(semaphore.EngineNative), semaphore.WithExclusive(true), semaphore.WithValue(value))
	must(err)
	return s, func() {
		must(s.Close())
		must(s.Unlink())
	}
}

type command func(mode string, n int, a, b string) *exec.Cmd

// contend lets processes take and give one permit, n times each.
func contend(start command, processes, n int) sample {
	s, remove := newSemaphore(1)
	defer remove()
	var cmds []*exec.Cmd
	for range processes {
		cmds = append(cmds, start("loop", n, s.Name(), s.Name()))
	}
	return together(cmds, n*processes)
}

// pingPong lets two processes wake each other, n times.
func pingPong(start command, n int) sample {
	a, removeA := newSemaphore(1)
	defer removeA()
	b, removeB := newSemaphore(0)
	defer removeB()
	return together([]*exec.Cmd{start("ping", n, a.Name(), b.Name()), start("ping", n, b.Name(), a.Name())}, n)
}

// together starts the processes, lets them begin at the same moment, and
// divides the time of the slowest, and the CPU time of all, by the operations.
func together(cmds []*exec.Cmd, operations int) (cost sample) {
	var ins []io.WriteCloser
	var outs []*bufio.Reader
	for _, cmd := range cmds {
		in, err := cmd.StdinPipe()
		must(err)
		out, err := cmd.StdoutPipe()
		must(err)
		cmd.Stderr = os.Stderr
		must(cmd.Start())
		ins, outs = append(ins, in), append(outs, bufio.NewReader(out))
	}
	line := func(r *bufio.Reader) string {
		s, err := r.ReadString('\n')
		must(err)
		return strings.TrimSpace(s)
	}
	for _, out := range outs {
		if got := line(out); got != "ready" {
			log.Fatal(got)
		}
	}
	for _, in := range ins {
		fmt.Fprintln(in)
	}
	for i, out := range outs {
		var wall, cpu float64
		_, err := fmt.Sscan(line(out), &wall, &cpu)
		must(err)
		cost.wall = max(cost.wall, wall/float64(operations))
		cost.cpu += cpu / float64(operations)
		must(cmds[i].Wait())
	}
	return cost
}

// worker is what bench.c is, in Go.
func worker(mode, count, nameA, nameB string) {
	n, err := strconv.Atoi(count)
	must(err)
	open := func(name string) *semaphore.Semaphore {
		s, err := semaphore.Open(name, semaphore.WithEngine(semaphore.EngineNative), semaphore.WithCreate(false))
		must(err)
		return s
	}
	a, b := open(nameA), open(nameB)
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadString('\n')
	start, cpu := time.Now(), cpuTime()
	if mode == "loop" {
		b = a
	}
	for range n {
		if a.Wait() != nil || b.Post() != nil {
			log.Fatal("failed")
		}
	}
	fmt.Println(time.Since(start).Nanoseconds(), (cpuTime() - cpu).Nanoseconds())
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

type permit struct{ take, give, remove func() }

func ourPermit() permit {
	s, remove := newSemaphore(1)
	return permit{func() { must(s.Wait()) }, func() { must(s.Post()) }, remove}
}

func xsyncPermit() permit {
	s := xsync.NewWeighted(1)
	return permit{func() { must(s.Acquire(context.Background(), 1)) }, func() { s.Release(1) }, func() {}}
}

// goroutines lets 1,000 of them take and give one permit, n times each. They
// all wait before it is there: otherwise one might be done before the next one
// starts, without ever having met another.
func goroutines(p permit, n int) sample {
	const count = 1000
	defer p.remove()
	var all, begun sync.WaitGroup
	p.take()
	for range count {
		begun.Add(1)
		all.Go(func() {
			begun.Done()
			for range n {
				p.take()
				p.give()
			}
		})
	}
	begun.Wait()
	for range count {
		runtime.Gosched()
	}
	start, cpu := time.Now(), cpuTime()
	p.give()
	all.Wait()
	return sample{float64(time.Since(start).Nanoseconds()) / float64(n*count), float64((cpuTime() - cpu).Nanoseconds()) / float64(n*count)}
}

func allocations() int64 {
	p := ourPermit()
	defer p.remove()
	return testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p.take()
			p.give()
		}
	}).AllocedBytesPerOp()
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
