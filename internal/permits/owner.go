package permits

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/procsem/semaphore/internal/futex"
	"github.com/procsem/semaphore/internal/testhook"
)

// A Host is what a table needs from the system.
type Host interface {
	// Lock takes the slot's lock, which the kernel drops when the handle's
	// process ends. It reports false if another handle has it.
	Lock(slot int) (bool, error)
	// Alive reports whether another handle has the slot's lock.
	Alive(slot int) (bool, error)
	// Allocate backs a part of the file with storage.
	Allocate(Range) error
	// Wake wakes the server of a slot, which sleeps on the word of its entry, and reports
	// whether it slept.
	Wake(slot int, entry *uint32) bool
}

// An Owner is an open handle: a slot of the table, and a generation of it.
type Owner struct {
	Table
	table *Table // the memory stays mapped while this is reachable
	host  Host
	slot  int
	gen   uint64
	word  uint64 // the word of a permit that was taken for the handle

	// home is the word that was taken or given last. The next search for the handle begins
	// there, because the processor's cache has it, and so does one for a Permit in a large
	// table; in a small one a Permit gets the lowest free word. For the bit timed see since.go.
	home atomic.Uint32

	// slow is held while words of the handle other than home's are taken or given,
	// and while home changes. Without it a word that a search has passed could be taken while
	// the word that it has not reached is given, and the search would find no word of a handle that has one.
	// While a search holds it, others change only home's word, or one that was home when a
	// TakeHome or GiveHome read that, or that they undo. So nobody relies on a word that was only
	// seen: Give and HandOver swap it, and GiveN marks it.
	slow sync.Mutex

	clockSet time.Duration // when the time of day was last read for Stamp, by Clock; slow is held for both
	clockAt  int64         // what it was, Unix time in ns

	clearing sync.Mutex // held while the slot names a group; see clear

	// The server's.
	entry   uint64        // the slot's entry of the line, not called; 0: it has none
	reaped  uint64        // the ticket with which it was reaped though it lives
	unused  bool          // it was called, and has taken no permit since
	began   time.Duration // since when the waiter waits that is served, by Clock; 0: not known
	several uint64        // severalBit if its waiter wants several permits, else 0

	gatherer gatherer
}

// An Identity is what people want to know about a handle: its process, when the
// process was started, as the host counts time, when the handle was opened (Unix
// time in ns, not 0), and its label, of at most MaxLabel bytes.
type Identity struct {
	PID             int
	Started, Opened int64
	Label           string
	ByFile          bool // it is an open file (HandTo)
}

// ErrFull means that there are MaxSlots handles.
var ErrFull = errors.New("all slots are taken")

func addressOf(w *atomic.Uint32) *uint32 { return (*uint32)(unsafe.Pointer(w)) }

// How many locks Claim tries before it goes on to the next kind of slot.
const (
	// Of occupied slots whose owner's exit will not be reported.
	maxUnreportedTries = 8
	// Of slots that were never used: a process that died in Claim, before it moved the
	// mark, may have left the slot's lock to a child.
	maxNewTries = 8
)

// Claim takes a slot for a new handle. The caller has the lock of the claim.
//
// Only the handle that has a slot's lock becomes its owner, and with a new generation.
// A process that dies in here leaves a slot that nobody has locked: a free one, or one
// whose owner is dead.
func (t *Table) Claim(host Host, id Identity) (*Owner, error) {
	mark := t.slotsInUse()
	trouble := ErrFull // why no slot could be taken
	try := func(s int) bool {
		// A lock that cannot be asked for (its file is gone) may be a living owner's.
		if t.mayLive(s) {
			if _, err := host.Alive(s); err != nil {
				trouble = err
				return false
			}
		}
		locked, err := host.Lock(s)
		if err != nil {
			trouble = err
		}
		return locked
	}
	// First try the slots that seem to have no living owner; then some whose owner's
	// exit will not be reported (the kernel does not report the exit of a process that
	// died in here or while closing); then a new slot; then all others.
	for s := range mark {
		if !t.occupied(s) && try(s) {
			return t.occupy(host, id, s), nil
		}
	}
	tries, first := maxUnreportedTries, 0
	if t.exitsUnreported() && mark > 0 {
		first = rand.IntN(mark) // so that every slot is tried sometime
	}
	for i := 0; i < mark && tries > 0; i++ {
		s := (first + i) % mark
		if t.occupied(s) && (t.exitsUnreported() || !exitWillBeReported(t.slots[s].live.Load())) {
			if try(s) {
				return t.occupy(host, id, s), nil
			}
			tries--
		}
	}
	for s := mark; s < min(mark+maxNewTries, MaxSlots); s++ {
		if err := host.Allocate(slotRange(s, s+1)); err != nil {
			trouble = err
		} else if try(s) {
			t.slotsMark.Store(uint32(s) + 1)
			return t.occupy(host, id, s), nil
		}
	}
	for s := range mark {
		if t.occupied(s) && try(s) {
			return t.occupy(host, id, s), nil
		}
	}
	return nil, trouble
}

