package permits

import (
	"io"
	"unsafe"
)

// Read returns a copy of the table in a file, to be shown to people. It takes no slot
// and changes nothing.
func Read(f io.ReaderAt) (*Table, error) {
	copied := make([]uint64, Size/8)
	if _, err := f.ReadAt(unsafe.Slice((*byte)(unsafe.Pointer(&copied[0])), Size), 0); err != nil {
		return nil, err
	}
	return At(unsafe.Pointer(&copied[0])), nil
}

// HoldsOrWaits reports whether a slot's owner holds permits or waits.
func (t *Table) HoldsOrWaits(s int) bool {
	for i := range t.permitsInUse() {
		if w := t.words[i].Load(); w != 0 && slotOf(w) == s {
			return true
		}
	}
	return t.slots[s].waits.Load() != 0
}

// LockOf returns the byte of the file whose lock shows that a handle is alive: the
// handle that the process pid opened at that time.
func (t *Table) LockOf(pid int, opened int64) (at int64, ok bool) {
	if Locks(t.locks) != ByteLocks {
		return 0, false
	}
	for s := range t.slotsInUse() {
		slot := &t.slots[s]
		if slot.state.Load() == slotUsed && int(slot.pid.Load()) == pid && slot.opened.Load() == opened {
			return SlotByte + int64(s), true
		}
	}
	return 0, false
}
