package permits

import (
	"unsafe"

	"github.com/procsem/semaphore/internal/futex"
)

// Where no kernel writes liveness words (RangeLocks), the waiters do it: they sleep
// on the processes of those whose words they watch, and whoever finds that one has
// ended marks its words as dead. All else goes by the words as it does where the
// kernel has marked them, and the lock stays the truth: a mark that is wrong costs
// somebody a look.
//
// Of the death of one whom nobody watches nothing is written. It holds no permit, as long
// as anybody waits; its slot is left for somebody who claims one, and if it waited a
// giver whom nobody hears finds that it does not.
func (t *Table) exitsUnreported() bool { return Locks(t.locks) == RangeLocks }

// ExpectReport makes the owner's liveness word one of whose death others will be told:
// they watch its process, as its Identity names it.
func (o *Owner) ExpectReport() {
	o.Live().Store(futex.Waiters | uint32(o.gen)&^uint32(futex.Waiters|futex.OwnerDied))
}

// reapWaiters finds the dead among those who wait, where nobody may have told of them:
// Heal would take them for waiters. It returns for how many others to tell.
func (o *Owner) reapWaiters() (n int) {
	if !o.exitsUnreported() {
		return 0
	}
	var f Findings
	for s := range o.slotsInUse() {
		if o.slots[s].waits.Load() != 0 && exitWillBeReported(o.slots[s].live.Load()) {
			o.visit(s, true, true, &f)
		}
	}
	if f.Again { // as for Scan
		return max(1, f.Freed)
	}
	return 0
}

// A Process is one that has the table open, as it named itself.
type Process struct {
	PID     int
	Started int64
}

// ProcessOf returns the process that a word which Scan has found was about. If the
// slot is just changing hands, it may be that of either owner: then the word has
// changed, or will, and Mark finds that out.
func (t *Table) ProcessOf(w Word) Process {
	slot := t.slotAt(w)
	return Process{int(slot.pid.Load()), slot.started.Load()}
}

// Mark marks a word which Scan has found as that of somebody dead, if it is still
// what it was.
func (t *Table) Mark(w Word) {
	t.slotAt(w).live.CompareAndSwap(w.Value, w.Value|futex.OwnerDied)
}

func (t *Table) slotAt(w Word) *slot {
	at := uintptr(unsafe.Pointer(w.Addr)) - uintptr(unsafe.Pointer(t.slots))
	return &t.slots[at/slotSize]
}
