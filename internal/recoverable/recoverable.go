//go:build ((unix && !aix && !filelock_fcntl) || windows) && !mips && !mipsle && (!arm || arm.7)

// Package recoverable is the engine of semaphores whose permits have owners: a table of
// permits in a mapped file (internal/permits), and for each handle a lock that the
// kernel drops when its process ends. Not on AIX, which has no flock, nor where the
// processor has no atomic operations on 64 bits (MIPS of 32 bits, Arm before version 7).
// docs/recovery.md has the protocol.
package recoverable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/store"
)

func init() {
	engine.Register(&engine.Engine{
		Name:  "recoverable",
		Store: "recoverable",
		Dirs:  true,
		Open:  open,
		Exists: func(dir, name string, counts func(fs.FileInfo) bool) (bool, error) {
			if checkName(name) != nil {
				return false, nil
			}
			path, err := pathOf(dir, name)
			if err != nil {
				return false, err
			}
			return store.Exists(path, counts)
		},
		Unlink:       unlink,
		UnlinkUnused: unlinkUnused,
		Observe:      observe,
		SetLimit:     setLimit,
		Handed:       handed,
		ForgetLimit: func(name string, o *engine.Options) error {
			return claimed(name, o, func(h *handle) error { h.table.ForgetSet(); return nil })
		},
	})
}

// A handle is a backend: an open file, a slot of its table, and the lock that says that
// the slot's owner lives. It is the permits.Host of the table.
type handle struct {
	owner *permits.Owner
	table *permits.Table
	use   engine.Use // of the table's memory
	f     *os.File
	path  string
	name  store.NameWatch
	opts  *engine.Options
	locks slotLocks
	kick  engine.Kick // of a server that polls
	sleeper

	// Where TryWait goes on to look for dead owners; see permits.Parts.
	reported, unreported atomic.Int64

	scanned atomic.Int64 // when all owners were last checked for TryWait, or while polling, by ticks
}

func open(name string, how engine.How, o *engine.Options) (engine.Backend, error) {
	if err := checkLimit(o.Value, 1); err != nil {
		return nil, err
	}
	if o.Mode&0o600 != 0o600 {
		return nil, engine.Because(engine.ErrInvalidOption, "mode %#o; a recoverable semaphore's owner needs the right to read and to write", uint32(o.Mode))
	}
	h, err := find(name, how, o, (*handle).join)
	if err != nil {
		return nil, err
	}
	return h, nil
}

// setLimit changes the limit without a slot, of which there may be none; see
// permits.Table.Resize.
func setLimit(name string, n int, o *engine.Options) error {
	if err := checkLimit(n, 0); err != nil {
		return err
	}
	return claimed(name, o, func(h *handle) error { return h.table.Resize(h, n) })
}

// claimed calls do with a handle that has no slot, under the lock of the claim of a semaphore
// that exists.
func claimed(name string, o *engine.Options, do func(h *handle) error) error {
	h, err := find(name, engine.OpenExisting, o, func(h *handle, _ *os.File) error { return do(h) })
	if err != nil {
		return err
	}
	h.use.Discard()
	return h.f.Close()
}

// find opens the semaphore's file, or makes it, as how says, and returns a handle of it once
// use has succeeded; see newHandle.
func find(name string, how engine.How, o *engine.Options, use func(h *handle, second *os.File) error) (*handle, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	path, err := pathOf(o.Dir, name)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	if err := store.CheckLocal(dir); err != nil {
		return nil, err
	}
	for tries := 1; ; tries++ {
		var head *permits.Head
		f, created, err := store.OpenOrPublish(dir, filepath.Base(path), how,
			func(f *os.File, info fs.FileInfo) (err error) {
				head, err = check(f, info, name, o)
				return err
			},
			func(f *os.File) error {
				if o.Owner != nil && *o.Owner != engine.Caller { // before the file has its name
					if err := f.Chown(o.Owner.UID, o.Owner.GID); err != nil {
						return err
					}
				}
				return fill(f, func(locks permits.Locks, id uint64) *permits.Head { return permits.NewHead(name, o.Value, locks, id) })
			}, o)
		var h *handle
		var older *olderVersion
		switch {
		case err == nil:
			if created {
				head = nil
			}
			h, err = newHandle(f, head, path, o, use)
		case errors.As(err, &older):
			err = replace(name, path, how, o)
		}
		// Unlinked since we opened it, or replaced: then we make a new one, or find it or none.
		switch err {
		case nil:
			return h, nil
		case errVanished:
			if tries == mostTries {
				return nil, store.Unseen(path, "the inode")
			}
		default:
			if created && errors.Is(err, engine.ErrUnsupported) {
				unlink(o.Dir, name) // it limits nobody here
			}
			return nil, err
		}
	}
}

