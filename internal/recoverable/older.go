//go:build ((unix && !aix && !filelock_fcntl) || windows) && !mips && !mipsle && (!arm || arm.7)

package recoverable

import (
	"cmp"
	"errors"
	"fmt"
	"os"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/store"
)

// Files of older versions of this package. One that nobody has open is replaced by one of
// this version; about one in use there is nothing to be done, for its users and those of a new
// file would not see each other.
//
// Programs of those versions go on running, and opening. Like this one they claim slots, and set
// the limit, under the lock of the claim, and when they have got that they look whether their file
// still has its name. If it has not they begin anew, find a file of a later version, and refuse
// it. So a process that has the claim of an old file, and finds the locks of its slots free, knows that
// nobody has it open (a handle drops its slot's lock last, when it has given its permits back), and that
// nobody will who gets the claim after the name has become another file's: an old program
// that has opened the file, or even mapped it, is not past its claim.
//
// No system call gives a name to another file only if it is still that of a given one. And in between any
// process may remove the name of the old file, for which it needs no lock, and then any may create. But all
// versions create under the lock of the directory (store.Lock). So that is taken first, and then the
// claim, as creators do. Under both the name is the old file's or nobody's. (If it is removed
// between our look and the rename, we have created the semaphore anew.)
//
// A process that is killed here leaves the old file as it was, or the new one (on Windows perhaps
// none; see store.Replace), and its locks end with it. Lock files that it leaves have a number that
// is no other file's.

// An olderVersion is the error of a file that is of an older version, and else without fault.
type olderVersion struct {
	path    string
	version int
}

func (e *olderVersion) Error() string {
	return fmt.Sprintf("%v: %s is of version %d; this program uses files of version %d", engine.ErrCorrupt, e.path, e.version, permits.Version)
}

func (e *olderVersion) Unwrap() error { return engine.ErrCorrupt }

// inUse is the error of one that is in use.
func (e *olderVersion) inUse() error {
	return engine.Because(engine.ErrCorrupt, "%s: another version of this package has it open: the file is of version %d; this program uses files of version %d", e.path, e.version, permits.Version)
}

// seen is the error of one that is only looked at.
func (e *olderVersion) seen(head *permits.Head, f *os.File, locks slotLocks) error {
	alive, err := olderAlive(head, f, locks)
	switch {
	case err != nil:
		return fmt.Errorf("%w; whether another version of this package has it open is not known: %w", e, err)
	case alive:
		return e.inUse()
	}
	return fmt.Errorf("%w. Nobody has it open; it will be replaced when its owner, or root, opens or resizes it", e)
}

// olderAlive reports whether a handle has a file of an older version open.
func olderAlive(head *permits.Head, f *os.File, locks slotLocks) (bool, error) {
	occupied, err := head.OlderOccupied(f)
	if err != nil {
		return false, err
	}
	return locks.anyAlive(head.Slots(), occupied)
}

// replace puts a file of this version in the place of one of an older version that nobody has open.
// It returns errVanished if the name is not that of the old file any more, by its doing or another's.
// A caller that may create has the lock under which semaphores are created.
func replace(name, path string, how engine.How, o *engine.Options) error {
	if how == engine.OpenExisting {
		unlock, err := store.Lock(o.Dir)
		if err != nil {
			return err
		}
		defer unlock()
	}
	f, err := store.OpenRegular(path)
	if errors.Is(err, engine.ErrNoSuch) {
		return errVanished
	}
	if err != nil {
		return err
	}
	defer f.Close()
	var older *olderVersion
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if _, err := check(f, info, name, o); err == nil {
		return errVanished // another process has replaced it
	} else if !errors.As(err, &older) {
		return err
	}
	if err := o.CheckAlone(info); err != nil {
		return err
	}
	head, err := readHead(f)
	if head == nil {
		return err
	}
	locks, err := newLocks(head, f, path)
	if err != nil {
		return err
	}
	second, err := reopenNamed(f, path)
	if err != nil {
		return err
	}
	// We do not wait: only programs of an older version have the claim while we have the lock of
	// the directory, which keeps all others from creating as long as we have it.
	claimed, err := locks.lockClaim(second)
	if !claimed {
		second.Close()
		return cmp.Or(err, older.inUse())
	}
	defer locks.unlockClaim(second)
	h := &handle{f: f, path: path, locks: locks}
	if err := h.seesClaim(second); err != nil {
		return err
	}
	if gone, err := hasLostName(f, path); err != nil {
		return err
	} else if gone {
		return errVanished
	}
	// The limit may have been set until we had the claim.
	if head, err = readHead(f); head == nil {
		return err
	}
	if alive, err := olderAlive(head, f, locks); err != nil {
		return err
	} else if alive {
		return older.inUse()
	}
	err = replaceFile(head, f, path, func(f *os.File) error {
		return fill(f, func(locks permits.Locks, id uint64) *permits.Head { return head.Successor(name, locks, id) })
	})
	if err != nil {
		return fmt.Errorf("%w. Nobody has it open, but it can't be replaced: %w", older, err)
	}
	removeLockFiles(head, locks)
	return errVanished
}
