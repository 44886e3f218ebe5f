//go:build ((unix && !aix && !filelock_fcntl) || windows) && !mips && !mipsle && (!arm || arm.7)

package semaphore

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/procsem/semaphore/internal/names"
	"github.com/procsem/semaphore/internal/permits"
)

// The recoverable engine: a table of permits in a mapped file (internal/permits),
// and for each handle a lock that the kernel drops when its process ends. Not on
// AIX, which has no flock, nor where the processor has no atomic operations on 64
// bits (MIPS of 32 bits, Arm before version 7). See docs/recovery.md.

var recoverKind = &kind{
	engine: EngineRecoverable,
	store:  "recoverable",
	open:   openRecoverable,
	exists: func(name string) (bool, error) {
		if checkRecoverName(name) != nil {
			return false, nil
		}
		path, err := recoverPath(name)
		if err != nil {
			return false, err
		}
		return fileExists(path)
	},
	unlink: unlinkRecoverable,
}

func recoverPath(name string) (string, error) {
	dir, err := storeDir()
	return filepath.Join(dir, names.FileName(names.Recoverable, name)), err
}

// A recoverable is an open handle. It is the permits.Host of its table.
type recoverable struct {
	own   *permits.Owner
	table *permits.Table
	f     *os.File
	path  string
	opts  *options
	locks slotLocks
	kick  chan struct{} // polling: holds one: there may be news for those who wait
	sleeper

	probed   atomic.Int64 // when the dead were last looked for among all, by ticks
	looked   atomic.Int64 // when we last looked whether the name is gone, Unix time
	vanished atomic.Bool  // the warning that it is was given
}

// slotLocks are the locks that say who is alive.
type slotLocks interface {
	// lock takes the slot's lock, and keeps it until unlock.
	lock(slot int) (bool, error)
	unlock() error
	// alive reports whether another handle has the slot's lock.
	alive(slot int) (bool, error)
	// anyAlive does that for all slots that are occupied.
	anyAlive(slots int, occupied func(slot int) bool) (bool, error)
	// duplicate returns another descriptor of the slot's lock.
	duplicate() (*os.File, error)
	// lockClaim locks the whole file's claim, through a description of its own.
	lockClaim(f *os.File) (bool, error)
	// unlockClaim unlocks and closes f.
	unlockClaim(f *os.File) error
}

func openRecoverable(name string, how openHow, o *options) (backend, error) {
	if err := checkLimit(o.value, 1); err != nil {
		return nil, err
	}
	if o.mode&0o600 != 0o600 {
		return nil, because(ErrInvalidOption, "mode %#o; a recoverable semaphore's owner needs the right to read and to write", uint32(o.mode))
	}
	if err := checkRecoverName(name); err != nil {
		return nil, err
	}
	path, err := recoverPath(name)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	if err := checkLocal(dir); err != nil {
		return nil, err
	}
	fill := func(f *os.File) error { return fillRecoverFile(f, o.value) }
	check := func(f *os.File) error { return checkRecoverFile(f, o) }
	for {
		f, err := openOrPublish(dir, filepath.Base(path), how, check, fill, o.mode)
		if err != nil {
			return nil, err
		}
		b, err := newRecoverable(f, path, o)
		// Unlinked since we opened it: who unlinked it means that we make a
		// new one, or find none.
		switch err {
		case nil:
			return b, nil
		case errVanished:
		default:
			return nil, err
		}
	}
}

var errVanished = errors.New("the name was removed")

func checkLimit(n, least int) error {
	if n < least || n > permits.MaxPermits {
		return because(ErrInvalidValue, "a limit of %d; allowed are %d to %d", n, least, permits.MaxPermits)
	}
	return nil
}

// fillRecoverFile makes a new file whole, before it has its name.
func fillRecoverFile(f *os.File, limit int) error {
	kind, err := kindOfLocks(f)
	if err != nil {
		return err
	}
	head := permits.NewHead(limit, kind, rand.Uint64())
	if err := f.Truncate(permits.Size); err != nil {
		return err
	}
	if info, err := f.Stat(); err != nil {
		return err
	} else if info.Mode()&0o600 != 0o600 {
		return because(ErrInvalidOption, "the umask leaves mode %#o; the owner needs the right to read and to write", info.Mode().Perm())
	}
	for _, r := range head.Needed() {
		if err := allocate(f, r.From, r.To, true); err != nil {
			return err
		}
	}
	_, err = f.WriteAt(head.Bytes(), 0)
	return err
}