// mostTries bounds how often a file may seem to vanish while it is opened: more only if the
// filesystem shows an open file's inode otherwise than that of its name.
const mostTries = 100

var errVanished = errors.New("the name was removed")

func checkLimit(n, least int) error {
	if n < least || n > permits.MaxPermits {
		return engine.Because(engine.ErrInvalidValue, "a limit of %d; allowed are %d to %d", n, least, permits.MaxPermits)
	}
	return nil
}

// newHandle makes a handle of an open file, which it closes if that fails. When the file is
// mapped it calls use, under the lock of the claim, with another description of the file;
// that gives the handle a slot if it is to have one (join). The head is the file's, or nil if it was not read yet.
func newHandle(f *os.File, head *permits.Head, path string, o *engine.Options, use func(h *handle, second *os.File) error) (_ *handle, err error) {
	h := &handle{f: f, path: path, opts: o, kick: engine.NewKick()}
	var unlock func()
	defer func() {
		// Within the claim, so that the next claimer does not take us for a user.
		if err != nil && h.owner != nil {
			h.leave()
		}
		if err != nil && h.locks != nil {
			h.locks.unlock()
		}
		if unlock != nil {
			unlock()
		}
		if err != nil {
			f.Close()
		}
		if err != nil && h.table != nil {
			h.use.Discard() // on Windows that removes an unlinked file, if no process has it open
		}
	}()
	if head == nil {
		if head, err = readHead(f); err != nil {
			return nil, err
		}
	}
	if h.locks, err = newLocks(head, f, path); err != nil {
		return nil, err
	}
	if err := h.mapOnce(f, head); err != nil {
		return nil, err
	}
	// One claimer at a time: it alone decides whether another owner lives, and so about
	// the limit.
	second, err := reopenNamed(f, path)
	if err != nil {
		return nil, err
	}
	if unlock, err = h.lockClaimOf(second); err != nil {
		return nil, err
	}
	if err := h.seesClaim(second); err != nil {
		return nil, err
	}
	if gone, err := hasLostName(f, path); err != nil {
		return nil, err
	} else if gone {
		return nil, errVanished
	}
	// A file that was copied, or restored, may have holes where there should be
	// storage, and on a full filesystem a hole is SIGBUS.
	if head, err = readHead(f); err != nil {
		return nil, err
	}
	for _, used := range head.Used() {
		if err := allocate(f, used.From, used.To, false); err != nil {
			return nil, err
		}
	}
	return h, use(h, second)
}

// join makes the handle an owner.
func (h *handle) join(second *os.File) (err error) {
	if h.owner, err = h.table.Claim(h, permits.Identity{PID: os.Getpid(), Started: ownStart(), Opened: time.Now().UnixNano(), Label: h.opts.Label}); err == permits.ErrFull {
		// All owners live, so an error that another limit is need not wait for a slot.
		if _, err := h.otherLimit(true); err != nil {
			return err
		}
		return engine.Because(engine.ErrTableFull, "%d handles are open; no more are possible", permits.MaxSlots)
	} else if err != nil {
		return err
	}
	if err := h.isSeen(second); err != nil {
		return err
	}
	if err := h.prepareSleep(); err != nil {
		return err
	}
	h.reportExit()
	h.name.Start()
	return h.begin()
}

// tables are the tables that this process has mapped.
var tables engine.Mappings[fileID, permits.Table]

// mapOnce gets the table, which handles of one file share. A handle has its own slot in it,
// with a liveness word and a node of the robust list, and its own descriptor with its locks.
func (h *handle) mapOnce(f *os.File, head *permits.Head) error {
	id, err := identify(f, head)
	if err != nil {
		return err
	}
	h.table, h.use, err = tables.Open(id, func() (*permits.Table, func(), error) {
		memory, free, err := h.mapFile(f, head)
		if err != nil {
			return nil, nil, err
		}
		return permits.At(memory), free, nil
	})
	return err
}

// begin finds out whether another handle has the semaphore open. If none has, a new life
// of the semaphore begins: the owners in the table are dead, whatever their liveness
// words say (they may be from before a reboot), and it gets the limit that was asked for.
func (h *handle) begin() error {
	lives, err := h.locks.anyAlive(h.table.Slots(), h.owner.Occupied)
	if err != nil {
		return err
	}
	other, err := h.otherLimit(lives)
	if err != nil {
		return err
	}
	if other {
		// Before all else: if there is no room for more permits, nothing has changed.
		// If we die after it, the next one to open finds the dead owners that we left.
		if err := h.owner.SetLimit(h.opts.Value, false); err != nil {
			return err
		}
	}
	if !lives {
		h.owner.Inherit()
	}
	return nil
}

