package main

import (
	"errors"
	"io/fs"

	"github.com/procsem/semaphore"
)

// openExisting opens the semaphore of that name in whichever engine has it.
func openExisting(name string) (*semaphore.Semaphore, error) {
	s, mismatch := semaphore.Open(name, semaphore.WithCreate(false))
	if !errors.Is(mismatch, semaphore.ErrKindMismatch) {
		return s, mismatch
	}
	for _, e := range []semaphore.Engine{semaphore.EngineNative, semaphore.EngineLibc, semaphore.EngineFlock} {
		s, err := semaphore.Open(name, semaphore.WithCreate(false), semaphore.WithEngine(e))
		if !errors.Is(err, semaphore.ErrUnsupported) && !errors.Is(err, semaphore.ErrKindMismatch) {
			return s, err
		}
	}
	return nil, mismatch
}

// openOrCreate also says whether the semaphore existed. Whoever opens an
// existing one uses it as it is, of whichever engine. It may come or go between
// the two looks.
func openOrCreate(name string, value int, mode fs.FileMode) (s *semaphore.Semaphore, existed bool, err error) {
	opts := []semaphore.Option{semaphore.WithValue(value), semaphore.WithMode(mode)}
	s, err = semaphore.Open(name, append(opts, semaphore.WithExclusive(true))...)
	if errors.Is(err, fs.ErrExist) {
		// Not WithCreate(false), which would trust whoever owns it.
		s, err = semaphore.Open(name, opts...)
		return s, true, err
	}
	if errors.Is(err, semaphore.ErrKindMismatch) {
		s, err = openExisting(name)
		return s, true, err
	}
	return s, false, err
}
