package semaphore

import (
	"errors"
	"fmt"
	"os"

	"github.com/procsem/semaphore/internal/engine"
)

// Error is the error of every operation of this package, with the exception
// of a context's own error, which is returned bare. It names the operation
// and the semaphore; Err says what was wrong and answers [errors.Is] for one of
// the package's sentinels, for [fs.ErrNotExist], [fs.ErrExist] and
// [fs.ErrPermission], or for the system's errno. Calls may return the same *Error: do not change it.
//
// Op is the method or function in lower case, without what tells only how long it waits or how many it
// takes: "open", "wait", "trywait", "acquire", "tryacquire", "post", "release", "value", "limit", "unlink" and so on; it is
// "permit" of [Permit.Err].
type Error struct {
	Op   string // the operation
	Name string // the semaphore's, without the leading slash
	Err  error  // what was wrong
}

// Error returns operation, name and what was wrong, in one line.
func (e *Error) Error() string { return fmt.Sprintf("%s %q: %v", e.Op, e.Name, e.Err) }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Timeout reports whether the error is [ErrTimeout], as [net.Error] and
// [fs.PathError] have it.
func (e *Error) Timeout() bool { return errors.Is(e.Err, os.ErrDeadlineExceeded) }

// The errors that [errors.Is] finds in what this package returns. Those with a
// counterpart among the errnos (EAGAIN, ETIMEDOUT, EINTR, EOVERFLOW) answer
// errors.Is for it too, on systems that have it.
var (
	// ErrWouldBlock: TryWait or TryAcquire found no free permit, or found that
	// other goroutines wait on the same handle. Is EAGAIN.
	ErrWouldBlock error = engine.ErrWouldBlock

	// ErrTimeout: WaitTimeout's duration passed, or a backoff function ended
	// the wait. Is os.ErrDeadlineExceeded, EAGAIN and ETIMEDOUT.
	ErrTimeout error = engine.ErrTimeout

	// ErrInterrupted: a signal came that WithRetryOnEINTR(false) names, or a
	// handler ran in the blocked thread of a handle with that option. Is EINTR.
	ErrInterrupted error = engine.ErrInterrupted

	// ErrClosed: the handle is closed, or was closed during the call. Is
	// os.ErrClosed.
	ErrClosed error = engine.ErrClosed

	// ErrOverflow: the value is already the greatest possible, 2147483647, or PostN would make it greater.
	// Is EOVERFLOW.
	ErrOverflow error = engine.ErrOverflow

	// ErrNotHeld: Post on a strict handle that holds nothing, or on any handle of
	// a recoverable semaphore that holds nothing which Wait or TryWait took. PostN on one that
	// holds fewer than it is to give.
	ErrNotHeld error = engine.ErrNotHeld

	// ErrLost: a permit of a store on several machines is not held any more, although it was not released: see
	// Permit.Err.
	ErrLost error = engine.ErrLost

	// ErrHeld: Wait or TryWait on a strict handle that holds a permit.
	ErrHeld error = engine.ErrHeld

	// ErrInvalidName: the name breaks the rules of CheckName.
	ErrInvalidName error = engine.ErrInvalidName

	// ErrInvalidValue: a value below 0 or above 2147483647, or a limit of a
	// recoverable semaphore below 1 (SetLimit: 0) or above 65535, or a number of permits below 1 or
	// (AcquireN, TryAcquireN) above the limit.
	ErrInvalidValue error = engine.ErrInvalidValue

	// ErrInvalidOption: an option's argument, or two options together, make
	// no sense, or SEMAPHORE_DIR is not an absolute path, or WithDir names no directory.
	ErrInvalidOption error = engine.ErrInvalidOption

	// ErrCorrupt: what has the semaphore's name is not a semaphore. Or it is a recoverable one,
	// and its file is of another version of this package: of a newer one, or of an older one that
	// has it open (the error says which).
	ErrCorrupt error = engine.ErrCorrupt

	// ErrKindMismatch: the name is in use for another kind of semaphore. Beside one that
	// exists only regular files of root, of the caller and of its owner count.
	ErrKindMismatch error = engine.ErrKindMismatch

	// ErrLimitMismatch: WithValue asked for another limit than that of a recoverable
	// semaphore that is open in some process. (A limit that SetLimit has set stands,
	// without an error.)
	ErrLimitMismatch error = engine.ErrLimitMismatch

	// ErrTableFull: a recoverable semaphore has as many handles, of all
	// processes together, as it can have, 4096.
	ErrTableFull error = engine.ErrTableFull

	// ErrTooManyWaiters: 5,000 handles of this process (on machines of 32 bits with cgo 250)
	// have blocked waiters already. For each of them a thread is blocked, and Go ends a program
	// that has 10,000 threads. How many goroutines wait on a handle does not matter, and
	// handles that poll (EngineFlock) do not count.
	ErrTooManyWaiters error = engine.ErrTooManyWaiters

	// ErrUnsupported: not on this system, in this build, by this engine or on
	// this filesystem. Is errors.ErrUnsupported.
	ErrUnsupported error = engine.ErrUnsupported
)
