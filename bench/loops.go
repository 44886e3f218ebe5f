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
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Loops that several processes run at the same time.

var (
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
}

// contend lets several processes take and give one permit, n times each.
func contend(p *peer, processes, n int) sample {
	permit, remove := p.create(1)
	defer remove()
	var cmds []*exec.Cmd
	for range processes {
		cmds = append(cmds, p.command("loop", n, permit))
	}
	return together(cmds).sample
}

// alone lets one process work on a semaphore of one permit.
func alone(p *peer, mode string, n int) sample {
	permit, remove := p.create(1)
	defer remove()
	return together([]*exec.Cmd{p.command(mode, n, permit)}).sample
}

// pingPong lets two processes wake each other, n times.
func pingPong(p *peer, n int) sample {
	a, removeA := p.create(1)
	defer removeA()
	b, removeB := p.create(0)
	defer removeB()
	return together([]*exec.Cmd{p.command("ping", n, a, b), p.command("ping", n, b, a)}).perStep()
}

// ring lets two processes go round a ring of three semaphores, n steps each: in a step
// a process takes the next semaphore and gives the one before. At any moment the next
// semaphore is free for only one of the processes, so this is a ping-pong in which each
// process gives the permits that it took itself.
func ring(p *peer, n int) sample {
	var names []string
	for range 3 {
		name, remove := p.create(1)
		defer remove()
		names = append(names, name)
	}
	behind, ahead := names, []string{names[1], names[2], names[0]}
	return together([]*exec.Cmd{p.command("ring", n, behind...), p.command("ring", n, ahead...)}).perStep()
}

// A joint is what processes have done that worked at the same time.
type joint struct {
	sample     // the time of the slowest, and the CPU time of all, for each operation of all
	operations int
	processes  int
	turns      histogram
}

// perStep is the cost of a step that all make together.
func (j joint) perStep() sample {
	return sample{j.wall * float64(j.processes), j.cpu * float64(j.processes)}
}

// together starts the processes, and lets them begin at the same moment.
func together(cmds []*exec.Cmd) (j joint) {
	var all []*process
	for _, cmd := range cmds {
		p := start(cmd)
		defer p.end()
		all = append(all, p)
	}
	for _, p := range all {
		p.expect("ready")
	}
	for _, p := range all {
		fmt.Fprintln(p.in)
	}
	for _, p := range all {
		fields := strings.Fields(p.line())
		var operations int
		var wall, cpu float64
		_, err := fmt.Sscan(strings.Join(fields[:min(3, len(fields))], " "), &operations, &wall, &cpu)
		must(err)
		must(j.turns.add(fields[3:]))
		must(p.cmd.Wait())
		j.operations += operations
		j.wall = max(j.wall, wall)
		j.cpu += cpu
	}
	j.processes = len(all)
	j.wall /= float64(j.operations)
	j.cpu /= float64(j.operations)
	return j
}

// A process is one that works.
type process struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	kill func()
}

func start(cmd *exec.Cmd) *process {
	in, err := cmd.StdinPipe()
	must(err)
	out, err := cmd.StdoutPipe()
	must(err)
	must(cmd.Start())
	return &process{cmd, in, bufio.NewReader(out), atExit(func() { cmd.Process.Kill() })}
}

// end kills it if it still runs.
func (p *process) end() {
	p.kill()
	p.cmd.Wait()
}

func (p *process) line() string {
	s, err := p.out.ReadString('\n')
	if err != nil {
		fail("%q: %v", p.cmd.Args, err)
	}
	return strings.TrimSpace(s)
}

func (p *process) expect(line string) {
	if got := p.line(); got != line {
		fail("%q: %q in place of %q", p.cmd.Args, got, line)
	}
}

// What a process is like in which many wait.
type waitingProcess struct {
	threads int
	bytes   float64 // of resident memory, for each that waits, and itself
	cpu     float64 // ns a second
}

// manyWait lets n wait in a process, in a mode of waiting, and looks at it for that long.
func manyWait(p *peer, mode string, n int, d time.Duration) (w waitingProcess) {
	name, remove := p.create(1)
	defer remove()
	many := start(p.command(mode, n, name))
	defer many.end()
	pid := many.cmd.Process.Pid
	many.expect("ready")
	before := residentMemory(pid)
	fmt.Fprintln(many.in)
	many.expect("waiting")
	w.bytes = float64(residentMemory(pid)-before) / float64(n)
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	must(err)
	w.threads = len(tasks)
	if d > 0 {
		time.Sleep(d / 10) // for what begins to wait to come to rest
		w.cpu = cpuWhile(pid, d)
	}
	return w
}

func residentMemory(pid int) int {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	must(err)
	var total, resident int
	_, err = fmt.Sscan(string(content), &total, &resident)
	must(err)
	return resident * os.Getpagesize()
}

// cpuWhile returns how many ns a second a process works meanwhile.
func cpuWhile(pid int, d time.Duration) float64 {
	used := func() int64 {
		var t unix.Timespec
		must(unix.ClockGettime(int32(^pid<<3|2), &t)) // the clock of that process: clock_getcpuclockid(3)
		return t.Nano()
	}
	before, start := used(), time.Now()
	time.Sleep(d)
	return float64(used()-before) / time.Since(start).Seconds()
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func monotonic() int64 {
	var t unix.Timespec
	must(unix.ClockGettime(unix.CLOCK_MONOTONIC, &t))
	return t.Nano()
}
