//go:build ((unix && !aix && !filelock_fcntl) || windows) && !mips && !mipsle && (!arm || arm.7)

package recoverable

import (
	"os"
)

// slotLocks are the locks that tell which owners live: of the handle's own slot, and as
// seen from it. An owner takes its slot's lock before its first permit, and gives its
// permits back before it drops the lock.
type slotLocks interface {
	// lock takes the slot's lock, and keeps it until unlock.
	lock(slot int) (bool, error)
	unlock() error
	// alive reports whether another handle has the slot's lock. It must not be asked
	// of the own slot.
	alive(slot int) (bool, error)
	// anyAlive does that for all slots that are occupied, but for the own one.
	anyAlive(slots int, occupied func(slot int) bool) (bool, error)
	// duplicate returns another descriptor of the slot's lock.
	duplicate() (*os.File, error)
	// lockClaim locks the whole file's claim, through a description of its own.
	lockClaim(f *os.File) (bool, error)
	// unlockClaim unlocks and closes f.
	unlockClaim(f *os.File) error
}
