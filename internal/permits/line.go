package permits

import (
	"sync/atomic"
	"time"

	"github.com/procsem/semaphore/internal/futex"
	"github.com/procsem/semaphore/internal/testhook"
)

// The line is the order in which waiters are served: an entry for each slot, with the ticket
// of the slot's waiter. Tickets are numbered, so the waiter with the least one came first.
// The kernel's queues have no part in the order: each waiter sleeps on its own entry, and
// loses its place neither by looking nor by falling asleep again.
//
// An entry is 0 while the slot's owner does not wait. It says that the owner is joining
// before the owner takes its ticket: so a waiter that reads the line after it took its own
// ticket sees everyone that has an earlier one. A giver calls a waiter by setting the bit
// called, and wakes it; the waiter clears the bit before it looks for a permit.
//
// A waiter takes a permit only if more are free than those before it want, but for some
// that are late. To be called means no more than to be woken. A waiter that finds a free permit
// and may not take it calls the first waiter that is not called. If one before it is called, the
// permit is for that one, and comes back to the line if it does not take it: it passes the call on
// when it leaves, and those behind it watch it while they sleep. But whoever relies on a called
// waiter wakes it first, for its caller may have died before it did.
const (
	calledBit   = 1 << 0
	joiningBit  = 1 << 1 // the rest is the owner's generation, not a ticket
	pollsBit    = 1 << 2 // it looks now and then, and nobody wakes it
	idleBit     = 1 << 3 // it has no waiter any more, and its server will leave
	severalBit  = 1 << 4 // it wants several permits: see gather.go
	ticketShift = 5
)

// Patience with others in the line. Tests have more, for they may run on a slow machine.
var (
	// passedOver is how long a waiter has waited when newcomers may not take a permit past it
	// any more.
	passedOver = time.Millisecond
	// stuck is how long ago a waiter was called that others no longer wait for: it was
	// stopped, perhaps.
	stuck = 100 * time.Millisecond
	// asleep is how long ago a waiter that polls has looked that others no longer wait for.
	asleep = time.Second
)

func ticketOf(entry uint64) uint64 { return entry >> ticketShift }

func hasTicket(entry uint64) bool { return entry != 0 && entry&joiningBit == 0 }

// hasPlace reports whether a waiter has a place in the line, which nobody that comes from now on is
// before. It has none while it joins.
func hasPlace(entry uint64) bool { return hasTicket(entry) && entry&idleBit == 0 }

// Ticket takes the next ticket, which is not 0 and fits into an entry. They run out only in a file
// that was written over; then they begin anew.
func (o *Owner) Ticket() uint64 {
	for {
		if t := ticketOf(o.tickets.Add(1) << ticketShift); t != 0 {
			return t
		}
	}
}

// Entry returns the word of the owner's entry on which its server sleeps, and the value that
// it has until the owner is called.
func (o *Owner) Entry() Word { return Word{futex.LowHalf(&o.line[o.slot]), uint32(o.entry)} }

// Began says since when, by Clock, the waiter waits for which the server looks next.
func (o *Owner) Began(at time.Duration) { o.began = at }

// stands writes into the line that the owner's waiter has that ticket. It reports whether the
// owner was called, which it uses up by that.
func (o *Owner) stands(ticket uint64) (called bool) {
	entry := ticket<<ticketShift | o.entry&pollsBit | o.several
	if entry&pollsBit != 0 {
		o.slots[o.slot].calledAt.Store(time.Now().UnixNano())
	}
	if o.reaped == ticket {
		o.leaveLine()
		return true
	}
	if entry != o.entry {
		now := time.Now()
		if o.began != 0 {
			now = now.Add(o.began - now.Sub(started))
		}
		o.slots[o.slot].arrived.Store(now.UnixNano())
		o.entry = entry
		return o.line[o.slot].Swap(entry)&calledBit != 0
	}
	now := o.line[o.slot].Load()
	if now == entry {
		return false
	}
	if now == 0 {
		// Somebody has found our lock free and reaped us, though we live. To insist would have
		// us reaped again, and again. The next ticket is another try.
		o.reaped = ticket
		o.leaveLine()
		return true
	}
	// It is called (or the file was written over). Givers change nothing in an entry that is called.
	// The clearing comes before the look for a permit: a giver that still sees the bit has freed its
	// word before that look.
	o.line[o.slot].Store(entry)
	return true
}

