package semaphore

import (
	"errors"
	"fmt"
	"os"
)

// Error is the error of every operation of this package, with the exception
// of a context's own error, which is returned bare. It names the operation
// and the semaphore; Err says what was wrong and answers errors.Is for one of
// the package's sentinels, for fs.ErrNotExist, fs.ErrExist and
// fs.ErrPermission, or for the system's errno.
type Error struct {
	Op   string // "open", "wait", "trywait", "post", ...
	Name string // without the leading slash
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("%s %q: %v", e.Op, e.Name, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

// Timeout reports whether the error is ErrTimeout, as net.Error and
// fs.PathError have it.
func (e *Error) Timeout() bool { return errors.Is(e.Err, os.ErrDeadlineExceeded) }

// sentinel is an error that also answers errors.Is for errors of the standard
// library that mean the same.
type sentinel struct {
	text string
	same []error
}

func (s *sentinel) Error() string { return "semaphore: " + s.text }

func (s *sentinel) Is(target error) bool {
	for _, e := range s.same {
		if target == e {
			return true
		}
	}
	return false
}

// The errors that errors.Is finds in what this package returns. Those with a
// counterpart among the errnos (EAGAIN, ETIMEDOUT, EINTR, EOVERFLOW) answer
// errors.Is for it too, on systems that have it.
var (
	// ErrWouldBlock: TryWait or TryAcquire found no free permit, or found
	// others waiting on the same handle. Is EAGAIN.
	ErrWouldBlock error = &sentinel{"would block", errnosWouldBlock}

	// ErrTimeout: WaitTimeout's duration passed, or a backoff function ended
	// the wait. Is os.ErrDeadlineExceeded, EAGAIN and ETIMEDOUT.
	ErrTimeout error = &sentinel{"timeout", append([]error{os.ErrDeadlineExceeded}, errnosTimeout...)}

	// ErrInterrupted: a signal handler ran in the blocked thread, and the
	// handle was opened with WithRetryOnEINTR(false). Is EINTR.
	ErrInterrupted error = &sentinel{"interrupted by a signal", errnosInterrupted}

	// ErrClosed: the handle is closed, or was closed during the call. Is
	// os.ErrClosed.
	ErrClosed error = &sentinel{"handle is closed", []error{os.ErrClosed}}

	// ErrOverflow: the value is already the greatest possible, 2147483647.
	// Is EOVERFLOW.
	ErrOverflow error = &sentinel{"value is at its maximum", errnosOverflow}

	// ErrNotHeld: Post on a strict handle that holds nothing, or on any handle of
	// a recoverable semaphore that holds nothing which Wait or TryWait took.
	ErrNotHeld error = &sentinel{text: "no permit held by this handle"}

	// ErrHeld: Wait or TryWait on a strict handle that holds a permit.
	ErrHeld error = &sentinel{text: "a permit is already held by this handle"}

	// ErrInvalidName: the name breaks the rules of CheckName.
	ErrInvalidName error = &sentinel{text: "invalid name"}

	// ErrInvalidValue: a value below 0 or above 2147483647, or a limit of a
	// recoverable semaphore below 1 (SetLimit: 0) or above 65535.
	ErrInvalidValue error = &sentinel{text: "invalid value"}

	// ErrInvalidOption: an option's argument, or two options together, make
	// no sense, or SEMAPHORE_DIR is not an absolute path.
	ErrInvalidOption error = &sentinel{text: "invalid option"}

	// ErrCorrupt: what stands in the semaphore's place is not a semaphore.
	ErrCorrupt error = &sentinel{text: "not a semaphore, or a damaged one"}

	// ErrKindMismatch: the name is in use for another kind of semaphore.
	ErrKindMismatch error = &sentinel{text: "name belongs to another kind of semaphore"}

	// ErrLimitMismatch: WithValue asked for another limit than a recoverable
	// semaphore has that somebody has open. (What SetLimit has set stands, without
	// an error.)
	ErrLimitMismatch error = &sentinel{text: "another limit is in force"}

	// ErrTableFull: a recoverable semaphore has as many handles, of all
	// processes together, as it can have, 4096.
	ErrTableFull error = &sentinel{text: "no slot is free"}

	// ErrUnsupported: not on this system, in this build, by this engine or on
	// this filesystem. Is errors.ErrUnsupported.
	ErrUnsupported error = &sentinel{"not supported here", []error{errors.ErrUnsupported}}
)

// because gives a sentinel its particulars: what was wrong, what is allowed.
func because(err error, format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{err}, args...)...)
}