// occupied reports whether a slot has an owner that is not known to be dead.
func (t *Table) occupied(s int) bool {
	return t.mayLive(s) && t.slots[s].live.Load()&futex.OwnerDied == 0
}

// Occupied reports whether a slot other than the owner's own may have a living owner.
// An owner whose exit the kernel has reported may live on as another program (exec).
func (o *Owner) Occupied(s int) bool {
	return s != o.slot && o.mayLive(s)
}

// mayLive reports whether a slot has an owner that was not found dead.
func (t *Table) mayLive(s int) bool {
	slot := &t.slots[s]
	return slot.state.Load() == slotUsed && slot.reaped.Load() != uint32(slot.gen.Load())
}

// Inherit frees all slots except the owner's own. The caller has the lock of the claim,
// and knows that no other owner is alive.
func (o *Owner) Inherit() {
	o.Reap(true)
	for s := range o.slotsInUse() {
		if s != o.slot {
			o.line[s].Store(0)
			o.slots[s].state.Store(slotFree)
			o.slots[s].live.Store(0)
		}
	}
}

// occupy makes a slot that the caller has locked the caller's. From the new generation
// on, all words of the slot's earlier owners are stale, for every process that reads
// them.
func (t *Table) occupy(host Host, id Identity, s int) *Owner {
	slot := &t.slots[s]
	gen := slot.gen.Load()&genMask + 1
	if gen > genMask {
		gen = 1
	}
	o := &Owner{Table: *t, table: t, host: host, slot: s, gen: gen, word: ownerWord(s, gen)}
	dead := slot.state.Load() == slotUsed
	slot.introduce(id)
	// The earlier owner, whose lock we have, waits no more. Before the generation, so that
	// if we are killed between the two, no entry is that of another generation than its
	// slot's.
	t.line[s].Store(0)
	// The generation before the state: a process that could not check the lock of the
	// slot's earlier owner, because that has left and its lock's file is gone, must not
	// take us for it. And before the liveness word: until the generation changes, the
	// permits are the earlier owner's, and the liveness word says that it died, so that
	// a waiter that finds its lock held, by us, looks again soon.
	slot.gen.Store(gen)
	slot.accept(id)
	slot.lookout.Store(0) // it was of the owner before us
	slot.live.Store(0)
	slot.state.Store(slotUsed)
	o.do(Claiming)
	o.restore(slot.clearing.Load())
	freed := o.sweep(func(w uint64) bool { return slotOf(w) == s && genOf(w) != gen })
	if dead {
		// The earlier owner may have given a permit and have died before it notified
		// a waiter; and a waiter that saw the permit's word before that finds a living
		// owner in the slot: us.
		freed = max(freed, 1)
	}
	o.Notify(freed)
	slot.clearing.Store(0)
	o.do(Idle)
	return o
}

// MayLive reports whether a slot has an owner that was not found dead.
func (t *Table) MayLive(s int) bool { return t.mayLive(s) }

// Slots returns how many slots are in use, or were.
func (t *Table) Slots() int { return t.slotsInUse() }

// Slot returns the number of the owner's slot.
func (o *Owner) Slot() int { return o.slot }

