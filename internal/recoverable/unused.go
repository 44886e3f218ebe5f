//go:build ((unix && !aix && !filelock_fcntl) || windows) && !mips && !mipsle && (!arm || arm.7)

package recoverable

import (
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/store"
)

// briefly is how long a removal waits for the claim. Whoever has it is about to open the semaphore, or was stopped at that.
// No longer, since nobody can create any semaphore meanwhile.
const briefly = 100 * time.Millisecond

// unlinkUnused removes the name of a semaphore that no handle has open.
//
// It has the lock of the claim from before it looks until the name is gone. A handle gets its slot, and that
// slot's lock, under the claim. So whoever had it open before us is seen by its lock; and whoever has opened the
// file meanwhile, but has no slot, gets the claim after us, finds that the name is gone, and begins anew.
// It also has the lock of the directory, taken first, as creators do, from before it opens the file. So if another
// process removes the name meanwhile, nobody makes a new semaphore whose name we would remove. If we are killed, the
// name is there or gone, and the locks that we have end with us.
func unlinkUnused(dir, name string) error {
	if err := checkName(name); err != nil {
		return fs.ErrNotExist
	}
	path, err := pathOf(dir, name)
	if err != nil {
		return err
	}
	if err := store.CheckLocal(filepath.Dir(path)); err != nil {
		return err
	}
	unlock, err := store.Lock(dir)
	if err != nil {
		return err
	}
	defer unlock()
	f, err := store.OpenRegular(path)
	if err != nil {
		return err
	}
	defer f.Close()
	head, older := readHead(f)
	if head == nil {
		return &engine.NoSemaphore{Err: older}
	}
	if !head.IsFor(name) {
		return store.OtherName(f, head.Name())
	}
	locks, err := newLocks(head, f, path)
	if err != nil {
		return err
	}
	second, err := reopenNamed(f, path)
	if err == errVanished {
		return engine.ErrNoSuch
	}
	if err != nil {
		return err
	}
	claimed, err := lockClaimWithin(briefly, locks, second)
	if !claimed {
		second.Close()
		return cmp.Or[error](err, &engine.InUse{})
	}
	defer locks.unlockClaim(second)
	h := &handle{f: f, path: path, locks: locks}
	if err := h.seesClaim(second); err != nil {
		return err
	}
	if head, older = readHead(f); head == nil { // it may have got slots until we had the claim
		return older
	}
	if err := usedBy(head, older, f, locks); err != nil {
		return err
	}
	if err := removeName(head, path); err != nil {
		return err
	}
	removeLockFiles(head, locks)
	return nil
}

// usedBy returns *engine.InUse if a handle has the semaphore open. The caller has the claim.
func usedBy(head *permits.Head, older error, f *os.File, locks slotLocks) error {
	if older != nil {
		alive, err := olderAlive(head, f, locks)
		if alive {
			return &engine.InUse{}
		}
		return err
	}
	var table *permits.Table
	alive := false
	// An owner that closes its handle may do so between the reading and the look at its lock, which is gone
	// then. There are no new ones.
	var err error
	for range 10 {
		if table, err = permits.Read(f); err != nil {
			return err
		}
		if alive, err = locks.anyAlive(table.Slots(), table.MayLive); err == nil || alive {
			break
		}
	}
	if err != nil || !alive {
		return err
	}
	in := &engine.InUse{}
	for _, u := range table.Users(locks.alive) {
		in.Users = append(in.Users, holder(u))
	}
	return in
}
