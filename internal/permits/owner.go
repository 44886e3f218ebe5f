package permits

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/procsem/semaphore/internal/futex"
	"github.com/procsem/semaphore/internal/testhook"
)

// A Host is what a table needs of the system.
type Host interface {
	// Lock takes the slot's lock, which the kernel drops when the handle's
	// process ends, or reports that somebody has it.
	Lock(slot int) (bool, error)
	// Alive reports whether somebody else has the slot's lock.
	Alive(slot int) (bool, error)
	// Allocate gives a part of the file storage.
	Allocate(Range) error
	// Wake wakes up to n of those who sleep on a word, and returns how many
	// there were.
	Wake(word *uint32, n int) int
}

// An Owner is an open handle: a slot of the table, and a generation of it.
type Owner struct {
	Table
	table *Table // the one that keeps the memory
	host  Host
	slot  int
	gen   uint64
	word  uint64 // what a permit of the handle's holds

	// home is the word that was taken or given last: the next search begins
	// there, where the cache has it.
	home atomic.Uint32

	// slow is held where words of the handle are taken and given other than at
	// home, and where home changes. Under it only the word at home changes, so
	// whoever then finds no word of the handle's knows that it has none; without
	// it one could be taken behind the searcher's back while the one that he
	// has not come to is given.
	slow sync.Mutex

	clearing sync.Mutex
}

// An Identity is what people want to know of a handle: its process, when that was
// started, as the host counts time, and when the handle was opened (Unix, ns).
type Identity struct {
	PID             int
	Started, Opened int64
}

// ErrFull means that there are MaxSlots handles.
var ErrFull = errors.New("all slots are taken")

func addressOf(w *atomic.Uint32) *uint32 { return (*uint32)(unsafe.Pointer(w)) }

// How many locks Claim tries before it goes on to the next kind of slot.
const (
	maxSilentTries = 8 // of occupied slots whose owner's exit is not reported
	maxNewTries    = 8 // of slots that were never used: a claimer that died before it counted
	// the slot may have left the lock to a child
)

// Claim takes a slot for a new handle. The caller has the lock of the claim.
//
// A slot gets a new owner only from whoever takes its lock, and with a new
// generation. Who dies in here leaves a slot without a lock: free, or in use by
// somebody dead.
func (t *Table) Claim(host Host, who Identity) (*Owner, error) {
	mark := t.slotsInUse()
	trouble := ErrFull // what was wrong with the slots that could not be had
	try := func(s int) bool {
		locked, err := host.Lock(s)
		if err != nil {
			trouble = err
		}
		return locked
	}
	// First those that nobody seems to have, then some of whose owners no news is due
	// (who died in here, or while closing, leaves nothing that tells), then a new one,
	// then all others.
	for s := range mark {
		if !t.occupied(s) && try(s) {
			return t.occupy(host, who, s), nil
		}
	}
	silent, first := maxSilentTries, 0
	if t.exitsUnreported() && mark > 0 {
		first = rand.IntN(mark) // so that each has its turn
	}
	for i := 0; i < mark && silent > 0; i++ {
		s := (first + i) % mark
		if t.occupied(s) && (t.exitsUnreported() || !exitWillBeReported(t.slots[s].live.Load())) {
			if try(s) {
				return t.occupy(host, who, s), nil
			}
			silent--
		}
	}
	// (More than one: who died in here may have left its lock to a child.)
	for s := mark; s < min(mark+maxNewTries, MaxSlots); s++ {
		if err := host.Allocate(slotRange(s, s+1)); err != nil {
			trouble = err
		} else if try(s) {
			t.slotsMark.Store(uint32(s) + 1)
			return t.occupy(host, who, s), nil
		}
	}
	for s := range mark {
		if t.occupied(s) && try(s) {
			return t.occupy(host, who, s), nil
		}
	}
	return nil, trouble
}

// occupied reports whether a slot has an owner of whose death nobody knows.
func (t *Table) occupied(s int) bool {
	slot := &t.slots[s]
	return slot.state.Load() == slotUsed && slot.live.Load()&futex.OwnerDied == 0 && slot.reaped.Load() != uint32(slot.gen.Load())
}

// Occupied reports whether a slot, but for the owner's own, may have an owner who
// lives. One that the kernel has told dead does if it lives on as another program.
func (o *Owner) Occupied(s int) bool {
	slot := &o.slots[s]
	return s != o.slot && slot.state.Load() == slotUsed && slot.reaped.Load() != uint32(slot.gen.Load())
}

