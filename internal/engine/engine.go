// Package engine is what the type Semaphore and its engines agree on: the interface
// between them, the options that engines need, and the errors that they return.
package engine

import (
	"io/fs"
	"os"
	"time"

	"github.com/procsem/semaphore/driver"
	"github.com/procsem/semaphore/internal/permits"
)

// MaxValue is the greatest value of a semaphore, glibc's SEM_VALUE_MAX.
const MaxValue = 1<<31 - 1

// An Engine is a way to keep semaphores. It registers itself.
type Engine struct {
	// Name is one that package semaphore knows.
	Name string
	// Store names where the semaphores are; engines of one store share them.
	Store string
	// Dirs says that each semaphore is a file in the directory that Options.Dir names. The functions
	// without Options have it as dir; other engines are given "" there.
	Dirs bool
	// Prepare does what may take long before the first Open that creates, which holds a lock that all
	// who create need. It is nil if there is nothing of the kind.
	Prepare func()
	Open    func(name string, how How, o *Options) (Backend, error)
	// Exists reports whether there is something of that name: any file, or one that
	// counts, if counts is not nil. What is in no file that the engine knows counts.
	Exists func(dir, name string, counts func(fs.FileInfo) bool) (bool, error)
	Unlink func(dir, name string) error
	// UnlinkUnused is Unlink of a semaphore that no handle has open; else it returns *InUse. Nobody can
	// open the semaphore between its look and the removal. It is nil where that cannot be had.
	UnlinkUnused func(dir, name string) error
	// Observe reads a semaphore that exists without being one of its users: it claims no
	// slot, maps no memory, waits for no lock and changes nothing. It is nil where the system
	// shows a semaphore only to those that have it open.
	Observe func(dir, name string) (Observation, error)
	// SetLimit changes the limit of a semaphore that exists without being one of its users:
	// it claims no slot. It is nil if semaphores of the engine have no limit.
	SetLimit func(name string, n int, o *Options) error
	// ForgetLimit takes back that a limit was set by SetLimit; it stays until one that is asked for
	// may be adopted. It is nil where SetLimit is.
	ForgetLimit func(name string, o *Options) error
	// Handed returns how many permits an open file of the semaphore owns to which HandTo has given
	// them, and gives them back if back is set. It is nil where a permit has no owner.
	Handed func(name string, f *os.File, back bool, o *Options) (n int, err error)
}

// HandTo makes an open file of the semaphore, which is some other process's too, the owner of the
// permit of a *semaphore.Permit: it comes back when the file's last descriptor is closed. pid is the
// process that is to be shown as the holder. Package semaphore sets it.
var HandTo func(permit any, f *os.File, pid int) error

// StartEvery says how long it is until something may be started again under the name of a *semaphore.Semaphore
// that starts at most once in a period, 0 if now; then start also notes that it is started now. The
// time of the last start is in the semaphore's file, for all processes. Package semaphore sets it.
var StartEvery func(s any, period time.Duration, start bool) (left time.Duration, err error)

// OpenedAt returns when a *semaphore.Semaphore whose permits have owners was opened, as its Holder says it: with the
// process's id that tells it from all other handles. Package semaphore sets it.
var OpenedAt func(handle any) (time.Time, error)

// An Observation is one picture of a semaphore.
type Observation struct {
	Value int         // the free permits
	File  fs.FileInfo // the semaphore's
	Path  string

	// Of a semaphore whose permits have owners, what they hold and Value add up to Limit
	// (unless that was lowered meanwhile, and they hold more).
	Recoverable bool
	Limit       int
	Handles     []ObservedHandle // those that hold or wait
}

// An ObservedHandle is a living handle.
type ObservedHandle struct {
	Holder
	LockAt  int64     // the byte whose lock shows that it lives; 0 if another lock does
	Numbers []int     // of the permits that it holds, in order
	Ticket  uint64    // of those that wait, the one with the least ticket came first; 0 if it does not wait
	Arrived time.Time // since when it waits; zero if it does not
	Lost    bool      // it is gone, and what it holds counts on for a while, in a store
	ByFile  bool      // it is an open file, which was given its permit when it was made (HandTo)
}

var registered []*Engine

// Register adds an engine to this build. It is called by an init function of
// the engine's own file or package, and not at all where a system lacks the engine.
func Register(e *Engine) { registered = append(registered, e) }

// Registered returns the engines of this build, in no order.
func Registered() []*Engine { return registered }

// How says what Open does about a semaphore that exists, or does not.
type How int

const (
	OpenExisting How = iota
	OpenOrCreate
	CreateNew
)