// Opened returns when the handle was opened, as its Identity says.
func (o *Owner) Opened() int64 { return o.slots[o.slot].opened.Load() }

// Live returns the owner's liveness word.
func (o *Owner) Live() *atomic.Uint32 { return &o.slots[o.slot].live }

// In reports whether another view of the memory shows what Claim has written into the slot.
func (o *Owner) In(t *Table) bool {
	there, here := &t.slots[o.slot], &o.slots[o.slot]
	return there.gen.Load() == here.gen.Load() && there.opened.Load() == here.opened.Load()
}

// Do writes what the owner is doing into its slot.
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
// number, or -1 if it is not free. It is the beginning of Take, without a call in it, so
// that it can be inlined: if sure is false, the caller must ask Confirm whether the
// permit may be kept.
func (o *Owner) TakeHome() (i int, sure bool) {
	home := o.home.Load() // if it is timed it is above every limit
	l := o.limit.Load()
	if uint64(home) >= l&limitMask || l >= ordered || !o.words[uint16(home)].CompareAndSwap(0, o.word) {
		return -1, false
	}
	return int(home), o.limit.Load() == l
}

// Confirm decides whether the permit that TakeHome has taken may be kept. If not, it
// gives the permit back.
func (o *Owner) Confirm(i int) (kept bool) { return o.confirmOrUndo(i, o.word) }

func (o *Owner) confirmOrUndo(i int, word uint64) (kept bool) {
	if o.confirm(i) {
		return true
	}
	o.undo(i, word)
	return false
}

// TakeLowest is TakeHome for a Permit, in a small table. It takes the lowest word that is free.
//
// It does not hold slow: the searches that rely on that look for words that were taken for the handle.
func (o *Owner) TakeLowest() (i int, sure bool) {
	l := o.limit.Load()
	n := min(limitOf(l), o.permitsInUse())
	if l >= ordered || n > groupSize || o.home.Load()&timed != 0 {
		return -1, false
	}
	trace(Taking)
	for i := range n {
		if o.words[i].Load() == 0 && o.words[i].CompareAndSwap(0, o.word|forPermitBit) {
			return i, o.limit.Load() == l
		}
	}
	return -1, false
}

// ConfirmForPermit is Confirm of what TakeLowest has taken.
func (o *Owner) ConfirmForPermit(i int) (kept bool) { return o.confirmOrUndo(i, o.word|forPermitBit) }

// undo gives back a word that was just taken. Another goroutine of the handle may have
// given that word meanwhile, instead of the one that it took: then undo gives that one.
func (o *Owner) undo(i int, word uint64) {
	if !o.put(i, word) && word == o.word {
		o.undoAfterGiveN(i)
	}
}

// undoAfterGiveN is undo of a word that does not look as taken for the handle any more: GiveN may have marked it. If
// GiveN takes the mark back, it is this word that has to go and no other one, for it may be above the limit.
func (o *Owner) undoAfterGiveN(i int) {
	o.slow.Lock()
	freed := o.words[i].CompareAndSwap(o.word, 0)
	o.slow.Unlock()
	if freed {
		o.Announce(i)
	} else {
		o.Give()
	}
}

// Take takes a free permit, if there is one that those who wait leave to it, for the handle
// or for a Permit.
func (o *Owner) Take(forPermit bool) (i int, ok bool) { return o.take(forPermit, false) }

func (o *Owner) take(forPermit, inTurn bool) (i int, ok bool) {
	word := o.word
	if forPermit {
		word |= forPermitBit
	}
	for {
		l := o.limit.Load()
		if l&ordered != 0 && !inTurn && !o.mayPass() {
			return 0, false
		}
		if l&shrinking != 0 {
			var room int
			if l, room = o.shrink(l); room <= 0 {
				return 0, false
			}
		}
		i, ok := o.free(min(limitOf(l), o.permitsInUse()), forPermit)
		if !ok {
			return 0, false
		}
		if !o.takeAt(i, word) {
			continue
		}
		if !o.confirm(i) {
			o.undo(i, word)
			continue
		}
		return i, true
	}
}

