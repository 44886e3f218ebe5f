//go:build !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package storm_test

import (
	"maps"
	"os/exec"
	"slices"
	"testing"

	"github.com/procsem/semaphore/internal/permits"
	. "github.com/procsem/semaphore/internal/testkit"
)

// The report of the holder's exit gets lost in a burst: the kernel wakes one sleeper for
// each exit, and that may be a thread of a process that is dying too. Here it always gets
// lost. One waiter of many is left, and has noticed other exits.
func TestBurstHidesAnExit(t *testing.T) {
	UseHelper("burst")
	needSpeed(t)
	if !KernelReports() {
		t.Skip("not on this system: reports of exits, one of which gets lost")
	}
	for _, waiters := range []int{12, 60} {
		c := newCrowd(t)
		c.start("unreported")
		c.awaitHolder()
		c.fill(waiters - 1)
		last := c.start() // it sees that the others wait
		c.fill(waiters)
		c.checkBurst(slices.DeleteFunc(slices.Collect(maps.Keys(c.all)), func(cmd *exec.Cmd) bool { return cmd == last }))
	}
}

// A waiter that has noticed an exit may have missed others, although many waiters seem to
// be left on which it could rely: here they are stopped.
func TestWaiterLooksSoonAfterAnExit(t *testing.T) {
	UseHelper("burst")
	needSpeed(t)
	if !KernelReports() {
		t.Skip("not on this system: reports of exits, one of which gets lost")
	}
	c := newCrowd(t)
	c.start("unreported")
	c.awaitHolder()
	const stopped = 58
	c.fill(stopped)
	for cmd := range c.all {
		if cmd != c.holder {
			Suspend(t, cmd)
			c.all[cmd] = true
		}
	}
	watched := c.start() // only by the next one
	c.fill(stopped + 1)
	c.stopAsleep(watched) // else it may look by itself, and sleep again behind the next one
	c.start()
	c.fill(stopped + 2)
	c.checkBurst([]*exec.Cmd{c.holder, watched})
}

// stopAsleep stops a waiter while it sleeps, so that it keeps its place among those that do.
func (c *crowd) stopAsleep(cmd *exec.Cmd) {
	WaitFor(c.t, "a waiter stopped in its sleep", func() bool {
		Suspend(c.t, cmd)
		for _, h := range Table(c.s).Holders() {
			if h.PID == cmd.Process.Pid && h.Doing == permits.Waiting {
				return true
			}
		}
		GoOn(c.t, cmd)
		return false
	})
	c.all[cmd] = true
}
