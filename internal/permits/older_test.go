package permits

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// An owner of an older version may live if its slot is used, and nobody has found it dead. Of a
// generation the low half says that.
func TestOccupiedSlotsOfOlderVersions(t *testing.T) {
	const slots = 4
	content := make([]byte, olderSize)
	for s, slot := range [slots]struct {
		state  uint32
		gen    uint64
		reaped uint32
	}{{1, 7<<32 | 5, 0}, {1, 7<<32 | 5, 5}, {0, 7<<32 | 5, 0}, {1, 7<<32 | 5, 7}} {
		at := content[olderSlotsAt+s*olderSlotSize:]
		binary.NativeEndian.PutUint32(at[4:], slot.state)
		binary.NativeEndian.PutUint64(at[8:], slot.gen)
		binary.NativeEndian.PutUint32(at[44:], slot.reaped)
	}
	for version := uint32(1); version < Version; version++ {
		h := NewHead("x", 3, FileLocks, 1)
		h.header().version = version
		h.header().slotsMark.Store(slots)
		if wrong := h.Check(olderSize); wrong != "" {
			t.Errorf("version %d: %s", version, wrong)
		}
		if h.Check(Size) == "" {
			t.Errorf("version %d: a file of %d bytes is not refused", version, Size)
		}
		occupied, err := h.OlderOccupied(bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		for s, want := range [slots]bool{true, false, false, true} {
			if got := occupied(s); got != want {
				t.Errorf("version %d: slot %d is occupied: %v, want %v", version, s, got, want)
			}
		}
		if next := h.Successor("x", ByteLocks, 2); next.Check(Size) != "" || next.Version() != Version {
			t.Errorf("the successor of version %d: version %d, %s", version, next.Version(), next.Check(Size))
		}
	}
}