// checkRecoverFile refuses what is no recoverable semaphore that we may trust.
func checkRecoverFile(f *os.File, o *options) error {
	if err := checkOwner(f, o); err != nil {
		return err
	}
	_, err := readHead(f)
	return err
}

// readHead reads and checks a file's head.
func readHead(f *os.File) (*permits.Head, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	head := new(permits.Head)
	if _, err := f.ReadAt(head.Bytes(), 0); err != nil && err != io.EOF {
		return nil, err
	}
	if wrong := head.Check(info.Size()); wrong != "" {
		return nil, because(ErrCorrupt, "%s: %s", f.Name(), wrong)
	}
	return head, nil
}

// newRecoverable makes a handle of an open file, which it closes if that fails.
func newRecoverable(f *os.File, path string, o *options) (_ *recoverable, err error) {
	r := &recoverable{f: f, path: path, opts: o, kick: make(chan struct{}, 1)}
	var unmap, unlock func()
	defer func() {
		// Within the claim, so that the next one does not take us for a user.
		if err != nil && r.own != nil {
			r.leave()
		}
		if err != nil && r.locks != nil {
			r.locks.unlock()
		}
		if unlock != nil {
			unlock()
		}
		if err != nil {
			f.Close()
		}
		if err != nil && unmap != nil {
			unmap() // on Windows that removes an unlinked file, which nobody may have open
		}
	}()
	head, err := readHead(f)
	if err != nil {
		return nil, err
	}
	if r.locks, err = newLocks(head, f, path); err != nil {
		return nil, err
	}
	memory, err := r.mapFile(f, head)
	if err != nil {
		return nil, err
	}
	r.table = permits.At(memory)
	unmap = r.freeWith(r.table, memory)
	// One claimer at a time: he decides alone whether anybody lives, and with
	// that about the limit.
	if unlock, err = r.lockClaim(); err != nil {
		return nil, err
	}
	if gone, err := nameGone(f, path); err != nil {
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
	if r.own, err = r.table.Claim(r, permits.Identity{PID: os.Getpid(), Started: ownStart(), Opened: time.Now().UnixNano()}); err == permits.ErrFull {
		return nil, because(ErrTableFull, "%d handles are open; no more are possible", permits.MaxSlots)
	} else if err != nil {
		return nil, err
	}
	r.publish()
	r.looked.Store(time.Now().Unix())
	return r, r.begin()
}

// begin finds out whether somebody else has the semaphore open. If not, a new life
// of it begins: those who are in it are dead, whatever their liveness words say (they
// may be from before a reboot), and it gets the limit that was asked for.
func (r *recoverable) begin() error {
	lives, err := r.locks.anyAlive(r.table.Slots(), r.own.Occupied)
	if err != nil {
		return err
	}
	if !lives {
		r.own.Inherit()
	}
	limit, set := r.table.Limit()
	if n := r.opts.value; r.opts.valueSet && !set && n != limit {
		if lives {
			return because(ErrLimitMismatch, "it has a limit of %d and is in use; %d was asked for", limit, n)
		}
		return r.own.SetLimit(n, false)
	}
	return nil
}

// lockClaim takes the lock under which slots are claimed and limits are set. It
// is that of an open file description of its own: the handle's is shared with
// whoever was given the LockFile, and would keep the lock if we were killed.
func (r *recoverable) lockClaim() (unlock func(), err error) {
	f, err := reopen(r.f, r.path)
	if err != nil {
		return nil, err
	}
	for start, pause := time.Now(), 20*time.Microsecond; ; pause = min(2*pause, 5*time.Millisecond) {
		locked, err := r.locks.lockClaim(f)
		if err != nil {
			f.Close()
			return nil, err
		}
		if locked {
			return func() { r.locks.unlockClaim(f) }, nil
		}
		if time.Since(start) > storesPatience {
			f.Close()
			return nil, fmt.Errorf("another process has held the lock of %s for %v; is one stopped while opening or resizing it?%s", r.path, storesPatience, fuser(r.path))
		}
		time.Sleep(pause)
	}
}

// Host.

func (r *recoverable) Lock(slot int) (bool, error)  { return r.locks.lock(slot) }
func (r *recoverable) Alive(slot int) (bool, error) { return r.locks.alive(slot) }
func (r *recoverable) Allocate(p permits.Range) error {
	return allocate(r.f, p.From, p.To, true)
}

// The backend.

func (r *recoverable) Owner() *permits.Owner { return r.own }

func (r *recoverable) tryWait(final bool) error {
	_, err := r.take(final, false)
	return err
}

func (r *recoverable) take(final, forPermit bool) (int, error) {
	if i, ok := r.own.Take(forPermit); ok {
		return i, nil
	}
	if !final {
		return 0, ErrWouldBlock
	}
	found, err := r.reapForTry()
	if found {
		if i, ok := r.own.Take(forPermit); ok {
			return i, nil
		}
	}
	if err != nil {
		return 0, err
	}
	return 0, ErrWouldBlock
}

// reapForTry looks for permits of the dead, for somebody who will not wait: of those
// who were told dead, or will not be, always; of all once a second, or always
// where nobody tells of a death who does not sleep.
func (r *recoverable) reapForTry() (found bool, err error) {
	now, before := ticks(), r.probed.Load()
	all := onlySleepersNotified || now-before > int64(time.Second) && r.probed.CompareAndSwap(before, now)
	if !all && !r.own.Suspects() {
		return false, nil
	}
	f := r.own.Reap(all)
	return f.Freed > 0 || f.Free || f.Again, f.Err
}

// started is some time ago, so that no look at the dead was made just now.
var started = time.Now().Add(-time.Hour)

// ticks is a clock, in ns, that nobody sets: while one that was set back catches up,
// nobody would look for the dead.
func ticks() int64 { return int64(time.Since(started)) }

func (r *recoverable) post() error {
	defer r.nudge()
	if !r.own.Give() {
		return ErrNotHeld
	}
	return nil
}

func (r *recoverable) giveAt(i int) error {
	defer r.nudge()
	if !r.own.GiveAt(i) {
		return ErrNotHeld
	}
	return nil
}

func (r *recoverable) handOver(i int, fromPermit, toPermit bool) (int, error) {
	to, err := r.own.HandOver(i, fromPermit, toPermit)
	if err == permits.ErrNotHeld {
		err = ErrNotHeld
	}
	return to, err
}

func (r *recoverable) giveAll() int {
	defer r.nudge()
	return r.own.GiveAll()
}

func (r *recoverable) value() (int, error) {
	found := r.own.Reap(true)
	for found.Freed > 0 { // a death in the middle of it is not counted right
		found = r.own.Reap(true)
	}
	limit, _ := r.table.Limit()
	return min(max(0, limit-found.Held), limit), found.Err
}

func (r *recoverable) limit() (int, error) {
	n, _ := r.table.Limit()
	return n, nil
}

func (r *recoverable) setLimit(n int) error {
	if err := checkLimit(n, 0); err != nil {
		return err
	}
	unlock, err := r.lockClaim()
	if err != nil {
		return err
	}
	defer unlock()
	defer r.nudge()
	return r.own.SetLimit(n, true)
}

func (r *recoverable) holders() ([]Holder, error) {
	if err := r.own.Reap(true).Err; err != nil {
		return nil, err
	}
	var hs []Holder
	for _, h := range r.table.Holders() {
		if h.Permits == 0 && !h.Waits {
			continue
		}
		hs = append(hs, Holder{
			PID:     h.PID,
			Started: startTime(h.Started),
			Opened:  time.Unix(0, h.Opened),
			Permits: h.Permits,
			Waiting: h.Waits,
		})
	}
	return hs, nil
}

func (r *recoverable) lockFile() (*os.File, error) { return r.locks.duplicate() }

// nudge makes our own server, if it polls, look again.
func (r *recoverable) nudge() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// warnIfVanished looks, once a second at the most, whether the file's name was
// removed, and tells the log, once.
func (r *recoverable) warnIfVanished() {
	now := time.Now().Unix()
	if r.looked.Swap(now) == now {
		return
	}
	if gone, err := nameGone(r.f, r.path); err != nil || !gone || r.vanished.Swap(true) {
		return
	}
	r.opts.warn("the name was removed; new openers get another semaphore", "path", r.path)
}

// leave gives back the slot and all permits, but for the lock. The kernel tells of
// our death until there is nothing left to tell of; from then on our liveness word
// does not say that it would.
func (r *recoverable) leave() {
	r.own.GiveAll()
	r.own.Live().Store(0)
	r.withdraw()
	r.own.Vacate()
}

// close gives back before it unlocks: what a slot without a lock holds is taken
// for a dead one's.
func (r *recoverable) close() error {
	r.leave()
	leaveToCollector()
	return errors.Join(r.locks.unlock(), r.f.Close())
}
