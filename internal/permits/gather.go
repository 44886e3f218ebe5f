package permits

import (
	"slices"
	"sync"
	"time"

	"github.com/procsem/semaphore/internal/futex"
)

// A waiter may want several permits, or all. It stands in the line as any other, and those behind it
// leave it as many free permits as it wants. When nobody is before it, it gathers: it takes the
// permits that are free, and then those that come back, until it has as many as it wants.
//
// At most one owner gathers at a time. The header names it, by its owner word, which is set by
// compare-and-swap before its first permit is taken: so no two can each hold a part of what the other
// one needs. What it has gathered it holds as it would for a Permit. So if it dies, each of the
// words names a dead owner, and is reaped as that of any holder; whoever reaps it also clears the
// header's word. Everybody watches the owner that gathers as they watch holders.
//
// One that gathers while others are before it in the line (they are late, and have woken up since) leaves free
// permits to those of them that want one. Those that want several can't gather before it has ended. So it
// waits for none of them, and they wait for it, as all do that want several.
//
// It ends its gathering when it has all, or if its waiter has left, or the limit was lowered below what
// it wants. In the last two cases it first gives back what it has, then clears the header's word, and then
// notifies a waiter: one that has seen it gather meanwhile, and permits free, has left them to it.
// In all cases whoever sees permits free that it cannot take calls another one, the gatherer among them,
// which passes the call on when it leaves the line.

// All stands for as many permits as there are: as the limit says.
const All = -1

// A gatherer is what an owner knows of the permits that it gathers. They are its server's, but for
// the end, which the waiter's goroutine may bring about.
type gatherer struct {
	mu     sync.Mutex
	ticket uint64 // of the waiter that they are for; 0 if there is none
	words  []int
}

// wantOf returns how many permits a waiter in the line wants, or All; 0 if there is none.
func (t *Table) wantOf(s int, entry uint64) int {
	switch {
	case !hasPlace(entry):
		return 0
	case entry&severalBit == 0:
		return 1
	}
	if w := int32(t.slots[s].want.Load()); w > 0 {
		return int(min(w, MaxPermits))
	}
	return All
}

// number returns how many permits n are: All are as many as the limit says, but one at least, for
// whoever has all of none would not be alone.
func number(n int, limit int) int {
	if n == All {
		return max(limit, 1)
	}
	return n
}

// wanted returns how many permits are to be left to a waiter in the line.
func (t *Table) wanted(s int, entry uint64) int {
	if entry&severalBit == 0 {
		return 1
	}
	limit, _ := t.Limit()
	return number(t.wantOf(s, entry), limit)
}

// wantsTooMany reports whether a waiter wants more permits than there are. Until the limit is raised
// nobody waits for it.
func (t *Table) wantsTooMany(s int, entry uint64) bool {
	if entry&severalBit == 0 {
		return false
	}
	limit, _ := t.Limit()
	n := t.wantOf(s, entry)
	return n != All && n > limit
}

// gathers returns the slot of the owner that gathers permits, -1 if there is none. A word that
// names no owner of these days counts as none, and so does an owner whose waiter does not want several: its gatherer
// has left, and is about to give back what it has.
func (t *Table) gathers() int {
	w := t.gathering.Load()
	s := slotOf(w)
	if w == 0 || s >= t.slotsInUse() || t.slots[s].gen.Load() != genOf(w) || t.slots[s].state.Load() == slotFree {
		return -1
	}
	if e := t.line[s].Load(); !hasTicket(e) || e&severalBit == 0 {
		return -1
	}
	return s
}

// blocked reports whether a waiter can take no permit because another one gathers.
func (t *Table) blocked(s int, entry uint64) bool {
	if entry&severalBit == 0 {
		return false
	}
	g := t.gathers()
	return g >= 0 && g != s && t.slots[g].live.Load()&futex.OwnerDied == 0 // of a dead one whoever is called takes care
}

// canTake reports whether the owner's waiter could take permits, if they are free and it is its turn.
func (o *Owner) canTake() bool {
	return !o.blocked(o.slot, o.entry) && !o.wantsTooMany(o.slot, o.entry)
}

// endGathering clears the header's word, if it still names that owner.
func (t *Table) endGathering(word uint64) bool {
	return t.gathering.Load() == word && t.gathering.CompareAndSwap(word, 0)
}

// callGatherer calls the owner that gathers, and wakes it: the limit has been lowered, perhaps below
// what it wants.
func (t *Table) callGatherer(host Host) {
	s := t.gathers()
	if s < 0 {
		return
	}
	t.slots[s].calledAt.Store(time.Now().UnixNano()) // it must not seem late
	if e := t.line[s].Load(); hasTicket(e) && t.line[s].CompareAndSwap(e, e|calledBit) {
		host.Wake(s, t.entryWord(s))
	}
}

// callGathererBehind calls the owner that gathers too, when another one before it was called. A word above a
// lowered limit may have come back: it is of no use but to one that gathers all, which waits until nobody holds
// any. The flag shrinking would not say so: a taker that saw the word free may have cleared it since. If it is
// called already it is woken, for its caller may have died before it did that.
func (t *Table) callGathererBehind(host Host, called int) {
	switch g := t.gathers(); {
	case g < 0 || g == called:
	case t.line[g].Load()&calledBit != 0:
		host.Wake(g, t.entryWord(g))
	default:
		t.callGatherer(host)
	}
}

// TakeSeveral takes n permits for a Permit, n > 1 or All, if so many are free beyond those that
// waiters want. If others take some of them meanwhile it gives back those that it has.
func (o *Owner) TakeSeveral(n int) (words []int, ok bool) {
	others, _ := o.ahead(^uint64(0))
	limit, _ := o.Limit()
	if !o.moreFree(others + number(n, limit) - 1) {
		return nil, false
	}
	if words, ok = o.gather(nil, n, 0); !ok {
		o.GiveSeveral(words)
	}
	return words, ok
}