// A Backend is one open semaphore of an engine. Its methods return the bare
// sentinel or system error; the Semaphore adds operation and name.
//
// The Semaphore guarantees: at most one Serve at a time, and Close once, after
// every other call has returned. All else may be called concurrently.
type Backend interface {
	Traits() Traits
	// TryWait takes a permit or returns ErrWouldBlock, without blocking. Where
	// it cannot know at once, it takes some time to find out if the answer is
	// final, and none if the caller would only go on to wait.
	TryWait(final bool) error
	// Serve calls t.Look whenever a permit may be free, first of all at once,
	// and returns when that says that no goroutine waits. In between it blocks.
	Serve(t Turn)
	// Interrupt makes the Serve in progress, if there is one, look again.
	Interrupt()
	// Post gives n permits, all of them or none. Where it can only give one after the other, and fails in the
	// middle, it returns *PartlyPosted.
	Post(n int) error
	Value() (int, error)
	Close() error
}

// Traits are what a Semaphore has to know of its backend.
type Traits struct {
	// Polls: Serve pauses as the front waiter's backoff says.
	Polls bool
	// TakesUnasked: Serve may take a permit when no goroutine waits any more, which it
	// then gives back.
	TakesUnasked bool
	// PostCanFail: Post may fail although nothing is wrong with the semaphore, and succeed
	// later. A permit that no caller will give is then given by the handle, later.
	PostCanFail bool
	// OthersWait reports whether others than this handle seem to wait. It is nil if that cannot be told.
	OthersWait func() bool
	// Recoverable is the backend itself if its permits have owners, else nil.
	Recoverable Recoverable
	// Limited is the backend itself if it knows a limit and who holds, else nil.
	Limited Limited
}

// A Limited is a backend that has a limit, and knows the holders.
type Limited interface {
	Holders() ([]Holder, error)
	Limit() (int, error)
	SetLimit(n int) error
}

// A Recoverable is a backend whose permits have owners: handles, and within them
// Permits. Close of the handle gives back what it holds.
type Recoverable interface {
	Backend
	Limited
	Owner() *permits.Owner
	// Take is TryWait, for a Permit or for the handle; it returns the permit's
	// number, which the handle has no use for.
	Take(final, forPermit bool) (int, error)
	// TakeTurn is Take for a waiter that the server serves, and that has this place in the
	// line of all processes (see Turn.Enroll).
	TakeTurn(place uint64, forPermit bool) (int, error)
	// TakeSeveral is Take of n permits at once for a Permit, n > 1 or permits.All.
	TakeSeveral(final bool, n int) ([]int, error)
	// GatherTurn is TakeTurn of several permits. Until it has all, it keeps those that it has
	// got for the waiter: when that gives up, StopGathering gives them back.
	GatherTurn(place uint64, n int) ([]int, error)
	StopGathering(place uint64)
	// GiveAt gives a Permit's back, or returns ErrNotHeld if it is not held.
	GiveAt(i int) error
	// HandTo is what the variable of that name needs.
	HandTo(i int, f *os.File, pid int) error
	// GiveSeveral is GiveAt of several permits.
	GiveSeveral(words []int) error
	// HandOver makes the permit i, or one that the handle holds, that of another
	// taker within the handle, which has waited since began (permits.Clock).
	HandOver(i int, fromPermit, toPermit bool, began time.Duration) (int, error)
	GiveAll() int

	// Waiters returns how many handles wait, dead ones among them whose death was not found yet.
	Waiters() int
	// StartEvery is what the variable of that name needs.
	StartEvery(period time.Duration, start bool) (left time.Duration, err error)
	LockFile() (*os.File, error)
}

// A Holder is semaphore.Holder.
type Holder struct {
	Host    string
	PID     int
	Started time.Time
	Opened  time.Time
	Permits int
	Waiting bool
	Want    int
	Since   time.Time
	Waited  time.Duration
	Label   string
}

// HolderInStore makes a Holder of one in a store on several machines.
func HolderInStore(h driver.Holder) Holder {
	of := Holder{Host: h.Host, PID: h.PID, Label: h.Label, Permits: h.Permits, Waiting: h.Waiting, Want: h.Want, Since: h.Since}
	if !h.Since.IsZero() && !h.Arrived.IsZero() {
		of.Waited = max(0, h.Since.Sub(h.Arrived))
	}
	return of
}

// A Turn is what the server of a handle's queue knows of its waiters.
type Turn interface {
	// Look takes permits for the waiters, and reports whether none is left.
	Look() (done bool)
	// Enroll has a place given to each waiter that waits, or begins to, as long as place is not
	// nil, and calls none whenever no waiter is left.
	Enroll(place func() uint64, none func())
	// Pass is called after a Look that has left waiters. It reports true if the goroutine that
	// serves has to go, for it has got what it waited for: then another one calls rest, which
	// goes on in its place, and Serve returns.
	Pass(rest func()) bool
	// Fail ends the wait that was in front at the last Look.
	Fail(error)
	// Took passes on a permit that the engine took without having been asked by
	// TryWait.
	Took()
	// Poll is the Serve of an engine that has to poll: it looks, with the pauses of
	// the backoff, which kick cuts short. idle is called before each pause.
	Poll(kick Kick, idle func())
}
