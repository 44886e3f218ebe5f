// Package driver is what a store brings that keeps semaphores for several machines, so that
// semaphore.FromDriver makes a *semaphore.Semaphore of it. Programs that only use semaphores do not
// need it: the package of their store opens them, as package [etcd] does.
//
// Package [github.com/procsem/semaphore/driver/drivertest] has the tests that every driver has to pass, and the example of this one is a driver in full that passes them.
//
// A store gives a permit for a time that its holder prolongs, as nobody can see on another machine whether a process
// lives. So a permit can be lost while its holder still works: when the holder, or the way to the store, has stood still
// for too long. The store must not give a lost permit to somebody else before the Grant of the first one says that it is lost (Valid), and
// cannot keep a holder from going on that does not ask. This is why there are Grants only, and nothing like POSIX's wait and post,
// which have nobody to tell.
//
// The errors are those of package semaphore, bare (semaphore.ErrWouldBlock, say), which adds operation and name; or the
// store's own.
//
// [etcd]: https://pkg.go.dev/github.com/procsem/semaphore/etcd
package driver

import (
	"context"
	"time"
)

// A Handle is a semaphore in a store, as one program has it open. All methods are safe for concurrent use.
//
// A ctx is not nil. A method that waits for the store gives up, with an error, when it has not answered for a while that the driver chooses and
// documents, also if ctx has no end. Only Acquire may wait without a bound: for permits that others hold. When ctx ends all
// return promptly, with ctx.Err() or an error that wraps it.
//
// An n is the number of permits, 1 to the limit, or semaphore.All for all that there are: as many as the
// limit says at the moment of taking, one at least. An n that is greater than the limit is semaphore.ErrInvalidValue at once;
// 1 is never too many (with a limit of 0 it waits); lower values than 1, but for All, do not get here.
type Handle interface {
	// TryAcquire takes n permits if they are free, and nobody waits who would get some before it, and else returns semaphore.ErrWouldBlock.
	TryAcquire(ctx context.Context, n int) (Grant, error)

	// Acquire takes n permits, all or nothing, and waits for them. Those that wait, on whichever machine, are served in the order of
	// their arrival; one that wants several is not passed by others that want fewer. If the limit is lowered below n while it
	// waits it goes on waiting, for the limit to be raised again, and is passed meanwhile. If it returns an error it has taken nothing, or has given it back; if it cannot, as the store does not answer, the
	// permits come back by themselves.
	Acquire(ctx context.Context, n int) (Grant, error)

	// Value returns the number of free permits; 0 also if more are held than the limit says.
	Value(ctx context.Context) (int, error)

	// Limit returns the limit, for whichever handle it was set.
	Limit(ctx context.Context) (int, error)

	// SetLimit sets the limit for all, at once, 0 or more, up to what the store allows; else it is semaphore.ErrInvalidValue. Nobody
	// loses a permit by it: what is held above a lower limit stays held, and nobody gets one until there is room below it.
	SetLimit(ctx context.Context, n int) error

	// Holders lists the holders, those that have held for longest first, and then the waiters, in their order. An entry is one call
	// of Acquire or TryAcquire, so a program that makes several is there as often.
	Holders(ctx context.Context) ([]Holder, error)

	// Unlink removes the semaphore from the store, also after Close; fs.ErrNotExist if there is none. A store that cannot remove what is in use without letting
	// others in beside its holders refuses, with an error of its own.
	Unlink(ctx context.Context) error

	// Close gives back all that is held through the handle, as Release does, and ends it. It is called once, after all other calls
	// but Unlink have returned. An error says that something may come back later only.
	Close() error
}

// A Grant is what Acquire or TryAcquire took: one permit, or several. All methods are safe for concurrent use.
type Grant interface {
	// Release gives it back, or returns semaphore.ErrLost if it was lost before. It returns only when it is given back or lost,
	// or ctx ends, or the store refuses; then it may be called again. When it has ended for good another call returns the same.
	// From its first call on Valid is false, whatever becomes of it.
	Release(ctx context.Context) error

	// Valid reports whether it is still held, at the moment of the call: the answer is reckoned from a clock that also runs
	// while the machine is suspended, and does not wait for the store, for a timer or for another goroutine, which may all be late in a process
	// that stood still.
	Valid() bool

	// Lost returns a channel that is closed soon after the Grant is lost. It is not closed by Release.
	Lost() <-chan struct{}

	// Token returns a number above 0 that is greater than those of all Grants of the semaphore that were given before.
	Token() int64
}

// A Holder is somebody who holds permits or waits for them.
type Holder struct {
	Host    string    // the machine's name
	PID     int       // as the process sees itself
	Label   string    // what it is for, or "" if it does not say
	Permits int       // held
	Lost    bool      // it is gone, or has lost what it held, and that counts on for a while
	Waiting bool      // for Want permits
	Want    int       // 0 if it does not wait; it may be semaphore.All
	Arrived time.Time // since when it waits, or had waited, by the clock of its machine; zero if it did not have to, or if that is not known
	Since   time.Time // when it took its permits, by that clock, or zero
}