// Inherit frees all slots but the owner's own. The caller has the lock of the claim,
// and knows that nobody else lives.
func (o *Owner) Inherit() {
	o.Reap(true)
	for s := range o.slotsInUse() {
		if s != o.slot {
			o.slots[s].state.Store(slotFree)
			o.slots[s].live.Store(0)
		}
	}
}

// occupy makes a locked slot the caller's. With the new generation all words
// of its earlier owners are those of dead ones, whoever meets them.
func (t *Table) occupy(host Host, who Identity, s int) *Owner {
	slot := &t.slots[s]
	gen := slot.gen.Load()&genMask + 1
	if gen > genMask {
		gen = 1
	}
	o := &Owner{Table: *t, table: t, host: host, slot: s, gen: gen, word: ownerWord(s, gen)}
	dead := slot.state.Load() == slotUsed
	slot.pid.Store(uint32(who.PID))
	slot.started.Store(who.Started)
	slot.opened.Store(who.Opened)
	// The generation before the state: who could not find the lock of the owner
	// before us, because he has left, must not take us for him. And before the
	// liveness word: while the words are still the earlier owner's, it says that he
	// died, and who finds his lock held, by us, looks again soon.
	slot.gen.Store(gen)
	slot.live.Store(0)
	slot.state.Store(slotUsed)
	o.do(Claiming)
	slot.waits.Store(0)
	o.restore(slot.clearing.Load())
	freed := o.sweep(func(w uint64) bool { return slotOf(w) == s && genOf(w) != gen })
	if dead {
		// It may have given a permit and died before it told anybody; and who
		// has seen its word before finds us in its slot, alive.
		freed = max(freed, 1)
	}
	o.Notify(freed)
	slot.clearing.Store(0)
	o.do(Idle)
	return o
}

// Slots is how many slots are in use, or were.
func (t *Table) Slots() int { return t.slotsInUse() }

// Slot returns the number of the owner's slot.
func (o *Owner) Slot() int { return o.slot }

// Live returns the owner's liveness word.
func (o *Owner) Live() *atomic.Uint32 { return &o.slots[o.slot].live }

// Do says what the owner is doing.
func (o *Owner) Do(s Step) { o.do(s) }

func (o *Owner) do(s Step) (before Step) {
	before = Step(o.slots[o.slot].doing.Swap(uint32(s)))
	trace(s)
	return before
}

func trace(s Step) {
	if testhook.Trace != nil {
		testhook.Trace(uint32(s))
	}
}

// TakeHome takes the permit that was given last, for the handle, and returns its
// number, -1 if it is not free. It is the start of Take, with no call in it: if
// sure is false, Confirm has to decide whether the permit may be kept.
func (o *Owner) TakeHome() (i int, sure bool) {
	home := uint16(o.home.Load())
	l := o.limit.Load()
	if uint64(home) >= l&limitMask || int64(l) < 0 || !o.words[home].CompareAndSwap(0, o.word) {
		return -1, false
	}
	return int(home), o.limit.Load() == l
}

// Confirm decides about a permit that TakeHome has taken.
func (o *Owner) Confirm(i int) (kept bool) {
	if o.confirm(i) {
		return true
	}
	o.undo(i, o.word)
	return false
}

// undo gives back what was just taken. Another goroutine of the handle may have
// given that very word meanwhile, instead of its own: then that one is ours.
func (o *Owner) undo(i int, word uint64) {
	if !o.put(i, word) && word == o.word {
		o.Give()
	}
}

// Take takes a free permit, if there is one, for the handle or for a Permit.
func (o *Owner) Take(forPermit bool) (i int, ok bool) {
	word := o.word
	if forPermit {
		word |= forPermitBit
	}
	for {
		l := o.limit.Load()
		if l&shrinking != 0 {
			var room bool
			if l, room = o.shrink(l); !room {
				return 0, false
			}
		}
		i, ok := o.free(min(limitOf(l), o.permitsInUse()))
		if !ok {
			return 0, false
		}
		trace(Taking)
		o.slow.Lock()
		taken := o.words[i].CompareAndSwap(0, word)
		if taken && o.home.Load() != uint32(i) {
			o.home.Store(uint32(i))
		}
		o.slow.Unlock()
		if !taken {
			continue
		}
		trace(Taking)
		if !o.confirm(i) {
			o.undo(i, word)
			continue
		}
		return i, true
	}
}

// Free reports whether there seems to be a free permit.
func (o *Owner) Free() bool {
	n := min(limitOf(o.limit.Load()), o.permitsInUse())
	if _, ok := o.search(0, n); ok {
		return true
	}
	for w := 0; n > groupSize && w <= groupOf(n-1)/64; w++ {
		if o.summary[w].Load() != 0 {
			return true
		}
	}
	return false
}

