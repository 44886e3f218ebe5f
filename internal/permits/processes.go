package permits

import (
	"unsafe"

	"github.com/procsem/semaphore/internal/futex"
)

// Where the kernel does not write liveness words (RangeLocks), the waiters do: they
// wait for the exit of the processes whose liveness words they watch, and a waiter that
// finds that a process has ended sets OwnerDied in its words. Everything else uses the
// words as if the kernel had written them, and the lock decides: a bit that was set
// wrongly costs a look at the lock.
//
// The exit of a process that nobody watches is not reported. It holds no permit as long
// as there are waiters, for waiters watch holders. Its slot is found by a process that
// claims one; and if it was a waiter, a giver that wakes nobody finds that it is dead
// (reapWaiters).

// exitsUnreported reports whether there may be owners whose exit nobody reports,
// although their liveness word has futex.Waiters.
func (t *Table) exitsUnreported() bool { return Locks(t.locks) == RangeLocks }

// ExpectReport writes into the owner's liveness word that its exit will be reported:
// waiters watch its process, which its Identity names. The word's other bits are the
// generation's, so that Mark does not change the word of the slot's next owner.
func (o *Owner) ExpectReport() {
	o.Live().Store(futex.Waiters | uint32(o.gen)&^uint32(futex.Waiters|futex.OwnerDied))
}

// reapWaiters reaps dead waiters whose exit may not have been reported: Heal would
// count them. It returns how many waiters to notify.
func (o *Owner) reapWaiters() (n int) {
	if !o.exitsUnreported() {
		return 0
	}
	var f Findings
	for s := range o.slotsInUse() {
		if o.line[s].Load() != 0 && exitWillBeReported(o.slots[s].live.Load()) {
			o.visit(s, true, true, &f)
		}
	}
	if f.Again { // one may have given a permit and notified nobody; see visit
		return max(1, f.Freed)
	}
	return 0
}

// A Process is a process that has the table open, as its handle's Identity names it.
type Process struct {
	PID     int
	Started int64
}

// ProcessOf returns the process whose exit a liveness word reports that Scan has
// returned. While the slot gets a new owner it may be the process of either: then the
// liveness word has changed or will, and Mark does nothing.
func (t *Table) ProcessOf(w Word) Process {
	slot := t.slotAt(w)
	return Process{int(slot.pid.Load()), slot.started.Load()}
}

// Mark sets OwnerDied in a liveness word that Scan has returned, if the word has still
// the same value.
func (t *Table) Mark(w Word) {
	t.slotAt(w).live.CompareAndSwap(w.Value, w.Value|futex.OwnerDied)
}

func (t *Table) slotAt(w Word) *slot {
	at := uintptr(unsafe.Pointer(w.Addr)) - uintptr(unsafe.Pointer(t.slots))
	return &t.slots[at/SlotSize]
}
