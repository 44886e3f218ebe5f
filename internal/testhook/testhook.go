// Package testhook is all that production code has for the sake of tests, in one
// place: switches that take away what a system may lack, so that the code for systems
// without it runs where the tests run, and views of what the public API does not show.
//
// Nothing outside of tests writes to it, but for the counter and the views, which are
// set where they are declared to come from. A switch is set before the first handle is
// opened, or while no call is in progress that depends on it.
package testhook

import "sync/atomic"

// The switches. All are off unless a test sets them.
var (
	// NoFutexWaitv: Linux before 5.16, or a seccomp filter that refuses futex_waitv.
	// A wait sleeps on one word, and hears of no exit.
	NoFutexWaitv atomic.Bool

	// NoRobustList: the kernel reports no exits.
	NoRobustList atomic.Bool

	// NoByteLocks: Linux before 3.15, or a filesystem without open-file-description
	// locks. A new recoverable semaphore gets a lock file for each slot.
	NoByteLocks atomic.Bool

	// Polling: waiters of recoverable semaphores poll, as on systems without futexes.
	Polling atomic.Bool

	// Unwatched: on Windows, no process may be watched, as those of other users.
	Unwatched atomic.Bool

	// NoSafetyNet: a sleeping waiter never looks by itself. A test in which nobody is
	// killed needs no safety net, and must not have a lost wake-up hidden by it.
	NoSafetyNet atomic.Bool

	// NoOrder: newcomers may take permits past those who wait, however long they have waited.
	NoOrder atomic.Bool

	// Patient: no waiter counts as late, and a dying owner is watched until it has died, however slow the machine is
	// on which a test looks at the order.
	Patient atomic.Bool

	// MaxName, if it is not 0, is the length of the longest name, as on a system with
	// another libc.
	MaxName int
)

// Rescued counts the waiters that the safety net has rescued: those that slept beside
// a free permit, or a dead owner's.
var Rescued atomic.Int64

// Trace, if it is not nil, is called at the beginning of each step of a recoverable
// semaphore's owner (permits.Step), and with the step before at its end; with
// permits.Taking before and after the compare-and-swap of a take, and when several permits are given after
// each word that is marked. It is set before the first handle is opened.
var Trace func(step uint32)

// A View is what a handle looks like from inside.
type View struct {
	Waiting int // goroutines in its queue
	Inside  int // calls in progress, its server among them
	Backend any // the engine's side: an engine.Backend
}

// Inspect returns the view of a *semaphore.Semaphore. Package semaphore sets it.
var Inspect func(handle any) View

// Libc is what the engine over libc knows of the libc it is linked with; zero in
// builds without. The engine sets it.
var Libc struct {
	Glibc, Musl bool
	Polls       bool                     // it has no timed wait
	Path        func(name string) string // its file of a name; nil if not known
	Calls       func() int               // how many waits and posts it has done
}
