package main

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"

	"github.com/procsem/semaphore"
)

// The kinds of semaphores, as list and show print them.
const (
	kindRecoverable = "recoverable"
	kindPOSIX       = "posix"
	kindFlock       = "flock" // the rules of POSIX in a file of our own
)

func kindOf(s *semaphore.Semaphore) string {
	switch s.Engine() {
	case semaphore.EngineRecoverable:
		return kindRecoverable
	case semaphore.EngineFlock:
		return kindFlock
	}
	return kindPOSIX
}

// posixLasts says whether POSIX semaphores stay when no process has them open. On
// Windows they are kernel objects that vanish with their last handle.
const posixLasts = runtime.GOOS != "windows"

// An opener opens or creates a semaphore.
type opener struct {
	name    string
	posix   bool
	limit   int
	limited bool // the user asked for this limit
	mode    fs.FileMode
}

// open opens or creates the semaphore. It also reports whether a POSIX semaphore
// existed; for a recoverable one that is not known. The library decides under its
// lock whether a limit that differs may be adopted, so the limit is passed on only
// if the user asked for it.
func (o opener) open() (s *semaphore.Semaphore, existed bool, err error) {
	if o.posix {
		return o.openPOSIX()
	}
	opts := []semaphore.Option{semaphore.WithRecovery(true), semaphore.WithMode(o.mode)}
	if o.limited {
		opts = append(opts, semaphore.WithValue(o.limit))
	}
	s, err = semaphore.Open(o.name, opts...)
	return s, false, o.advise(err)
}

// create fails if the semaphore exists.
func (o opener) create() (*semaphore.Semaphore, error) {
	if o.posix && !posixLasts {
		s, err := openExistingPOSIX(o.name)
		switch {
		case err == nil:
			s.Close()
			err = &semaphore.Error{Op: "open", Name: o.name, Err: fs.ErrExist}
		case errors.Is(err, fs.ErrNotExist):
			err = &failure{statusUnavailable, fmt.Errorf("--posix: on %s a POSIX semaphore is gone when nobody has it open, so none would be left; procsem run --posix, or a program, keeps one open for as long as it runs", runtime.GOOS)}
		}
		return nil, o.advise(err)
	}
	s, err := semaphore.Open(o.name, semaphore.WithExclusive(true), semaphore.WithRecovery(!o.posix),
		semaphore.WithValue(o.limit), semaphore.WithMode(o.mode))
	return s, o.advise(err)
}

// openPOSIX creates the semaphore, or uses an existing one as it is, of whichever
// engine. Other processes may create or unlink it between the attempts.
func (o opener) openPOSIX() (s *semaphore.Semaphore, existed bool, err error) {
	opts := []semaphore.Option{semaphore.WithValue(o.limit), semaphore.WithMode(o.mode)}
	s, err = semaphore.Open(o.name, append(slices.Clip(opts), semaphore.WithExclusive(true))...)
	if errors.Is(err, fs.ErrExist) {
		// Without WithCreate(false), which would trust any owner of the file.
		s, err = semaphore.Open(o.name, opts...)
		return s, true, o.advise(err)
	}
	if errors.Is(err, semaphore.ErrKindMismatch) {
		// The same, if it is of another engine of this kind.
		s, err = openAnyPOSIX(o.name, opts...)
		return s, true, o.advise(err)
	}
	return s, false, err
}

// advise adds to an error what the user can do if the semaphore is not as it was
// asked for.
func (o opener) advise(err error) error {
	switch {
	case errors.Is(err, semaphore.ErrKindMismatch) && o.posix:
		if s, other := openExistingPOSIX(o.name); other == nil {
			s.Close()
			return err // another engine, but the same kind
		}
		return fmt.Errorf("%w; %q is a recoverable semaphore: omit --posix", err, o.name)
	case errors.Is(err, semaphore.ErrKindMismatch):
		return fmt.Errorf("%w; %q is a POSIX semaphore: add --posix", err, o.name)
	case errors.Is(err, semaphore.ErrLimitMismatch):
		return fmt.Errorf("%w; to change it for all: procsem resize %s %d", err, o.name, o.limit)
	}
	return err
}

// openExisting opens the semaphore of that name, of either kind.
func openExisting(name string) (*semaphore.Semaphore, error) {
	s, err := openExistingPOSIX(name)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	// It is of the other kind; and what some user has put under the name of this one
	// must not hide it.
	s, other := semaphore.Open(name, semaphore.WithCreate(false), semaphore.WithRecovery(true))
	if other != nil && !errors.Is(err, semaphore.ErrKindMismatch) {
		return nil, err
	}
	return s, other
}

// openExistingPOSIX opens the semaphore of that name in any engine whose semaphores
// are bare counts.
func openExistingPOSIX(name string) (*semaphore.Semaphore, error) {
	return openAnyPOSIX(name, semaphore.WithCreate(false))
}

// openAnyPOSIX opens the semaphore of that name, with these options, by the first engine of
// that kind to which it does not belong to another one.
func openAnyPOSIX(name string, opts ...semaphore.Option) (*semaphore.Semaphore, error) {
	s, mismatch := semaphore.Open(name, opts...)
	if !errors.Is(mismatch, semaphore.ErrKindMismatch) {
		return s, mismatch
	}
	for _, e := range []semaphore.Engine{semaphore.EngineNative, semaphore.EngineLibc, semaphore.EngineFlock} {
		s, err := semaphore.Open(name, append(slices.Clip(opts), semaphore.WithEngine(e))...)
		if !errors.Is(err, semaphore.ErrUnsupported) && !errors.Is(err, semaphore.ErrKindMismatch) {
			return s, err
		}
	}
	return nil, mismatch
}

// openBare opens an existing semaphore for the commands that need a bare count.
func openBare(name string) (*semaphore.Semaphore, error) {
	s, err := openExistingPOSIX(name)
	if errors.Is(err, semaphore.ErrKindMismatch) {
		err = fmt.Errorf("%w; wait, try and post are for POSIX semaphores: the permits of a recoverable one belong to processes, and procsem run %s -- command takes one", err, name)
	}
	return s, err
}

// openWithOwners opens an existing recoverable semaphore.
func openWithOwners(name string) (*semaphore.Semaphore, error) {
	s, err := semaphore.Open(name, semaphore.WithCreate(false), semaphore.WithRecovery(true))
	if errors.Is(err, semaphore.ErrKindMismatch) {
		err = fmt.Errorf("%w; only recoverable semaphores have a limit, a POSIX one has just a count that post raises", err)
	}
	return s, err
}
