package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// A Sentinel is an error that also answers errors.Is for errors of the standard
// library that mean the same.
type Sentinel struct {
	text string
	same []error
}

func (s *Sentinel) Error() string { return "semaphore: " + s.text }

// Is reports whether the target means the same.
func (s *Sentinel) Is(target error) bool {
	for _, e := range s.same {
		if target == e {
			return true
		}
	}
	return false
}

// Package semaphore exports these, and documents them.
var (
	ErrWouldBlock     error = &Sentinel{"would block", errnosWouldBlock}
	ErrTimeout        error = &Sentinel{"timeout", append([]error{os.ErrDeadlineExceeded}, errnosTimeout...)}
	ErrInterrupted    error = &Sentinel{"interrupted by a signal", errnosInterrupted}
	ErrClosed         error = &Sentinel{"handle is closed", []error{os.ErrClosed}}
	ErrOverflow       error = &Sentinel{"value would exceed its maximum", errnosOverflow}
	ErrNotHeld        error = &Sentinel{text: "not held by this handle"}
	ErrLost           error = &Sentinel{text: "the permit was lost"}
	ErrHeld           error = &Sentinel{text: "a permit is already held by this handle"}
	ErrInvalidName    error = &Sentinel{text: "invalid name"}
	ErrInvalidValue   error = &Sentinel{text: "invalid value"}
	ErrInvalidOption  error = &Sentinel{text: "invalid option"}
	ErrCorrupt        error = &Sentinel{text: "not a semaphore, or a damaged one"}
	ErrKindMismatch   error = &Sentinel{text: "name belongs to another kind of semaphore"}
	ErrLimitMismatch  error = &Sentinel{text: "another limit is in force"}
	ErrTableFull      error = &Sentinel{text: "no slot is free"}
	ErrTooManyWaiters error = &Sentinel{text: "too many handles of this process wait"}
	ErrUnsupported    error = &Sentinel{"not supported here", []error{errors.ErrUnsupported}}
)

// ErrNoSuch and ErrExists are fs.ErrNotExist and fs.ErrExist.
var (
	ErrNoSuch = fmt.Errorf("no such semaphore: %w", fs.ErrNotExist)
	ErrExists = fmt.Errorf("semaphore exists: %w", fs.ErrExist)
)

// A Stranger is the refusal of a file that belongs to another user.
type Stranger struct{ Owner string }

func (s *Stranger) Error() string {
	return fmt.Sprintf("%v: it belongs to user %s, and would not have been created with a mode that lets others write; open it with WithCreate(false), or with WithMode(0666) or similar if it is to be shared",
		fs.ErrPermission, s.Owner)
}

func (s *Stranger) Unwrap() error { return fs.ErrPermission }

// An Exposed is the refusal of a file that others may write than the caller shares it with.
type Exposed struct {
	Mode  fs.FileMode // the file's
	Asked fs.FileMode // that the caller would have created it with
}

func (e *Exposed) Error() string {
	return fmt.Sprintf("%v: others may write it (its mode is %#o; it would have been created with %#o), so any of them may have put it there under this name; open it with WithCreate(false), or with WithMode(%#[2]o) if it is to be shared, or else unlink it",
		fs.ErrPermission, uint32(e.Mode), uint32(e.Asked))
}

func (e *Exposed) Unwrap() error { return fs.ErrPermission }

// Because gives a sentinel its particulars: what was wrong, what is allowed.
func Because(err error, format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{err}, args...)...)
}

// MayPost returns ErrOverflow if a value cannot grow by n.
func MayPost(value uint32, n int) error {
	if uint64(value)+uint64(n) <= MaxValue {
		return nil
	}
	return Because(ErrOverflow, "%d and %d more; at most %d is possible", value, n, MaxValue)
}

// TooFewHeld is ErrNotHeld of a handle that holds fewer permits than the n that it is to post.
func TooFewHeld(held, n int) error {
	if n == 1 {
		return ErrNotHeld
	}
	return Because(ErrNotHeld, "it holds %d, and %d were to be posted", held, n)
}

// PartlyPosted is why an engine that posts one permit after the other has posted only some.
type PartlyPosted struct {
	Posted, Of int
	Err        error // that of the next one
}

func (e *PartlyPosted) Error() string {
	return fmt.Sprintf("%d of %d were posted: %v", e.Posted, e.Of, e.Err)
}

func (e *PartlyPosted) Unwrap() error { return e.Err }

// NoSemaphore is why a name cannot be removed by a look at who uses it: what has the name is no semaphore, or damaged so
// much that nobody can open it.
type NoSemaphore struct{ Err error }

func (e *NoSemaphore) Error() string { return e.Err.Error() }
func (e *NoSemaphore) Unwrap() error { return e.Err }

// InUse is the refusal to remove what some have open.
type InUse struct{ Users []Holder } // some of them, or none if they are not known; without what they hold

func (*InUse) Error() string { return "it is in use" }
