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
	for {
		s, err = semaphore.Open(name, semaphore.WithExclusive(true), semaphore.WithValue(value), semaphore.WithMode(mode))
		if !errors.Is(err, fs.ErrExist) && !errors.Is(err, semaphore.ErrKindMismatch) {
			return s, false, err
		}
		s, err = openExisting(name)
		if !errors.Is(err, fs.ErrNotExist) {
			return s, true, err
		}
	}
}
