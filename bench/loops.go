package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/procsem/semaphore"
)

// Loops that several processes run at the same time.

var (
	self     string    // this program
	cProgram string    // libc/bench.c
	programs [2]string // this program, built without and with cgo
	builds   = [...]string{withoutCgo: "without cgo", withCgo: "with cgo"}
)

const withoutCgo, withCgo = 0, 1

// buildPrograms makes the programs that run the loops.
func buildPrograms(dir string) {
	build := func(more string, args ...string) {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env, cmd.Stderr = append(os.Environ(), more), os.Stderr
		must(cmd.Run())
	}
	cProgram = filepath.Join(dir, "bench")
	build("", "cc", "-O2", "-o", cProgram, "libc/bench.c", "-pthread")
	for i := range programs {
		programs[i] = filepath.Join(dir, strconv.Itoa(i))
		build("CGO_ENABLED="+strconv.Itoa(i), "go", "build", "-o", programs[i], ".")
	}
	var err error
	self, err = os.Executable()
	must(err)
}

// A side is one of the two implementations that a row compares.
type side struct {
	name   string
	engine semaphore.Engine // creates the semaphores
	// start makes the command that runs a loop.
	start func(mode string, n int, names []string) *exec.Cmd
}

// nameOf calls the engine that Open takes by default so: which one that is depends on the build.
func nameOf(e semaphore.Engine) string {
	if e == semaphore.EngineAuto {
		return "default"
	}
	return e.String()
}

func inBothBuilds(e semaphore.Engine) []side {
	return []side{goSide(e, withoutCgo), goSide(e, withCgo)}
}

// goSide is an engine in one of the builds.
func goSide(e semaphore.Engine, build int) side {
	return side{nameOf(e) + ", " + builds[build], e, func(mode string, n int, names []string) *exec.Cmd {
		return exec.Command(programs[build], append([]string{"worker", mode, strconv.Itoa(n), strconv.Itoa(int(e))}, names...)...)
	}}
}

var (
	native      = goSide(semaphore.EngineNative, withCgo)
	recoverable = goSide(semaphore.EngineRecoverable, withCgo)
	c           = side{"C", semaphore.EngineNative, func(mode string, n int, names []string) *exec.Cmd {
		args := []string{mode, strconv.Itoa(n)}
		for _, name := range names {
			args = append(args, "/"+name)
		}
		return exec.Command(cProgram, args...)
	}}
)

// newSemaphore creates a semaphore, which remove closes and unlinks.
func newSemaphore(e semaphore.Engine, value int) (s *semaphore.Semaphore, remove func()) {
	name := fmt.Sprintf("bench%d.%d", os.Getpid(), time.Now().UnixNano())
	s, err := semaphore.Open(name, semaphore.WithEngine(e), semaphore.WithExclusive(true), semaphore.WithValue(value))
	must(err)
	return s, atExit(func() {
		s.Close()
		s.Unlink()
	})
}

func openSemaphore(e semaphore.Engine, name string) *semaphore.Semaphore {
	s, err := semaphore.Open(name, semaphore.WithEngine(e), semaphore.WithCreate(false))
	must(err)
	return s
}

// contend lets several processes take and give one permit, n times each.
func contend(s side, processes, n int) sample {
	permit, remove := newSemaphore(s.engine, 1)
	defer remove()
	var cmds []*exec.Cmd
	for range processes {
		cmds = append(cmds, s.start("loop", n, []string{permit.Name()}))
	}
	return together(cmds, n*processes)
}

// undo is contend with one process, written in C, and a System V semaphore with
// SEM_UNDO.
func undo(n int) sample {
	s, remove := newUndoSemaphore()
	defer remove()
	return together([]*exec.Cmd{exec.Command(cProgram, "undo", strconv.Itoa(n), s.Name())}, n)
}

// pingPong lets two processes wake each other, n times.
func pingPong(s side, n int) sample {
	a, removeA := newSemaphore(s.engine, 1)
	defer removeA()
	b, removeB := newSemaphore(s.engine, 0)
	defer removeB()
	return together([]*exec.Cmd{s.start("ping", n, []string{a.Name(), b.Name()}), s.start("ping", n, []string{b.Name(), a.Name()})}, n)
}

// ring lets two processes go round a ring of three semaphores, n steps each: in a step
// a process takes the next semaphore and gives the one before. At any moment the next
// semaphore is free for only one of the processes, so this is a ping-pong in which each
// process gives the permits that it took itself.
func ring(s side, n int) sample {
	var names []string
	for range 3 {
		s, remove := newSemaphore(s.engine, 1)
		defer remove()
		names = append(names, s.Name())
	}
	behind, ahead := names, []string{names[1], names[2], names[0]}
	return together([]*exec.Cmd{s.start("ring", n, behind), s.start("ring", n, ahead)}, n)
}

// opening lets a process open and close a semaphore that another process has made, n times.
// With the mode "reopen" it has it open already.
func opening(s side, mode string, n int) func() sample {
	return func() sample {
		opened, remove := newSemaphore(s.engine, 1)
		defer remove()
		return together([]*exec.Cmd{s.start(mode, n, []string{opened.Name()})}, n)
	}
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
		defer atExit(func() { cmd.Process.Kill() })()
		ins, outs = append(ins, in), append(outs, bufio.NewReader(out))
	}
	line := func(r *bufio.Reader) string {
		s, err := r.ReadString('\n')
		must(err)
		return strings.TrimSpace(s)
	}
	for _, out := range outs {
		if got := line(out); got != "ready" {
			fail("%s", got)
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

// worker does in Go what bench.c does, with the arguments MODE N ENGINE NAME...
func worker(mode string, args []string) {
	n, err := strconv.Atoi(args[0])
	must(err)
	engine, err := strconv.Atoi(args[1])
	must(err)
	e := semaphore.Engine(engine)
	var s []*semaphore.Semaphore
	if mode != "open" {
		for _, name := range args[2:] {
			s = append(s, openSemaphore(e, name))
		}
	}
	if mode == "ring" {
		must(s[0].Wait())
	}
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadString('\n')
	start, cpu := time.Now(), cpuTime()
	switch mode {
	case "loop", "ping":
		a, b := s[0], s[len(s)-1]
		for range n {
			if a.Wait() != nil || b.Post() != nil {
				fail("Wait or Post failed")
			}
		}
	case "ring":
		for i, at := 0, 0; i < n; i++ {
			next := at + 1
			if next == len(s) {
				next = 0
			}
			if s[next].Wait() != nil || s[at].Post() != nil {
				fail("Wait or Post failed")
			}
			at = next
		}
	case "open", "reopen":
		for range n {
			must(openSemaphore(e, args[2]).Close())
		}
	default:
		fail("no mode %q", mode)
	}
	fmt.Println(time.Since(start).Nanoseconds(), (cpuTime() - cpu).Nanoseconds())
}
