//go:build unix || windows

package testkit

import (
	"os"
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

// Unchanging returns a function that fails the test if the file of an engine's semaphore is
// not what it was, apart from the slots of a recoverable one and their number: each handle
// that is opened leaves its traces there, whatever becomes of it.
func Unchanging(t testing.TB, e semaphore.Engine, name string) (check func(what string)) {
	t.Helper()
	const slotsMark = 76 // of 4 bytes
	content := func() []byte {
		b, err := os.ReadFile(StoreFile(e, name))
		Must(t, err)
		if Owns(e) {
			clear(b[slotsMark:][:4])
			clear(b[4096:permits.SlotsEnd])
		}
		return b
	}
	before := content()
	return func(what string) {
		t.Helper()
		now := content()
		for i := range min(len(before), len(now)) {
			if now[i] != before[i] {
				t.Errorf("%s: byte %d is %d, was %d", what, i, now[i], before[i])
				return
			}
		}
		if len(now) != len(before) {
			t.Errorf("%s: %d bytes, were %d", what, len(now), len(before))
		}
	}
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
