//go:build unix || windows

package testkit

import (
	"errors"
	"testing"

	"github.com/procsem/semaphore"
)

// A Row is one of the conformance table: an engine, and what is special about it.
type Row struct {
	Name   string
	Engine semaphore.Engine
	Before func() (restore func()) // nil, or what makes the system another one
}

// HasEngine reports whether this build has e on this system.
func HasEngine(e semaphore.Engine) bool {
	_, err := semaphore.Open("any", semaphore.WithEngine(e), semaphore.WithCreate(false))
	return !errors.Is(err, semaphore.ErrUnsupported)
}

// NeedEngine skips a test of an engine that this build does not have.
func NeedEngine(t testing.TB, e semaphore.Engine) {
	t.Helper()
	if !HasEngine(e) {
		t.Skipf("not in this build: engine %v", e)
	}
}

// Owns reports whether the engine's permits have owners: only the handle that took a
// permit gives it back, and Close gives back all.
func Owns(e semaphore.Engine) bool { return e == semaphore.EngineRecoverable }

// EachEngine runs f with each row of the conformance table.
func EachEngine(t *testing.T, f func(t *testing.T, e semaphore.Engine)) {
	for _, row := range Rows {
		t.Run(row.Name, func(t *testing.T) {
			NeedEngine(t, row.Engine)
			if row.Before != nil {
				defer row.Before()()
			}
			f(t, row.Engine)
		})
	}
}

// EachStore runs f with each set of actors that share semaphores.
func EachStore(t *testing.T, f func(t *testing.T, kinds []string)) {
	for store, kinds := range Sharing() {
		t.Run(store, func(t *testing.T) {
			if kinds == nil {
				t.Skipf("not in this build: an engine for the store of %s", store)
			}
			f(t, kinds)
		})
	}
}

// EngineOf returns the engine of that name.
func EngineOf(kind string) (e semaphore.Engine) {
	for e.String() != kind {
		e++
	}
	return e
}
