//go:build unix || windows

package testkit

import (
	"testing"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/testhook"
)

// Recoverable is the engine whose permits have owners.
const Recoverable = semaphore.EngineRecoverable

// EachVariant runs f with the locks and sleeps of this system, and with others.
func EachVariant(t *testing.T, f func(t *testing.T)) {
	t.Run("native", f)
	t.Run(otherVariant, func(t *testing.T) {
		defer Vary()()
		f(t)
	})
}

// Holding starts a process that holds n permits.
func Holding(t *testing.T, name string, n int) *Actor {
	t.Helper()
	a := StartActor(t, "recoverable")
	a.OK("open %s", name)
	a.OK("waits %d", n)
	return a
}

// Waits reports whether an actor is listed as a waiter.
func Waits(t *testing.T, s *semaphore.Semaphore, a *Actor) bool {
	hs, err := s.Holders()
	Must(t, err)
	for _, h := range hs {
		if h.PID == a.Cmd.Process.Pid && h.Waiting {
			return true
		}
	}
	return false
}

// Table returns the table of a recoverable semaphore.
func Table(s *semaphore.Semaphore) *permits.Table {
	return &testhook.Inspect(s).Backend.(engine.Recoverable).Owner().Table
}
