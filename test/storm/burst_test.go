//go:build (unix && !aix && !filelock_fcntl) || windows

// Bursts: the holder and many waiters are killed together, again and again. How long does
// it take until another one has the permit?

package storm_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/futex"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/testhook"
	. "github.com/procsem/semaphore/internal/testkit"
)

// burstMain is the helper "burst". It waits for a permit of the semaphore that its first
// argument names, says that it has it, and keeps it. If there is a second argument, its
// liveness word says that its exit will be reported, and it will not.
func burstMain(args []string) int {
	s, err := semaphore.Open(args[0], semaphore.WithRecovery(true), semaphore.WithCreate(false))
	// A process hears of exits, and relies on that, when it has slept once.
	if err == nil && s.WaitTimeout(time.Millisecond) != nil {
		for waits(s) { // until that wait's server has ended
			time.Sleep(time.Millisecond)
		}
		fmt.Println("waits")
		err = s.Wait()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if len(args) > 1 {
		testhook.Inspect(s).Backend.(engine.Recoverable).Owner().Live().Store(futex.Waiters | 1)
	}
	fmt.Println("in")
	io.Copy(io.Discard, os.Stdin) // until the kill
	return 0
}

// waits reports whether the table says that this process waits.
func waits(s *semaphore.Semaphore) bool {
	return slices.ContainsFunc(Table(s).Holders(), func(h permits.Holder) bool { return h.PID == os.Getpid() && h.Waits })
}

// A crowd is one holder of the only permit, and many waiters, each of them a process.
type crowd struct {
	t      *testing.T
	s      *semaphore.Semaphore
	all    map[*exec.Cmd]bool // whether it is stopped
	in     chan *exec.Cmd     // processes that have got the permit
	holder *exec.Cmd

	started int
	said    atomic.Int32 // how many have said something
}

func newCrowd(t *testing.T) *crowd {
	c := &crowd{t: t, s: Open(t, UniqueName(t), Recoverable), all: make(map[*exec.Cmd]bool), in: make(chan *exec.Cmd, 4096)}
	t.Cleanup(func() {
		for cmd := range c.all {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	return c
}

func (c *crowd) start(more ...string) *exec.Cmd {
	cmd := Helper(c.t, "burst", append([]string{c.s.Name()}, more...)...)
	cmd.Env = append(cmd.Env, NetVariable+"=on")
	if len(more) > 0 {
		cmd.Env = append(cmd.Env, NoRobustList+"=1")
	}
	_, err := cmd.StdinPipe()
	Must(c.t, err)
	out, err := cmd.StdoutPipe()
	Must(c.t, err)
	Must(c.t, cmd.Start())
	c.all[cmd] = false
	c.started++
	go func() {
		lines := bufio.NewScanner(out)
		for first := true; lines.Scan(); first = false {
			if first {
				c.said.Add(1)
			}
			if lines.Text() == "in" {
				c.in <- cmd
			}
		}
	}()
	return cmd
}

// fill starts processes until there are n waiters, and returns when all of them sleep that
// are not stopped.
func (c *crowd) fill(n int) {
	for len(c.all) < n+1 {
		c.start()
	}
	if c.holder == nil {
		c.awaitHolder()
	}
	progress, done := 0, false
	sleep := func() bool {
		before, asleep := progress, 0
		for _, h := range Table(c.s).Holders() {
			for cmd, stopped := range c.all {
				if cmd.Process.Pid == h.PID && h.Waits && (h.Doing == permits.Waiting || stopped || RecoverPolls()) {
					asleep++
				}
			}
		}
		said := int(c.said.Load())
		progress = max(progress, said+asleep)
		done = said == c.started && asleep == n
		return done || progress > before
	}
	for !done { // for each that says something or falls asleep there is time anew
		WaitFor(c.t, "waiters", sleep)
	}
}

// awaitHolder returns when another process has the permit. One of the dead may have got it
// before its end.
func (c *crowd) awaitHolder(dead ...*exec.Cmd) {
	for {
		select {
		case c.holder = <-c.in:
			if _, there := c.all[c.holder]; there && !slices.Contains(dead, c.holder) {
				return
			}
		case <-time.After(Hang):
			c.t.Fatalf("no process has the permit after %v: value %d", Hang, value(c.t, c.s))
		}
	}
}

// random returns the holder and n waiters, in any order.
func (c *crowd) random(n int) []*exec.Cmd {
	victims := []*exec.Cmd{c.holder}
	for cmd := range c.all {
		if cmd != c.holder && len(victims) < n+1 {
			victims = append(victims, cmd)
		}
	}
	rand.Shuffle(len(victims), func(i, j int) { victims[i], victims[j] = victims[j], victims[i] })
	return victims
}

// checkBurst kills the holder and waiters, all at once, and fails the test if it takes too
// long until another one has the permit.
func (c *crowd) checkBurst(victims []*exec.Cmd) (took time.Duration) {
	waiters := len(c.all) - 1
	start := time.Now()
	for _, cmd := range victims {
		Must(c.t, cmd.Process.Kill())
	}
	c.awaitHolder(victims...)
	took = time.Since(start)
	if took > maxHandOver() {
		c.t.Errorf("%d of %d waiters were killed with the holder: another had the permit after %v", len(victims)-1, waiters, took)
	}
	for _, cmd := range victims {
		cmd.Wait()
		delete(c.all, cmd)
	}
	return took
}

// maxHandOver is the second within which the safety net finds what was lost, and as much
// again for a machine that is busy with dozens of processes that end and start. One that needs -short may take
// four times as long for these; not ten seconds, in which one of many waiters looks by itself.
func maxHandOver() time.Duration {
	if testing.Short() {
		return 8 * time.Second
	}
	return 2 * time.Second
}

func TestStormOfBursts(t *testing.T) {
	UseHelper("burst")
	needSpeed(t)
	c := newCrowd(t)
	var longest time.Duration
	for killed, round := 0, 0; killed < kills()/2 && !t.Failed(); round++ {
		c.fill(burstWaiters)
		n := burstWaiters - 1
		if round%4 != 0 {
			n = 1 + rand.IntN(burstWaiters/2)
		}
		longest = max(longest, c.checkBurst(c.random(n)))
		killed += n + 1
	}
	t.Logf("the longest hand-over took %v", longest)
}