// takeAt takes the word i, if it is free. Whether it may be kept is to be confirmed.
func (o *Owner) takeAt(i int, word uint64) (taken bool) {
	trace(Taking)
	o.slow.Lock()
	o.forget()
	if taken = o.words[i].CompareAndSwap(0, word); taken && o.home.Load() != uint32(i) {
		o.home.Store(uint32(i))
	}
	o.slow.Unlock()
	trace(Taking)
	return taken
}

// takeMany takes up to n permits for a Permit, as one of n calls of take would each, but counts what is
// held once for all, and not for each word.
func (o *Owner) takeMany(n int) (words []int) {
	l := o.limit.Load()
	if l&shrinking != 0 {
		var room int
		l, room = o.shrink(l)
		n = min(n, room)
	}
	word, limit := o.word|forPermitBit, min(limitOf(l), o.permitsInUse())
	for len(words) < n {
		i, ok := o.free(limit, true)
		if !ok {
			break
		}
		if o.takeAt(i, word) {
			words = append(words, i)
		}
	}
	return o.confirmMany(words, word)
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

// put frees the word i, which holds word, and notifies a waiter. It reports false if
// the word i holds something else.
//
// A process that dies between the two has notified no waiter. But it was a holder, so
// waiters watch its liveness word, and its death makes them look.
func (o *Owner) put(i int, word uint64) bool {
	if word>>genShift != o.word>>genShift || !o.words[i].CompareAndSwap(word, 0) {
		return false
	}
	o.Announce(i)
	return true
}

// Announce lets takers find the word i, which was just freed, and notifies a waiter.
func (o *Owner) Announce(i int) {
	o.offer(i)
	o.Notify(1)
}

// GiveHome gives back the permit that was taken last, if it was taken for the handle,
// and returns its number, otherwise -1. It is the beginning of Give, without a call in
// it, so that it can be inlined: if quiet is false, the caller must call Announce.
func (o *Owner) GiveHome() (i int, quiet bool) {
	home := uint16(o.home.Load())
	if !o.words[home].CompareAndSwap(o.word, 0) {
		return -1, false
	}
	return int(home), home < groupSize && uint32(o.waiters.Load()) == 0
}

// GiveLowest is GiveHome of the permit i, which was taken for a Permit.
func (o *Owner) GiveLowest(i int) (given, quiet bool) {
	if !o.words[i].CompareAndSwap(o.word|forPermitBit, 0) {
		return false, false
	}
	return true, i < groupSize && uint32(o.waiters.Load()) == 0
}

// Give gives back any permit that was taken for the handle. It reports false if the
// handle has none.
func (o *Owner) Give() bool {
	o.slow.Lock()
	for {
		i, ok := o.mine()
		if !ok {
			o.slow.Unlock()
			return false
		}
		if o.words[i].CompareAndSwap(o.word, 0) {
			o.home.Store(uint32(i) | o.home.Load()&timed)
			o.slow.Unlock()
			o.Announce(i)
			return true
		}
	}
}

// mine returns a word that was taken for the handle; the caller holds slow. Several
// words are mostly taken in ascending order, so it looks downwards from the last one.
func (o *Owner) mine() (i int, ok bool) {
	n := o.permitsInUse()
	home := min(o.homeWord(), n-1)
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

// GiveN gives back n permits that were taken for the handle, if it has so many, or none. It returns n, or how many
// it has if they are fewer. It frees all before it notifies waiters. If it dies in between, they watch it: it held
// each of the words until it freed that.
//
// All or none: it first marks each word that it counts, and frees none before it has marked n. A marked word looks
// as if it was taken for a Permit, but no Permit has it. So it stays as it is until GiveN frees it, or takes
// the mark back:
//   - GiveHome gives only what looks as taken for the handle. It does not wait for slow, and it may have read home
//     before that changed; so any word that is only counted it could give a second time. If the word is
//     marked it gives nothing, and then Give waits for slow.
//   - Take, Give and HandOver hold slow where they change a word, so no Permit gets a word meanwhile. TakeHome and TakeLowest
//     take free words only, and a Permit gives or hands over its own word, which GiveN has not counted.
//   - undo, which cannot give a marked word, waits for slow, too, and then tries again.
//
// Only GiveAll frees a marked word, when the handle is closed. GiveN then finds the word changed, and leaves it.
// It counts as one of the n: had GiveN been a moment earlier it would have freed it itself. (A TakeLowest that does not know of
// the Close yet may take that word, which then looks marked; its caller gives it back, or GiveN does so in its stead, or leaves it to the handle. GiveN
// is called by one that is inside of the handle, and when the last of these leaves, GiveAll frees what is left.)
//
// To all others a marked word is the owner's as before: they tell owners by slot and generation. So a taker that
// counts held words counts it, waiters watch its owner, and if that dies between any two of the steps, whoever reaps
// it frees the marked words as it frees the others.
func (o *Owner) GiveN(n int) (has int) {
	o.slow.Lock()
	words := o.mark(n)
	has = len(words)
	var then uint64
	if has < n {
		then = o.word
	} else {
		o.home.Store(uint32(words[0]) | o.home.Load()&timed)
	}
	for _, i := range words {
		o.words[i].CompareAndSwap(o.word|forPermitBit, then)
	}
	o.slow.Unlock()
	if has < n {
		return has
	}
	for _, i := range words {
		o.offer(i)
	}
	o.Notify(n)
	return n
}

// mark marks up to n words that were taken for the handle, and returns them. The caller holds slow.
func (o *Owner) mark(n int) (words []int) {
	for i := 0; i < o.permitsInUse() && len(words) < n; i++ {
		if o.words[i].Load() == o.word && o.words[i].CompareAndSwap(o.word, o.word|forPermitBit) {
			words = append(words, i)
			trace(Taking)
		}
	}
	return words
}

// GiveAt gives back the permit i, which was taken for a Permit. It reports false if
// the permit is not held any more.
func (o *Owner) GiveAt(i int) bool { return o.put(i, o.word|forPermitBit) }

// HandOver hands a permit that is being given over to another taker of the same
// handle: from the handle, or from the Permit that has the word i (fromPermit), to the
// handle or to a Permit (toPermit). It returns ErrNotHeld if the permit is not held,
// and ErrGive if it must be given instead.
//
// The permits taken for the handle are not told apart: the handle has as many permits
// as there are words with its owner word. So if one goroutine gives such a permit and
// another one takes it, no word has to change; there only has to be one. A Permit has
// a word of its own: it must not get one above the limit, which a taker has just taken
// and is about to undo.
//
// The new one has waited since then, as for Stamp.
func (o *Owner) HandOver(i int, fromPermit, toPermit bool, began time.Duration) (to int, err error) {
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
			o.stamp(began)
			return i, nil
		}
		if fromPermit {
			return 0, ErrNotHeld
		}
	}
}

// The errors of HandOver.
var (
	ErrNotHeld = errors.New("not held")
	ErrGive    = errors.New("cannot be handed over")
)

// HoldsNone reports whether the owner holds no permit. In a large table, where it would take long to
// see that, it reports false.
func (o *Owner) HoldsNone() bool {
	n := o.permitsInUse()
	if n > groupSize {
		return false
	}
	for i := range n {
		if o.words[i].Load()>>genShift == o.word>>genShift {
			return false
		}
	}
	return true
}

// GiveAll gives back all permits that were taken for the handle and for its Permits.
func (o *Owner) GiveAll() (n int) {
	n = o.sweep(func(w uint64) bool { return w>>genShift == o.word>>genShift })
	if o.endGathering(o.word) {
		o.Notify(max(n, 1))
	} else {
		o.Notify(n)
	}
	return n
}

// sweep frees the words that are wanted, and sets the summary bits of all free words.
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

// Vacate gives back all permits and frees the slot. The caller has removed the
// liveness word from the robust list, and drops the lock afterwards.
func (o *Owner) Vacate() {
	o.GiveAll()
	slot := &o.slots[o.slot]
	slot.live.Store(0)
	slot.state.Store(slotFree)
}
