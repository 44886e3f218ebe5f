package permits

import (
	"io"
	"slices"
	"unsafe"
)

// Read returns a copy of the table in a file, to be shown to people. It takes no slot
// and changes nothing; what was never used is not read.
//
// The words are read before the slots. A word whose generation is not its slot's is
// therefore of an owner that had given it back, or was dead, by the time that the slot
// was read; and the slot of an owner that has taken a word is below the mark.
func Read(f io.ReaderAt) (*Table, error) {
	copied := make([]uint64, Size/8)
	t := At(unsafe.Pointer(&copied[0]))
	read := func(r Range) error {
		if r.From == r.To {
			return nil
		}
		_, err := f.ReadAt(unsafe.Slice((*byte)(unsafe.Pointer(&copied[0])), Size)[r.From:r.To], r.From)
		return err
	}
	if err := read(Range{0, SlotsAt}); err != nil {
		return nil, err
	}
	if err := read(wordRange(0, t.permitsInUse())); err != nil {
		return nil, err
	}
	later := new(Head)
	if _, err := f.ReadAt(later.Bytes(), 0); err != nil {
		return nil, err
	}
	t.slotsMark.Store(uint32(later.Slots()))
	return t, read(slotRange(0, t.slotsInUse()))
}

// A Picture is what is to be seen in the table.
type Picture struct {
	Limit   int
	Handles []Handle // the living that hold or wait
}

// A Handle is an owner as it was seen, but for what it was doing.
type Handle struct {
	Holder
	Slot    int
	Gen     uint64
	Numbers []int // of the permits that it holds, in order
}

// same reports whether two copies say the same of an owner. The numbers are in the words.
func (h Handle) same(g Handle) bool {
	return h.Holder == g.Holder && h.Slot == g.Slot && h.Gen == g.Gen
}

// mostLooks bounds how often Look begins anew. In a table that changes faster than it can be
// read no two copies are equal.
const mostLooks = 20

// Look returns one picture of the table in a file, without being one of its owners: dead
// owners are left out of it, but not reaped. alive is asked about slots.
//
// It reads a copy, asks which of its owners live, and reads again, until the two copies say
// the same. Then a word's owner had the word before and after its lock was seen, so the lock
// was its own, not that of the slot's next owner; what is said of an owner is all of that one, for
// no step of introduce and accept was between the two; and the words are not those of different
// moments, unless a word has changed there and back, for words do not count their changes.
// So has a word that the kernel copied while it changed.
//
// If the copies never agree the last one has to do. Each of its words was right at some
// moment of the call. Of a dead owner, whose lock is free after its word was read, the
// words count as free, as a scan would make them. Free permits are what the limit leaves
// of those of the handles in the same picture, so these always add up.
func Look(f io.ReaderAt, alive func(slot int) (bool, error)) (Picture, error) {
	t, err := Read(f)
	if err != nil {
		return Picture{}, err
	}
	for looks := 1; ; looks++ {
		before := t.picture()
		living := Picture{Limit: before.Limit}
		var failed error
		for _, h := range before.Handles {
			switch lives, err := alive(h.Slot); {
			case err != nil && t.slots[h.Slot].state.Load() == slotFree: // its lock is gone with it; see visit
			case err != nil:
				failed = err // that of a handle that was closed meanwhile is none
			case lives:
				living.Handles = append(living.Handles, h)
			}
		}
		now, err := Read(f)
		if err != nil {
			return Picture{}, err
		}
		if looks == mostLooks || t.sameWords(now) && slices.EqualFunc(before.Handles, now.picture().Handles, Handle.same) {
			return living, failed
		}
		t = now
	}
}

// picture returns the owners in a copy, dead ones among them.
func (t *Table) picture() Picture {
	held := make([][]int, MaxSlots)
	for i := range t.permitsInUse() {
		if w := t.words[i].Load(); w != 0 && slotOf(w) < t.slotsInUse() && t.slots[slotOf(w)].gen.Load() == genOf(w) {
			held[slotOf(w)] = append(held[slotOf(w)], i)
		}
	}
	var p Picture
	p.Limit, _ = t.Limit()
	for s := range t.slotsInUse() {
		h, gen, ok := t.look(s)
		if !ok {
			continue
		}
		h.hold(len(held[s]))
		if t.slots[s].state.Load() != slotUsed {
			h.Waits, h.Want, h.Ticket, h.Arrived = false, 0, 0, 0
		}
		h.Doing = Idle // it changes too often to be the same in two copies
		if h.Permits > 0 || h.Waits {
			p.Handles = append(p.Handles, Handle{h, s, gen, held[s]})
		}
	}
	return p
}

// sameWords reports whether two copies have the same limit and permits.
func (t *Table) sameWords(u *Table) bool {
	if t.limit.Load() != u.limit.Load() || t.permitsInUse() != u.permitsInUse() {
		return false
	}
	for i := range t.permitsInUse() {
		if t.words[i].Load() != u.words[i].Load() {
			return false
		}
	}
	return true
}

// Free returns how many permits the handles of the picture leave.
func (p Picture) Free() int {
	free := p.Limit
	for _, h := range p.Handles {
		free -= h.Permits
	}
	return max(0, free)
}

// HoldsOrWaits reports whether a slot's owner holds permits, or is in the line.
func (t *Table) HoldsOrWaits(s int) bool {
	for i := range t.permitsInUse() {
		if w := t.words[i].Load(); w != 0 && slotOf(w) == s {
			return true
		}
	}
	return t.line[s].Load() != 0
}

// Users returns all owners in the table that alive says live, to be shown to people, whether they hold
// anything or not. One of which it cannot say that is left out: it may have been closed meanwhile.
func (t *Table) Users(alive func(slot int) (bool, error)) (users []Holder) {
	for s := range t.slotsInUse() {
		if !t.mayLive(s) {
			continue
		}
		if lives, err := alive(s); err == nil && lives {
			if h, _, ok := t.look(s); ok {
				users = append(users, h)
			}
		}
	}
	return users
}
