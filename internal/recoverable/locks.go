//go:build ((unix && !aix && !filelock_fcntl) || windows) && !mips && !mipsle && (!arm || arm.7)

package recoverable

import (
	"errors"
	"os"
	"runtime"
	"time"

	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/permits"
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
	// seesClaim reports whether f sees that another description has the claim's lock.
	seesClaim(f *os.File) (bool, error)
	// isSeen reports whether f, another description of the file, sees the own slot's lock.
	isSeen(f *os.File) (bool, error)
	// duplicate returns another descriptor of the slot's lock.
	duplicate() (*os.File, error)
	// lockClaim locks the whole file's claim, through a description of its own.
	lockClaim(f *os.File) (bool, error)
	// unlockClaim unlocks and closes f.
	unlockClaim(f *os.File) error
}

// byteLocks are locks of the handle's own open file on a byte for each slot, beyond the
// file's end (permits.ByteLocks, permits.RangeLocks).
type byteLocks struct {
	f    *os.File
	end  int64 // the size of files of its version
	slot int   // -1: none
}

func newByteLocks(head *permits.Head, f *os.File) *byteLocks {
	return &byteLocks{f: f, end: head.Size(), slot: -1}
}

// claimByte and slotByte are permits.ClaimByte and permits.SlotByte, in a file of any version.
func (l *byteLocks) claimByte() int64        { return l.end }
func (l *byteLocks) slotByte(slot int) int64 { return l.end + 1 + int64(slot) }

// lockPatience is how long a claimer tries to get past handles that are asking whether
// the slot's owner lives.
const lockPatience = 20 * time.Millisecond

// lock takes the slot's lock. On Windows a handle that asks whether the slot's owner
// lives has the lock for a moment, shared: then we could have it shared as well, and try
// again. (If the asker is suspended at that, another slot will do.)
func (l *byteLocks) lock(slot int) (bool, error) {
	for start := time.Now(); ; runtime.Gosched() {
		locked, err := filelock.TryLockByte(l.f, l.slotByte(slot))
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

func (l *byteLocks) unlock() error {
	if l.slot < 0 {
		return nil
	}
	return filelock.UnlockByte(l.f, l.slotByte(l.slot))
}

// alive must not be asked of the own slot: Linux never reports locks of the description
// that asks, and Windows would drop the lock. Handles that ask at the same time don't
// look alive.
func (l *byteLocks) alive(slot int) (bool, error) {
	return filelock.ByteLocked(l.f, l.slotByte(slot), 1)
}

// anyAlive asks once for all slots, or for those on either side of the own one.
func (l *byteLocks) anyAlive(int, func(int) bool) (bool, error) {
	ranges := [][2]int{{0, permits.MaxSlots}}
	if runtime.GOOS == "windows" {
		ranges = [][2]int{{0, l.slot}, {l.slot + 1, permits.MaxSlots}}
	}
	for _, r := range ranges {
		from, n := r[0], r[1]-r[0]
		if n <= 0 {
			continue
		}
		alive, err := filelock.ByteLocked(l.f, l.slotByte(from), int64(n))
		if alive || err != nil {
			return alive, err
		}
	}
	return false, nil
}

func (l *byteLocks) seesClaim(f *os.File) (bool, error) {
	return filelock.ByteLocked(f, l.claimByte(), 1)
}

func (l *byteLocks) isSeen(f *os.File) (bool, error) {
	return filelock.ByteLocked(f, l.slotByte(l.slot), 1)
}

func (l *byteLocks) duplicate() (*os.File, error) { return duplicateLock(l.f) }

func (l *byteLocks) lockClaim(f *os.File) (bool, error) {
	return filelock.TryLockByte(f, l.claimByte())
}

// unlockClaim unlocks, and does not only close: a process that was forked meanwhile
// has the descriptor too.
func (l *byteLocks) unlockClaim(f *os.File) error {
	return errors.Join(filelock.UnlockByte(f, l.claimByte()), f.Close())
}
