package permits

import (
	"bytes"
	"slices"
	"testing"
	"unsafe"
)

// While Look asks for the lock of a holder that it has read, the holder leaves, and another
// handle gets its slot and so the lock. Look must not take the lock for the first one's; and
// it changes nothing.
func TestLookAgainstNextOwner(t *testing.T) {
	const slot, gen, limit = 3, 5, 2
	memory := make([]uint64, Size/8)
	file := unsafe.Slice((*byte)(unsafe.Pointer(&memory[0])), Size)
	copy(file, NewHead("x", limit, ByteLocks, 1).Bytes())
	table := At(unsafe.Pointer(&memory[0]))
	table.slotsMark.Store(slot + 1)
	own := &table.slots[slot]
	own.gen.Store(gen)
	own.state.Store(slotUsed)
	own.pid.Store(42)
	own.opened.Store(1)
	table.words[1].Store(ownerWord(slot, gen))

	look := func(alive func(int) (bool, error)) Picture {
		t.Helper()
		p, err := Look(bytes.NewReader(file), alive)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	before := slices.Clone(memory)
	holds := func(lives bool) func(int) (bool, error) {
		return func(s int) (bool, error) { return lives, nil }
	}
	if p := look(holds(true)); p.Free() != 1 || len(p.Handles) != 1 || p.Handles[0].PID != 42 || p.Handles[0].Permits != 1 {
		t.Errorf("a living holder: %+v", p)
	}
	if p := look(holds(false)); p.Free() != limit || len(p.Handles) != 0 {
		t.Errorf("a dead holder: %+v", p)
	}
	removed := func(int) (bool, error) { return false, errRemoved }
	if _, err := Look(bytes.NewReader(file), removed); err != errRemoved {
		t.Errorf("the lock of a holder was removed: error %v", err)
	}
	own.state.Store(slotFree)
	if p := look(removed); p.Free() != limit || len(p.Handles) != 0 {
		t.Errorf("an owner that has left its slot: %+v", p)
	}
	own.state.Store(slotUsed)
	if !slices.Equal(before, memory) {
		t.Error("Look has changed the table")
	}
	asked := 0
	p := look(func(s int) (bool, error) {
		if asked++; asked == 1 {
			table.words[1].Store(0)
			own.gen.Store(gen + 1)
			own.pid.Store(43)
			table.words[0].Store(ownerWord(slot, gen+1))
		}
		return true, nil
	})
	if p.Free() != 1 || len(p.Handles) != 1 || p.Handles[0].PID != 43 || asked < 2 {
		t.Errorf("the slot has got a new owner meanwhile: %+v, asked %d times", p, asked)
	}
}

// Look tells which permits a holder has, and in which order the waiters came.
func TestLookTellsNumbersAndOrder(t *testing.T) {
	memory := make([]uint64, Size/8)
	file := unsafe.Slice((*byte)(unsafe.Pointer(&memory[0])), Size)
	copy(file, NewHead("x", 4, ByteLocks, 1).Bytes())
	table := At(unsafe.Pointer(&memory[0]))
	table.slotsMark.Store(4)
	for s := range 4 {
		table.slots[s].gen.Store(5)
		table.slots[s].state.Store(slotUsed)
		table.slots[s].opened.Store(1)
	}
	table.words[1].Store(ownerWord(0, 5))
	table.words[3].Store(ownerWord(0, 5))
	table.line[1].Store(9 << ticketShift)
	table.line[2].Store(5<<ticketShift | joiningBit) // no place yet
	table.line[3].Store(7<<ticketShift | calledBit)
	p, err := Look(bytes.NewReader(file), func(int) (bool, error) { return true, nil })
	if err != nil || len(p.Handles) != 3 {
		t.Fatalf("%+v, %v", p, err)
	}
	if h := p.Handles[0]; !slices.Equal(h.Numbers, []int{1, 3}) || h.Ticket != 0 {
		t.Errorf("the holder: %+v", h)
	}
	for i, want := range []uint64{9, 7} {
		if h := p.Handles[1+i]; h.Ticket != want || h.Numbers != nil {
			t.Errorf("waiter %d: %+v, want ticket %d", i, h, want)
		}
	}
}