// leaveLine makes the owner a waiter that is not in the line. What stands there nevertheless was
// written by somebody else, and would keep its server awake.
func (o *Owner) leaveLine() {
	o.entry = 0
	if o.line[o.slot].Load() != 0 {
		o.line[o.slot].Store(0)
	}
}

// Vain writes into the line that the handle has no waiter, until its server leaves or
// serves another one: others need not wait for it.
func (o *Owner) Vain() {
	if e := o.line[o.slot].Load(); e != 0 {
		o.line[o.slot].Or(idleBit)
	}
}

// gone reports whether nobody waits at an entry any more: its exit was reported, or its handle
// has no waiter; or whether it waits in vain, for more permits than there are.
func (t *Table) gone(s int, entry uint64) bool {
	return entry&idleBit != 0 || t.slots[s].live.Load()&futex.OwnerDied != 0 || t.wantsTooMany(s, entry)
}

// late reports whether a waiter has not done for long what it should have done: looked for a
// permit, if it is called, or if it polls. Others do not wait for it. For whom permits are does not
// depend on it, only the order. A clock that was set must not keep others waiting, so a time
// in the future is as good as one long ago.
func (t *Table) late(s int, entry uint64) bool {
	patience := stuck
	switch {
	case testhook.Patient.Load():
		return false
	case entry&pollsBit != 0:
		patience = asleep
	case entry&calledBit == 0:
		return false
	}
	return !within(patience, &t.slots[s].calledAt)
}

// within reports whether a time of a slot is not longer ago than that.
func within(d time.Duration, at *atomic.Int64) bool {
	ago := time.Now().UnixNano() - at.Load()
	return -int64(d) <= ago && ago <= int64(d)
}

// waitsLong reports whether newcomers may not take a permit past the waiter of a slot any more.
func (t *Table) waitsLong(s int) bool { return !within(passedOver, &t.slots[s].arrived) }

// anyWaitsLong is waitsLong of whoever is in the line.
func (t *Table) anyWaitsLong() bool {
	for s := range t.slotsInUse() {
		if e := t.line[s].Load(); hasTicket(e) && !t.gone(s, e) && t.waitsLong(s) {
			return true
		}
	}
	return false
}

// An inLine is an entry of the line, and its slot; none has a negative slot.
type inLine struct {
	slot  int
	entry uint64
}

func (l inLine) isAfter(entry uint64) bool { return l.slot < 0 || entry < l.entry }

// firstCalled returns the slot with the least ticket, below a bound, among the waiters that are
// called; -1 if there is none. Those that are late are left out.
func (t *Table) firstCalled(below uint64) (slot int) {
	first := inLine{slot: -1}
	for s := range t.slotsInUse() {
		e := t.line[s].Load()
		if hasTicket(e) && e&calledBit != 0 && ticketOf(e) < below && first.isAfter(e) && !t.gone(s, e) && !t.late(s, e) {
			first = inLine{s, e}
		}
	}
	return first.slot
}

// ahead returns how many permits others want that are in the line with lesser tickets, and reports
// whether one of them is late; these are not counted. Nor are those that cannot take any because one behind
// them gathers, which was let past them while one was late: it leaves permits to others before it, and
// if those waited for them nobody would take any.
func (o *Owner) ahead(ticket uint64) (others int, late bool) {
	for s := range o.slotsInUse() {
		switch e := o.line[s].Load(); {
		case !hasTicket(e) || ticketOf(e) >= ticket || s == o.slot || o.gone(s, e) || o.blocked(s, e):
		case o.late(s, e):
			late = true
		default:
			others += o.wanted(s, e)
		}
	}
	return others, late
}