// GatherTurn takes permits for the waiter with that ticket, if it is its turn; it returns them
// when there are n, n > 1 or All. It is called by the server, again and again. A waiter without a ticket
// is not in the line.
func (o *Owner) GatherTurn(ticket uint64, n int) (words []int, ok bool) {
	if ticket == 0 {
		return o.TakeSeveral(n)
	}
	// Before the line has the ticket.
	o.slots[o.slot].want.Store(uint32(int32(n)))
	o.several = severalBit
	if o.stands(ticket) {
		o.unused = true
	}
	g := &o.gatherer
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ticket != ticket {
		o.disperse()
	}
	if o.wantsTooMany(o.slot, o.entry) {
		o.disperse()
		return nil, false
	}
	if !o.mayGather(ticket) {
		if len(g.words) > 0 {
			o.disperse() // somebody has written over the header's word: two would hold a part each
		}
		if o.waitsLong(o.slot) {
			o.order()
		}
		return nil, false
	}
	g.ticket = ticket
	o.order() // those that come now are behind us
	defer o.do(o.do(Gathering))
	if g.words, ok = o.gather(g.words, n, ticket); !ok {
		// Whoever lowers the limit reads the header's word after that. So either it calls us, or
		// we see the limit here.
		if o.wantsTooMany(o.slot, o.entry) {
			o.disperse()
		}
		return nil, false
	}
	words = g.words
	g.ticket, g.words = 0, nil
	o.endGathering(o.word)
	// A call may have been for an owner that is dying, and not for a permit. For a permit that was given then
	// another waiter was called, unless all others want several: so whoever has gathered passes its call on.
	return words, true
}

// mayGather reports whether the owner gathers, or may from now on: if nobody is before its waiter in the
// line. As for isTurn it is also its turn if one before it is late, and it has waited for long.
func (o *Owner) mayGather(ticket uint64) bool {
	now := o.gathering.Load()
	switch {
	case now == o.word:
		return true
	case o.gathers() >= 0:
		return false
	}
	others, late := o.ahead(ticket)
	if others > 0 && (!late || within(stuck, &o.slots[o.slot].arrived)) {
		return false
	}
	return o.gathering.CompareAndSwap(now, o.word)
}

// gather adds permits to words, until there are n, and reports whether there are. It leaves free
// permits to waiters that have lesser tickets than that and want one.
//
// Those that have all must be all that there are at some moment: a limit that was raised after the last one was
// taken would let others in. So it reads the limit again after that; and while words above the
// limit may be held, it counts all held words, as confirm does. Words above the limit it gives back: the limit was
// lowered since it has taken them. It also forgets those that are not its own any more, because somebody has found
// its lock free, and reaped it, though it lives.
func (o *Owner) gather(words []int, n int, ticket uint64) (_ []int, enough bool) {
	for {
		l := o.limit.Load()
		limit := min(limitOf(l), o.permitsInUse())
		words = slices.DeleteFunc(words, func(i int) bool {
			return o.words[i].Load() != o.word|forPermitBit || i >= limit && o.GiveAt(i)
		})
		for len(words) < number(n, limit) {
			trace(Gathering)
			more := number(n, limit) - len(words)
			if before := o.singles(ticket); before > 0 {
				more = o.freeBeyond(before, more)
			}
			taken := o.takeMany(more)
			if len(taken) == 0 {
				return words, false
			}
			words = append(words, taken...)
			trace(Gathering)
		}
		if (o.limit.Load()^l)&^ordered&^shrinking != 0 {
			continue
		}
		if n == All && o.Shrinking() {
			if held, _ := o.held(); held > len(words) {
				return words, false
			}
			if (o.limit.Load()^l)&^ordered&^shrinking != 0 {
				continue
			}
		}
		slices.Sort(words)
		return words, true
	}
}

// singles returns how many others are in the line with lesser tickets and want one permit. Those that
// are late are not counted.
func (o *Owner) singles(ticket uint64) (n int) {
	for s := range o.slotsInUse() {
		e := o.line[s].Load()
		if hasTicket(e) && e&severalBit == 0 && ticketOf(e) < ticket && s != o.slot && !o.gone(s, e) && !o.late(s, e) {
			n++
		}
	}
	return n
}

// disperse gives back what was gathered, and ends the gathering. The caller has the gatherer's mutex.
func (o *Owner) disperse() {
	g := &o.gatherer
	freed := o.freeWords(g.words)
	g.ticket, g.words = 0, nil
	if o.endGathering(o.word) {
		freed = max(freed, 1)
	}
	o.Notify(freed)
}

// StopGathering gives back what was gathered for the waiter with that ticket, which waits no more.
func (o *Owner) StopGathering(ticket uint64) {
	o.gatherer.mu.Lock()
	defer o.gatherer.mu.Unlock()
	if ticket != 0 && o.gatherer.ticket == ticket {
		o.disperse()
	}
}

// GiveSeveral gives back permits that were taken for one Permit. It reports false if they
// are not held any more. It frees all of them before it notifies a waiter: one that wants several need not be
// woken for each.
func (o *Owner) GiveSeveral(words []int) bool {
	freed := o.freeWords(words)
	o.Notify(freed)
	return freed == len(words)
}

// freeWords frees those of the words that the owner holds for a Permit, and notifies nobody.
func (o *Owner) freeWords(words []int) (freed int) {
	for _, i := range words {
		if o.words[i].CompareAndSwap(o.word|forPermitBit, 0) {
			o.offer(i)
			freed++
		}
	}
	return freed
}
