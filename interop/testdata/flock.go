// The adapter for github.com/gofrs/flock, in the place of its flock_unix.go. What opens
// the file, and says what is held, stays theirs; who holds it is decided by semaphores.

package flock

import (
	"sync"

	"github.com/procsem/semaphore/interop/sharedlock"
)

// locks has a sharedlock.Lock for each Flock that is held.
var locks = struct {
	sync.Mutex
	of map[*Flock]*sharedlock.Lock
}{of: map[*Flock]*sharedlock.Lock{}}

func (f *Flock) Lock() error {
	_, err := f.take(&f.l, func(l *sharedlock.Lock) (bool, error) { return true, l.Lock() })
	return err
}

func (f *Flock) RLock() error {
	_, err := f.take(&f.r, func(l *sharedlock.Lock) (bool, error) { return true, l.RLock() })
	return err
}

func (f *Flock) TryLock() (bool, error) { return f.take(&f.l, (*sharedlock.Lock).TryLock) }

func (f *Flock) TryRLock() (bool, error) { return f.take(&f.r, (*sharedlock.Lock).TryRLock) }

func (f *Flock) take(is *bool, take func(*sharedlock.Lock) (bool, error)) (bool, error) {
	f.m.Lock()
	defer f.m.Unlock()
	if *is {
		return true, nil
	}
	if f.fh == nil {
		if err := f.setFh(f.flag); err != nil {
			return false, err
		}
	}
	defer f.ensureFhState()
	lock, err := sharedlock.Of(f.fh.Fd())
	if err != nil {
		return false, err
	}
	var taken bool
	if err = f.drop(); err == nil {
		taken, err = take(lock)
	}
	if err != nil || !taken {
		lock.Close()
		return false, err
	}
	*is = true
	locks.Lock()
	locks.of[f] = lock
	locks.Unlock()
	return true, nil
}

func (f *Flock) Unlock() error {
	f.m.Lock()
	defer f.m.Unlock()
	if err := f.drop(); err != nil {
		return err
	}
	f.reset()
	return nil
}

// drop gives the lock back, if it is held.
func (f *Flock) drop() error {
	locks.Lock()
	lock := locks.of[f]
	delete(locks.of, f)
	locks.Unlock()
	if lock == nil {
		return nil
	}
	f.l, f.r = false, false
	return lock.Close()
}
