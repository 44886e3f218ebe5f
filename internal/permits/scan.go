package permits

import (
	"math/bits"

	"github.com/procsem/semaphore/internal/futex"
)

// Giving back what the dead held needs no lock. Each word goes, by a
// compare-and-swap, from exactly that owner (slot and generation) to 0. Several may
// do it at once, and any of them may be stopped or die in the middle: each permit
// comes back once, and the rest is found by the next one. Who sleeps through it
// all can't take from a slot's new owner, whose generation is another.
//
// An owner takes its slot's lock before its first permit, and gives its permits
// back before it drops it. So a word that was read as that of an owner whose
// slot's lock is free afterwards is a dead one's; and so is one whose generation
// is not its slot's any more, for that changes only by whoever has the lock.

// Findings are what a Scan found.
type Findings struct {
	Held  int  // permits held by the living
	Free  bool // there is a free permit
	Freed int  // permits of the dead given back
	Again bool // an owner was found dead: what was seen of it before may be old
	Dying []DyingOwner
	Watch []Word
	Err   error // of the Host, the last one
}

// A DyingOwner is an owner that the kernel has told dead, but whose lock is held: it is
// still being taken apart, or has become another program, or a child has its file.
type DyingOwner struct {
	Slot int
	Gen  uint64
}

// set is a set of slots.
type set [MaxSlots / 64]uint64

func (s *set) add(i int)      { s[i/64] |= 1 << (i % 64) }
func (s *set) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }

// Scan looks at all permits and at all who hold or wait, and gives back what the
// dead held. Only those are asked for who may be dead: the living whose death the
// kernel will tell are not, unless all is set and they hold. The words by which it will, of
// the holders and of those next in line, are appended to watch as far as there is
// room.
//
// A death after a liveness word was read changes it, so whoever sleeps while all
// of them are as they were read misses none.
//
// Scan tells nobody of the permits that it has given back: the caller has to, by
// Tell.
func (o *Owner) Scan(all bool, watch []Word) Findings {
	f := Findings{Watch: watch}
	var holders set
	n := o.permitsInUse()
	for i := range n {
		w := o.words[i].Load()
		switch {
		case w == 0:
			continue
		case o.stale(w):
			if o.words[i].CompareAndSwap(w, 0) {
				o.offer(i)
				f.Freed++
			}
		default:
			f.Held++
			holders.add(slotOf(w))
		}
	}
	for i, word := range holders {
		for ; word != 0; word &= word - 1 {
			o.visit(i*64+bits.TrailingZeros64(word), all, true, &f)
		}
	}
	var ahead line
	for s := range o.slotsInUse() {
		slot := &o.slots[s]
		if s == o.slot || holders.has(s) {
			continue
		}
		switch live := slot.live.Load(); {
		case slot.waits.Load() != 0 && exitWillBeReported(live):
			ahead.add(s, slot.ticket.Load())
		case slot.waits.Load() != 0, live&futex.OwnerDied != 0 && slot.reaped.Load() != uint32(slot.gen.Load()):
			o.visit(s, all, slot.waits.Load() != 0, &f)
		}
	}
	for _, s := range ahead.slots[:ahead.n] {
		o.visit(int(s), false, true, &f)
	}
	limit, _ := o.Limit()
	f.Free = f.Held < limit && o.room()
	return f
}

// Reap is Scan that tells.
func (o *Owner) Reap(all bool) Findings {
	f := o.Scan(all, nil)
	o.Notify(f.Freed)
	return f
}

// room looks for a free word below the limit, without the summary's help, and
// mends that. Whoever died, or is stopped, between freeing a word and its offer has
// left a word that takers do not find.
func (t *Table) room() bool {
	n, _ := t.Limit()
	for i := range n {
		if t.words[i].Load() == 0 {
			t.offer(i)
			return true
		}
	}
	return false
}

// stale reports whether a word's generation is not its slot's. The mark is read
// after the word: an owner's slot is below it before it takes its first permit.
func (o *Owner) stale(w uint64) bool {
	s := slotOf(w)
	return s >= o.slotsInUse() || o.slots[s].gen.Load() != genOf(w)
}

// visit finds out whether a slot's owner lives, and buries it if not. It matters when
// it dies if it holds or waits.
func (o *Owner) visit(s int, all, matters bool, f *Findings) {
	slot := &o.slots[s]
	gen := slot.gen.Load()
	if s == o.slot {
		return // our own lock looks free to us
	}
	live := slot.live.Load()
	if exitWillBeReported(live) {
		if len(f.Watch) < cap(f.Watch) {
			f.Watch = append(f.Watch, Word{addressOf(&slot.live), live})
		}
		if !all {
			return
		}
	}
	alive, err := o.host.Alive(s)
	if err != nil {
		if slot.state.Load() == slotUsed && slot.gen.Load() == gen {
			f.Err = err // and not because it was just closed
		}
		return
	}
	if alive {
		if live&futex.OwnerDied != 0 && matters {
			f.Dying = append(f.Dying, DyingOwner{s, gen})
		}
		return
	}
	// It may have given a permit after we saw its word, and died before it told
	// anybody; and its death will not be told again. So we have to look again.
	f.Again = true
	freed := o.reapOwner(s, gen)
	f.Freed += freed
	f.Held -= freed
}

// reapOwner gives back what a dead owner held, and strikes it off the waiters.
func (o *Owner) reapOwner(s int, gen uint64) (freed int) {
	defer o.do(o.do(Reaping))
	slot := &o.slots[s]
	owner := ownerWord(s, gen) >> genShift
	freed = o.sweep(func(w uint64) bool { return w>>genShift == owner })
	if slot.gen.Load() == gen {
		// If the slot has a new owner by now, this sets a bit for nothing.
		o.restore(slot.clearing.Load())
	}
	slot.waits.CompareAndSwap(gen, 0)
	if slot.gen.Load() == gen {
		slot.reaped.Store(uint32(gen))
	}
	return freed
}

// Suspects reports whether there are handles that may be dead and were not buried
// yet. It looks at no permit, so it is quick in a large table.
func (o *Owner) Suspects() bool {
	for s := range o.slotsInUse() {
		slot := &o.slots[s]
		if s != o.slot && slot.state.Load() == slotUsed && !exitWillBeReported(slot.live.Load()) && slot.reaped.Load() != uint32(slot.gen.Load()) {
			return true
		}
	}
	return false
}

// A Holder is a handle, and what it holds.
type Holder struct {
	Identity
	Permits int
	Waits   bool
	Doing   Step
}

// Holders lists the handles whose slot is in use. The dead are among them until
// somebody has their slot.
func (t *Table) Holders() []Holder {
	held := make(map[int]int)
	for i := range t.permitsInUse() {
		if w := t.words[i].Load(); w != 0 {
			held[slotOf(w)]++
		}
	}
	var hs []Holder
	for s := range t.slotsInUse() {
		slot := &t.slots[s]
		if slot.state.Load() == slotUsed {
			hs = append(hs, Holder{Identity{int(slot.pid.Load()), slot.started.Load(), slot.opened.Load()},
				held[s], slot.waits.Load() != 0, Step(slot.doing.Load())})
		}
	}
	return hs
}