// isTurn reports whether a waiter with that ticket may take a permit, and whether nobody is before it: if more are free than those
// before it want. If one before it is late others may be that were stopped together with
// that one, and to call them one after the other would take too long; so whoever is awake may go first, if it has
// waited so long itself that it is not here to get past those who are awake too.
func (o *Owner) isTurn(ticket uint64) (turn, first bool) {
	others, late := o.ahead(ticket)
	first = others == 0 && !late
	turn = others == 0 || late && !within(stuck, &o.slots[o.slot].arrived) || o.moreFree(others)
	return turn, first
}

// moreFree reports whether more than n permits are free.
func (o *Owner) moreFree(n int) bool { return o.freeBeyond(n, 1) > 0 }

// freeBeyond returns how many permits are free beyond n, but not more than most. It is not above 0 if there
// are none.
func (o *Owner) freeBeyond(n, most int) (more int) {
	l := o.limit.Load()
	limit := min(limitOf(l), o.permitsInUse())
	if l&shrinking != 0 {
		held, _ := o.held()
		return min(limit-held-n, most)
	}
	more = -n
	for i := 0; i < limit && more < most; i++ {
		if o.words[i].Load() == 0 {
			more++
		}
	}
	return more
}

// TakeTurn takes a permit for the waiter with that ticket, if it is its turn and there is one.
// It is called by the server. A waiter without a ticket is not in the line.
func (o *Owner) TakeTurn(ticket uint64, forPermit bool) (i int, ok bool) {
	if ticket == 0 {
		return o.Take(forPermit)
	}
	o.several = 0
	if o.stands(ticket) {
		o.unused = true
	}
	turn, first := o.isTurn(ticket)
	if !turn {
		return 0, false
	}
	switch i, ok = o.take(forPermit, true); {
	case ok:
		o.unused = false
		if first && o.limit.Load()&ordered != 0 && !o.anyWaitsLong() {
			o.unorder()
		}
	case o.waitsLong(o.slot):
		o.order()
	}
	return i, ok
}

// Rely reports whether a free permit is for a waiter that is called: one before the owner in the
// line, which it wakes, or the owner itself, which has not looked since. If its waiter can take none,
// Rely calls one that can, and reports true.
func (o *Owner) Rely() bool {
	if !o.canTake() {
		if !o.relyOn(^uint64(0)) {
			o.callFirst(o.host)
		}
		return true
	}
	return o.relyOn(ticketOf(o.entry) + 1)
}

// relyOn reports whether a waiter with a lesser ticket than that is called, and wakes it, unless it
// is the owner's own.
func (o *Owner) relyOn(below uint64) bool {
	s := o.firstCalled(below)
	if s >= 0 && s != o.slot {
		o.host.Wake(s, o.entryWord(s))
	}
	return s >= 0
}

func (t *Table) entryWord(s int) *uint32 { return futex.LowHalf(&t.line[s]) }

