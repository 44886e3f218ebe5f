package recoverable

import (
	"errors"
	"os"
	"runtime"
	"time"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/permits"
)

// rangeLocks are locks of the handle's own open file on bytes beyond its end. The
// kernel drops them when the process ends, before it says that it has; after a
// TerminateProcess some time may pass before that (LockFileEx).
type rangeLocks struct {
	f    *os.File
	slot int // -1: none
}

func chooseLocks(*os.File) (permits.Locks, error) { return permits.RangeLocks, nil }

func newLocks(head *permits.Head, f *os.File, path string) (slotLocks, error) {
	if head.Locks() != permits.RangeLocks {
		return nil, engine.Because(engine.ErrUnsupported, "%s was not made by a program for Windows", path)
	}
	return &rangeLocks{f: f, slot: -1}, nil
}

// lockPatience is how long a claimer tries to get past handles that are asking whether
// the slot's owner is alive.
const lockPatience = 20 * time.Millisecond

// lock takes the slot's lock. A handle that asks whether the slot's owner lives has the
// lock for a moment, shared: then we could have it shared as well, and try again. (If the
// asker is suspended at that, another slot will do.)
func (l *rangeLocks) lock(slot int) (bool, error) {
	for start := time.Now(); ; runtime.Gosched() {
		locked, err := filelock.TryLockByte(l.f, permits.SlotByte+int64(slot))
		if locked {
			l.slot = slot
			return true, nil
		}
		if err != nil || time.Since(start) > lockPatience {
			return false, err
		}
		if alive, err := l.alive(slot); alive || err != nil {
			return false, err
		}
	}
}

func (l *rangeLocks) unlock() error {
	if l.slot < 0 {
		return nil
	}
	return filelock.UnlockByte(l.f, permits.SlotByte+int64(l.slot))
}

// alive must not be asked of the own slot, whose lock it would drop. Handles that ask at
// the same time have the lock shared, as we do, and don't look alive.
func (l *rangeLocks) alive(slot int) (bool, error) {
	return filelock.ByteLocked(l.f, permits.SlotByte+int64(slot), 1)
}

func (l *rangeLocks) anyAlive(int, func(int) bool) (bool, error) {
	for _, r := range []struct{ from, to int }{{0, l.slot}, {l.slot + 1, permits.MaxSlots}} {
		if r.from == r.to {
			continue
		}
		alive, err := filelock.ByteLocked(l.f, permits.SlotByte+int64(r.from), int64(r.to-r.from))
		if alive || err != nil {
			return alive, err
		}
	}
	return false, nil
}

func (l *rangeLocks) duplicate() (*os.File, error) {
	return nil, engine.Because(engine.ErrUnsupported, "on Windows a lock ends with the process that took it, whoever else has its handle")
}

func (l *rangeLocks) lockClaim(f *os.File) (bool, error) {
	return filelock.TryLockByte(f, permits.ClaimByte)
}

func (l *rangeLocks) unlockClaim(f *os.File) error {
	return errors.Join(filelock.UnlockByte(f, permits.ClaimByte), f.Close())
}
