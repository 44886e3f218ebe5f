//go:build ((unix && !aix && !filelock_fcntl) || windows) && !mips && !mipsle && (!arm || arm.7)

package recoverable

import (
	"io"
	"time"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/store"
)

// observe looks at a semaphore through a copy of its file. So whoever looks is not counted as
// a user, needs no slot, does not wait for the lock of the claim, whoever has it, and does not
// die if the file's owner truncates it. Whose file it is does not matter: it is only read.
func observe(dir, name string) (o engine.Observation, err error) {
	if err := checkName(name); err != nil {
		return o, err
	}
	if o.Path, err = pathOf(dir, name); err != nil {
		return o, err
	}
	f, info, err := store.ReadLocal(o.Path)
	if err != nil {
		return o, err
	}
	defer f.Close()
	o.File = info
	head, older := readHead(f)
	if head == nil {
		return o, older
	}
	if !head.IsFor(name) {
		return o, store.OtherName(f, head.Name())
	}
	locks, err := newLocks(head, f, o.Path)
	if err != nil {
		return o, err
	}
	if older != nil {
		return o, older.(*olderVersion).seen(head, f, locks)
	}
	seen, err := permits.Look(f, locks.alive)
	if err == io.EOF {
		err = engine.Because(engine.ErrCorrupt, "%s was truncated", o.Path)
	}
	if err != nil {
		return o, err
	}
	o.Recoverable, o.Limit, o.Value = true, seen.Limit, seen.Free()
	for _, h := range seen.Handles {
		handle := engine.ObservedHandle{Holder: holder(h.Holder), Numbers: h.Numbers, Ticket: h.Ticket, ByFile: h.ByFile}
		if h.Waits {
			handle.Arrived = time.Unix(0, h.Arrived)
		}
		if head.Locks() == permits.ByteLocks {
			handle.LockAt = permits.SlotByte + int64(h.Slot)
		}
		o.Handles = append(o.Handles, handle)
	}
	return o, nil
}
