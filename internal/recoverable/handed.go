//go:build ((unix && !aix && !filelock_fcntl) || windows) && !mips && !mipsle && (!arm || arm.7)

package recoverable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/permits"
)

// A permit may be handed to an open file of the semaphore that another program has open, a shell
// script say: then its slot's lock is that open file's.

// An adopter is the Host of such an owner while it is made.
type adopter struct {
	*handle
	locks *byteLocks // through the open file
}

// Lock takes the slot's lock for the open file. To that what it has locked already looks free, so our
// own description is asked first; under the claim nobody locks a slot in between.
func (a adopter) Lock(slot int) (bool, error) {
	if slot == a.owner.Slot() {
		return false, nil
	}
	if alive, err := a.handle.Alive(slot); alive || err != nil {
		return false, err
	}
	return a.locks.lock(slot)
}

// HandTo makes the open file f the owner of the permit i, which a Permit has.
//
// If we are killed before the word changes, the file has a slot and no permit. If we are killed after it, the
// file has the permit. The dead are reaped first: a killed claimer would leave the file with a dead owner's lock, and
// that one's permits would stay taken as long as the file is open.
func (h *handle) HandTo(i int, f *os.File, pid int) error {
	locks, err := h.locksThrough(f)
	if err != nil {
		return err
	}
	unlock, err := h.lockClaim()
	if err != nil {
		return err
	}
	defer unlock()
	slots, err := h.slotsOf(locks)
	if err != nil {
		return err
	}
	if len(slots) > 0 {
		return engine.Because(engine.ErrInvalidValue, "the open file has a permit already, or is a lock of another kind")
	}
	h.owner.Reap(true)
	to, err := h.table.Claim(adopter{h, locks}, permits.Identity{PID: pid, Opened: time.Now().UnixNano(), ByFile: true})
	switch {
	case err == permits.ErrFull:
		return engine.Because(engine.ErrTableFull, "%d handles are open; no more are possible", permits.MaxSlots)
	case errors.Is(err, syscall.EBADF):
		return engine.Because(engine.ErrInvalidValue, "the open file of %s is not open for writing", h.path)
	case err != nil:
		return err
	}
	if !h.owner.HandTo(to, i) {
		to.Vacate()
		return errors.Join(engine.ErrNotHeld, locks.unlock())
	}
	return nil
}

// slotsOf returns the slots whose lock an open file has. The caller has the claim, so that nobody locks
// a slot meanwhile.
func (h *handle) slotsOf(locks *byteLocks) (slots []int, err error) {
	for s := range h.table.Slots() {
		if !h.table.MayLive(s) || h.owner != nil && s == h.owner.Slot() {
			continue
		}
		// It is the file's if only the file does not see that it is locked. The file is asked first: one that dies
		// in between is nobody's.
		others, err := locks.alive(s)
		if err != nil {
			return nil, err
		}
		if others {
			continue
		}
		if alive, err := h.Alive(s); err != nil {
			return nil, err
		} else if alive {
			slots = append(slots, s)
		}
	}
	return slots, nil
}

// locksThrough returns the locks of another open file of the semaphore.
func (h *handle) locksThrough(f *os.File) (*byteLocks, error) {
	own, ok := h.locks.(*byteLocks)
	switch {
	case runtime.GOOS == "windows":
		return nil, engine.Because(engine.ErrUnsupported, "on Windows a lock ends with the process that took it")
	case !ok:
		return nil, engine.Because(engine.ErrUnsupported, "it has a lock file for each handle, for want of open-file-description locks")
	}
	info, err := h.f.Stat()
	if err != nil {
		return nil, err
	}
	if theirs, err := f.Stat(); err != nil {
		return nil, err
	} else if !os.SameFile(info, theirs) {
		return nil, engine.Because(engine.ErrInvalidValue, "the open file is not the semaphore's, %s", h.path)
	}
	return &byteLocks{f: f, end: own.end, slot: -1}, nil
}

// handed returns how many permits the open file f owns, and gives them back if back is set.
func handed(name string, f *os.File, back bool, o *engine.Options) (n int, err error) {
	err = claimed(name, o, func(h *handle) error {
		locks, err := h.locksThrough(f)
		if err != nil {
			return err
		}
		slots, err := h.slotsOf(locks)
		if err != nil {
			return err
		}
		for _, s := range slots {
			if !h.table.ByFile(s) {
				return engine.Because(engine.ErrInvalidValue, "the open file is the lock of a handle, which a process that has it open has passed on")
			}
			locks.slot = s
			if !back {
				n += h.table.Held(s)
				continue
			}
			n += h.table.End(h, s)
			if err := locks.unlock(); err != nil {
				return fmt.Errorf("given back, but still locked: %w", err)
			}
		}
		return nil
	})
	if errors.Is(err, fs.ErrClosed) {
		err = engine.Because(engine.ErrInvalidValue, "the open file was closed")
	}
	return n, err
}