// put frees a word that holds word, and tells a waiter. False: it holds something
// else.
//
// Whoever dies between the two has not told anybody; but as a holder it was
// watched, and its death makes them look.
func (o *Owner) put(i int, word uint64) bool {
	if word>>genShift != o.word>>genShift || !o.words[i].CompareAndSwap(word, 0) {
		return false
	}
	o.Announce(i)
	return true
}

// Announce makes known that the word i was given.
func (o *Owner) Announce(i int) {
	o.offer(i)
	o.Notify(1)
}

// GiveHome gives back the permit that was taken last, if it was taken for the
// handle, and returns its number, else -1. It is the start of Give, with no call in
// it: if quiet is false, Announce must be called.
func (o *Owner) GiveHome() (i int, quiet bool) {
	home := uint16(o.home.Load())
	if !o.words[home].CompareAndSwap(o.word, 0) {
		return -1, false
	}
	return int(home), home < groupSize && uint32(o.waiters.Load()) == 0
}

// Give gives back a permit that was taken for the handle, whichever; false: it
// has none.
func (o *Owner) Give() bool {
	o.slow.Lock()
	for {
		i, ok := o.mine()
		if !ok {
			o.slow.Unlock()
			return false
		}
		if o.words[i].CompareAndSwap(o.word, 0) {
			o.home.Store(uint32(i))
			o.slow.Unlock()
			o.Announce(i)
			return true
		}
	}
}

// mine finds a word that was taken for the handle; slow is held. Who takes many
// takes them in ascending order, mostly, so it looks downwards from the last one.
func (o *Owner) mine() (i int, ok bool) {
	n := o.permitsInUse()
	home := min(int(o.home.Load()), n-1)
	for d := range n {
		i := home - d
		if i < 0 {
			i += n
		}
		if o.words[i].Load() == o.word {
			return i, true
		}
	}
	return 0, false
}

// GiveAt gives back the permit i that was taken for a Permit; false: it is not
// held any more.
func (o *Owner) GiveAt(i int) bool { return o.put(i, o.word|forPermitBit) }

// HandOver makes a permit that is to be given that of another taker of the same
// handle: it goes from the handle, or from the Permit that has the word i, to
// either. ErrNotHeld: it is not held. ErrGive: it must be given instead.
//
// What is taken for the handle is not told apart: it has so many permits as there
// are words of it. So that one goroutine gives and another takes needs no change
// of a word, only that there is one. A Permit has its own word: it must not get one
// above the limit, which somebody has just taken and is about to undo.
func (o *Owner) HandOver(i int, fromPermit, toPermit bool) (to int, err error) {
	o.slow.Lock()
	defer o.slow.Unlock()
	for {
		from, want := o.word|forPermitBit, o.word
		if !fromPermit {
			from = o.word
			var ok bool
			if i, ok = o.mine(); !ok {
				return 0, ErrNotHeld
			}
			if toPermit && i >= limitOf(o.limit.Load()) {
				return 0, ErrGive
			}
		}
		if toPermit {
			want |= forPermitBit
		}
		if o.words[i].CompareAndSwap(from, want) {
			return i, nil
		}
		if fromPermit {
			return 0, ErrNotHeld
		}
	}
}

// What HandOver answers otherwise.
var (
	ErrNotHeld = errors.New("not held")
	ErrGive    = errors.New("cannot be handed over")
)

// GiveAll gives back all that the handle holds, for itself and for Permits.
func (o *Owner) GiveAll() (n int) {
	n = o.sweep(func(w uint64) bool { return w>>genShift == o.word>>genShift })
	o.Notify(n)
	return n
}

// sweep frees words, and mends the summary.
func (t *Table) sweep(want func(word uint64) bool) (freed int) {
	for i := range t.permitsInUse() {
		w := t.words[i].Load()
		if w != 0 && want(w) && t.words[i].CompareAndSwap(w, 0) {
			freed++
			w = 0
		}
		if w == 0 {
			t.offer(i)
		}
	}
	return freed
}

// restore sets the summary bit that a dead owner was clearing.
func (t *Table) restore(clearing uint32) {
	if g := int(clearing) - 1; g > 0 && g < len(t.summary)*64 {
		t.setBit(g)
	}
}

// Vacate leaves the slot: all permits are given back before the caller drops the
// lock, and has taken the liveness word off the kernel's list.
func (o *Owner) Vacate() {
	o.GiveAll()
	slot := &o.slots[o.slot]
	slot.live.Store(0)
	slot.state.Store(slotFree)
}