// callFirst calls the first waiter that is not called, and wakes it; it returns its slot, -1 if
// there is none. It also wakes the first one that is called already, if that is before it, for its
// caller may have died, and if that one is late the first that is not; and all of them, if it
// finds nobody to call.
func (t *Table) callFirst(host Host) (slot int, woken bool) {
	for {
		next, called, punctual := inLine{slot: -1}, inLine{slot: -1}, inLine{slot: -1}
		for s := range t.slotsInUse() {
			switch e := t.line[s].Load(); {
			case !hasTicket(e):
			case e&calledBit == 0:
				if next.isAfter(e) && !t.gone(s, e) && !t.late(s, e) && !t.blocked(s, e) {
					next = inLine{s, e}
				}
			case punctual.isAfter(e) && !t.gone(s, e): // called is before it
				if called.isAfter(e) {
					called = inLine{s, e}
				}
				if !t.late(s, e) {
					punctual = inLine{s, e}
				}
			}
		}
		if next.slot < 0 {
			t.wakeCalled(host)
			return -1, false
		}
		if called.slot >= 0 && !called.isAfter(next.entry) {
			host.Wake(called.slot, t.entryWord(called.slot))
		}
		if punctual.slot >= 0 && punctual.slot != called.slot && !punctual.isAfter(next.entry) {
			host.Wake(punctual.slot, t.entryWord(punctual.slot))
		}
		if t.waitsLong(next.slot) {
			t.order()
		}
		at := &t.slots[next.slot].calledAt
		at.Store(time.Now().UnixNano()) // it must not seem late at once
		if t.line[next.slot].CompareAndSwap(next.entry, next.entry|calledBit) {
			at.Store(time.Now().UnixNano()) // if we were stopped in between
			return next.slot, host.Wake(next.slot, t.entryWord(next.slot))
		}
	}
}

// wakeCalled wakes all waiters that are called.
func (t *Table) wakeCalled(host Host) {
	for s := range t.slotsInUse() {
		if e := t.line[s].Load(); hasTicket(e) && e&calledBit != 0 && !t.gone(s, e) {
			host.Wake(s, t.entryWord(s))
		}
	}
}

// The flag ordered in the limit's word sends newcomers into the line, although a permit is
// free. It is a hint, written by givers that call a waiter which has waited for a while, and by one that
// took no permit when it was its turn: until
// then newcomers may take permits past the line, because to hand each permit over to a process
// that has to be woken for it would cost far more than the order is worth. The flag goes when the line
// is empty, and when the first one is served and nobody in the line has waited for long.
// (Go's sync.Mutex leaves its starvation mode in the same two cases.) If it is lost newcomers may take a permit
// until the next is given; if it stays (its writer died), the next newcomer finds the line empty and clears it.
func (t *Table) order() {
	if t.limit.Load()&ordered == 0 && !testhook.NoOrder.Load() {
		t.limit.Or(ordered)
	}
}

func (t *Table) unorder() {
	if t.limit.Load()&ordered != 0 {
		t.limit.And(^uint64(ordered))
	}
}

// mayPass reports whether a newcomer may take a permit although the flag ordered is set: if it
// could do so as the last one in the line. If nobody is there it clears the flag.
func (o *Owner) mayPass() bool {
	others, late := o.ahead(^uint64(0))
	if others == 0 && !late {
		o.unorder()
	}
	return others == 0 || o.moreFree(others)
}

// Yields reports whether a permit of the handle is to be given to the waiter of another one,
// rather than to one of its own with that ticket (0: it has none yet): that came first, and has
// waited for a while.
func (o *Owner) Yields(ticket uint64) bool {
	own := o.line[o.slot].Load()
	if n := waitersOf(o.waiters.Load()); own&pollsBit == 0 && (n == 0 || n == 1 && own != 0) {
		return false // those who poll are not counted
	}
	if ticket == 0 {
		ticket = ^uint64(0)
	}
	for s := range o.slotsInUse() {
		e := o.line[s].Load()
		if hasTicket(e) && ticketOf(e) < ticket && s != o.slot && !o.gone(s, e) && !o.late(s, e) && o.waitsLong(s) {
			return true
		}
	}
	return false
}

// OthersWait reports whether another handle is in the line, be it only joining, or polling. One that
// has died or has no waiter any more may be among them, until somebody finds that out; and one that was reaped though it
// lives waits outside of the line for a while.
func (o *Owner) OthersWait() bool {
	for s := range o.slotsInUse() {
		if s != o.slot && o.line[s].Load() != 0 {
			return true
		}
	}
	return false
}
