package permits

import (
	"encoding/binary"
	"io"
)

// Files of versions 1 and 2 had no line, and smaller slots. As far as the summary their header
// was that of version 3, and so were the name, which version 1 did not have, the claim and the
// locks. Of their table this package reads only the limit, and which slots have an owner.
const (
	olderSlotsAt  = headerSize
	olderSlotSize = 64
	olderSize     = olderSlotsAt + MaxSlots*olderSlotSize + (MaxPermits+1)*wordSize
)

// Version returns the version of the file's format.
func (h *Head) Version() int { return int(h.header().version) }

// Size returns the size of files of the head's version. The locks are those of the bytes
// behind it; see ClaimByte.
func (h *Head) Size() int64 {
	if h.Version() < 3 {
		return olderSize
	}
	return Size
}

// IsFor reports whether a file was made for the semaphore of that name, as far as files of its
// version say.
func (h *Head) IsFor(name string) bool { return h.Version() == 1 || h.Name() == name }

// OlderOccupied returns which slots of a file of an older version may have a living owner, as
// Owner.Occupied does for a file of this one.
func (h *Head) OlderOccupied(f io.ReaderAt) (func(slot int) bool, error) {
	slots := make([]byte, h.Slots()*olderSlotSize)
	if _, err := f.ReadAt(slots, olderSlotsAt); err != nil {
		return nil, err
	}
	return func(s int) bool {
		slot := slots[s*olderSlotSize:]
		state := binary.NativeEndian.Uint32(slot[4:])
		gen := binary.NativeEndian.Uint64(slot[8:])
		reaped := binary.NativeEndian.Uint32(slot[44:])
		return state == slotUsed && reaped != uint32(gen)
	}, nil
}

// Successor returns the head of the file that takes the place of one of an older version. The
// limit stays, and so does that an operator has set it.
func (h *Head) Successor(name string, locks Locks, id uint64) *Head {
	limit := h.header().limit.Load()
	n := NewHead(name, max(1, limitOf(limit)), locks, id) // a limit of 0 has storage for one
	n.header().limit.Store(limit & (limitMask | limitSet))
	return n
}