// otherLimit reports whether another limit was asked for, and an operator has set none. That
// is an error if other owners live.
func (h *handle) otherLimit(lives bool) (bool, error) {
	limit, set := h.table.Limit()
	n := h.opts.Value
	if !h.opts.ValueSet || set || n == limit {
		return false, nil
	}
	if lives {
		return true, engine.Because(engine.ErrLimitMismatch, "it has a limit of %d and is in use; %d was asked for", limit, n)
	}
	return true, nil
}

// lockClaim takes the lock under which slots are claimed and limits are set. It
// belongs to an open file description of its own: the handle's is shared with every
// child that was given the LockFile, and would keep the lock if we were killed.
func (h *handle) lockClaim() (unlock func(), err error) {
	f, err := reopen(h.f, h.path)
	if err != nil {
		return nil, err
	}
	return h.lockClaimOf(f)
}

// lockClaimOf is lockClaim through a description that was opened for it, which it closes
// if that fails, and unlock otherwise.
func (h *handle) lockClaimOf(f *os.File) (unlock func(), err error) {
	locked, err := lockClaimWithin(store.Patience, h.locks, f)
	if !locked && err == nil {
		err = fmt.Errorf("another process has held the lock of %s for %v; is one stopped while opening or resizing it?%s", h.path, store.Patience, fuser(h.path))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return func() { h.locks.unlockClaim(f) }, nil
}

// lockClaimWithin takes the lock of the claim, if it becomes free within that time.
func lockClaimWithin(patience time.Duration, locks slotLocks, f *os.File) (locked bool, err error) {
	return engine.Retry(patience, 20*time.Microsecond, 5*time.Millisecond, func() (bool, error) { return locks.lockClaim(f) })
}

// fuser tells people how to find out which processes have a file open.
func fuser(path string) string {
	if runtime.GOOS == "windows" {
		return ""
	}
	return " (fuser -v " + path + ")"
}

// Host.

func (h *handle) Lock(slot int) (bool, error)  { return h.locks.lock(slot) }
func (h *handle) Alive(slot int) (bool, error) { return h.locks.alive(slot) }
func (h *handle) Allocate(p permits.Range) error {
	return allocate(h.f, p.From, p.To, true)
}

// The backend.

func (h *handle) Traits() engine.Traits {
	return engine.Traits{Polls: h.polls(), Recoverable: h, Limited: h, OthersWait: h.owner.OthersWait}
}

func (h *handle) Owner() *permits.Owner { return h.owner }

func (h *handle) TryWait(final bool) error {
	_, err := h.Take(final, false)
	return err
}

func (h *handle) Take(final, forPermit bool) (int, error) {
	return tryTo(h, final, func() (int, bool) { return h.owner.Take(forPermit) })
}

func (h *handle) TakeSeveral(final bool, n int) ([]int, error) {
	return tryTo(h, final, func() ([]int, bool) { return h.owner.TakeSeveral(n) })
}

// tryTo takes what is free, and if that is not enough, and the answer is to be final, looks for
// permits of dead owners first.
func tryTo[T any](h *handle, final bool, take func() (T, bool)) (got T, err error) {
	got, ok := take()
	if ok {
		return got, nil
	}
	if !final {
		return got, engine.ErrWouldBlock
	}
	found, err := h.reapForTry()
	if found {
		if got, ok = take(); ok {
			return got, nil
		}
	}
	if err != nil {
		return got, err
	}
	return got, engine.ErrWouldBlock
}

func (h *handle) GatherTurn(place uint64, n int) ([]int, error) {
	if words, ok := h.owner.GatherTurn(place, n); ok {
		return words, nil
	}
	return nil, engine.ErrWouldBlock
}

func (h *handle) StopGathering(place uint64) {
	defer h.kick.Send()
	h.owner.StopGathering(place)
}

func (h *handle) TakeTurn(place uint64, forPermit bool) (int, error) {
	if i, ok := h.owner.TakeTurn(place, forPermit); ok {
		return i, nil
	}
	return 0, engine.ErrWouldBlock
}

// reapForTry looks for permits of dead owners before a call that does not block gives
// up. It checks owners reported dead, and those whose exit will not be reported; the others
// once a second, or every time if only sleeping waiters are notified.
//
// Each lock that it asks for is a system call that takes the longer the more locks the file
// has. So only the first call of a handle, which may remain its only one, asks for all that
// it should; later ones for a part of them, and the next calls for the others.
func (h *handle) reapForTry() (found bool, err error) {
	first := h.scanned.Load() == 0
	due := h.scanIsDue(time.Second)
	from := permits.Parts{Reported: int(h.reported.Load()), Unreported: int(h.unreported.Load())}
	all := onlySleepersNotified || due || from.Reported > 0
	if !all && !h.owner.Suspects() {
		return false, nil
	}
	most := tryLooks
	if first && due {
		most = permits.MaxSlots
	}
	// Of several calls at once some may look at the same part.
	f, next := h.owner.ReapPart(all, from, most)
	h.reported.Store(int64(next.Reported))
	h.unreported.Store(int64(next.Unreported))
	return f.Freed > 0 || f.Free || f.Again, f.Err
}

// tryLooks is how many owners TryWait looks at whose exit will be reported, and how many
// others.
const tryLooks = 64

// onlySleepersNotified: on Windows a waiter that sleeps on the handle of a process is
// notified of its exit, and writes that down for the others; a call that does not sleep
// has to ask for the locks. On Linux the kernel writes it down.
const onlySleepersNotified = runtime.GOOS == "windows"

// scanIsDue reports whether all owners were last checked longer than that ago, and
// that it is the caller that does it now.
func (h *handle) scanIsDue(after time.Duration) bool {
	now, before := ticks(), h.scanned.Load()
	return now-before > int64(after) && h.scanned.CompareAndSwap(before, now)
}

// ticks is a clock, in ns, that is never set: while a clock that was set back catches up,
// no scan would be due. It is not 0.
func ticks() int64 { return int64(permits.Clock()) }

func (h *handle) Post(n int) error {
	defer h.kick.Send()
	has := 0
	if n > 1 {
		has = h.owner.GiveN(n)
	} else if h.owner.Give() {
		has = 1
	}
	if has < n {
		return engine.TooFewHeld(has, n)
	}
	return nil
}

func (h *handle) GiveAt(i int) error {
	defer h.kick.Send()
	if !h.owner.GiveAt(i) {
		return engine.ErrNotHeld
	}
	return nil
}

func (h *handle) GiveSeveral(words []int) error {
	defer h.kick.Send()
	if !h.owner.GiveSeveral(words) {
		return engine.ErrNotHeld
	}
	return nil
}

func (h *handle) HandOver(i int, fromPermit, toPermit bool, began time.Duration) (int, error) {
	to, err := h.owner.HandOver(i, fromPermit, toPermit, began)
	if err == permits.ErrNotHeld {
		err = engine.ErrNotHeld
	}
	return to, err
}

func (h *handle) GiveAll() int {
	defer h.kick.Send()
	return h.owner.GiveAll()
}

func (h *handle) Value() (int, error) {
	found := h.owner.Reap(true)
	for found.Freed > 0 { // an exit in the middle of it is not counted right
		found = h.owner.Reap(true)
	}
	limit, _ := h.table.Limit()
	return min(max(0, limit-found.Held), limit), found.Err
}

func (h *handle) Limit() (int, error) {
	n, _ := h.table.Limit()
	return n, nil
}

func (h *handle) SetLimit(n int) error {
	if err := checkLimit(n, 0); err != nil {
		return err
	}
	unlock, err := h.lockClaim()
	if err != nil {
		return err
	}
	defer unlock()
	defer h.kick.Send()
	return h.owner.SetLimit(n, true)
}

// StartEvery looks and writes under the lock of the claim, so of several processes one starts.
func (h *handle) StartEvery(period time.Duration, start bool) (left time.Duration, err error) {
	unlock, err := h.lockClaim()
	if err != nil {
		return 0, err
	}
	defer unlock()
	return time.Duration(h.table.StartEvery(moment(), int64(period), start)), nil
}

func (h *handle) Holders() ([]engine.Holder, error) {
	if err := h.owner.Reap(true).Err; err != nil {
		return nil, err
	}
	var hs []engine.Holder
	for _, o := range h.table.Holders() {
		if o.Permits == 0 && !o.Waits {
			continue
		}
		hs = append(hs, holder(o))
	}
	return hs, nil
}

func (h *handle) Waiters() (n int) {
	for _, o := range h.table.Holders() {
		if o.Waits {
			n++
		}
	}
	return n
}

func holder(of permits.Holder) engine.Holder {
	h := engine.Holder{
		PID:     of.PID,
		Started: startTime(of.Started),
		Opened:  time.Unix(0, of.Opened),
		Permits: of.Permits,
		Waiting: of.Waits,
		Want:    of.Want,
		Waited:  time.Duration(of.Waited),
		Label:   of.Label,
	}
	if of.Since != 0 {
		h.Since = time.Unix(0, of.Since)
	}
	return h
}

func (h *handle) LockFile() (*os.File, error) { return h.locks.duplicate() }

// leave gives back the slot and all permits, but for the lock. The kernel reports our
// exit as long as there is a permit that waiters would need to hear of; from then on our
// liveness word does not say that it will be reported.
func (h *handle) leave() {
	h.owner.GiveAll()
	h.owner.Live().Store(0)
	h.withdrawReport()
	h.owner.Vacate()
}

// Close gives back before it unlocks: what a slot without a lock holds counts as a dead
// owner's.
func (h *handle) Close() error {
	h.leave()
	h.use.Close()
	return errors.Join(h.locks.unlock(), h.f.Close())
}
