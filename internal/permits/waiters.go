package permits

import (
	"slices"
	"sync/atomic"

	"github.com/procsem/semaphore/internal/futex"
)

// The number of waiters is in the low half of its word; the high half changes with
// every change of the number. A waiter first writes into its slot that it waits, then
// counts itself, then reads the event, then looks for a permit, then sleeps while the
// event is what it has read. A giver first frees the permit's word, then reads the
// number of waiters, and if that is not 0 changes the event and wakes a waiter. All
// atomic operations are in one order, so either the waiter's look finds the word free,
// or the giver finds the waiter counted; and then the event changes after the waiter
// has read it, so the waiter does not fall asleep or is woken.
//
// A waiter that dies stays counted. So the number may be too high, which costs each
// giver a system call that wakes nobody, but it is never too low, which would lose
// wake-ups. A giver that has woken nobody heals the number: see Heal.
const (
	oneWaiter = 1
	oneChange = 1 << 32
)

func waitersOf(w uint64) int { return int(uint32(w)) }

// Join makes the owner a waiter: its slot says so before it is counted.
func (o *Owner) Join() {
	o.slots[o.slot].waits.Store(o.gen)
	o.waiters.Add(oneChange + oneWaiter)
}

// Poll writes into the owner's slot whether it waits, for a waiter that polls: it is
// not counted, since it cannot be woken.
func (o *Owner) Poll(waits bool) {
	if waits {
		o.slots[o.slot].waits.Store(o.gen)
	} else {
		o.slots[o.slot].waits.Store(0)
	}
}

// Leave makes the owner no waiter any more: it is uncounted before its slot says so. It
// reports whether there are other waiters: then the caller has to call PassOn.
func (o *Owner) Leave() (others bool) {
	o.do(Idle)
	w := o.waiters.Add(oneChange - oneWaiter)
	o.slots[o.slot].waits.Store(0)
	return waitersOf(w) != 0
}

// PassOn notifies another waiter of what the owner, which waits no more, was notified of
// and has not used: a wake-up, or the report of an exit. The owner may have been woken
// for several reasons at once, and have seen only one of them. If there is a free
// permit, or an owner that is dying, another waiter has to take care of it now.
//
// slept are the liveness words that the owner has slept on, with their values before:
// the report of an exit can have woken this waiter, instead of another one, only if one
// of them has changed. woken says that an event has woken the owner, and that it took
// no permit: then another process took that permit, which perhaps no sleeping waiter
// watches yet. dying reports whether one of these owners needs to be looked at often.
func (o *Owner) PassOn(slept []Word, woken bool, dying func([]DyingOwner) bool) {
	scan := changed(slept)
	freed := 0
	if scan {
		f := o.Scan(false, nil)
		freed = f.Freed
		woken = woken || dying(f.Dying)
	}
	if woken || o.room() && o.mayTake() {
		freed = max(freed, 1)
	}
	o.Notify(freed)
}

// changed reports whether one of the words has another value than it had.
func changed(words []Word) bool {
	return slices.ContainsFunc(words, func(w Word) bool { return atomic.LoadUint32(w.Addr) != w.Value })
}

// Exited reports whether an owner whose liveness word is to be slept on has exited since.
func (f *Findings) Exited() bool { return changed(f.Watch) }

// mayTake reports whether the limit has room.
func (o *Owner) mayTake() bool {
	l := o.limit.Load()
	if l&shrinking == 0 {
		return true
	}
	held, _ := o.held()
	return held < limitOf(l)
}

// Event returns the event's word; a waiter reads it before it looks.
func (t *Table) Event() *uint32 { return addressOf(&t.event) }

// Waiters returns how many waiters are counted.
func (t *Table) Waiters() int { return waitersOf(t.waiters.Load()) }

// Notify wakes up to n waiters, which then look for permits again.
func (o *Owner) Notify(n int) {
	for n > 0 {
		w := o.waiters.Load()
		if waitersOf(w) == 0 {
			return
		}
		o.event.Add(1)
		if o.host.Wake(o.Event(), n) > 0 {
			return
		}
		// No waiter slept. The counted ones are awake and will look, or dead.
		n = o.Scan(false, nil).Freed + o.reapWaiters()
		o.Heal(w)
	}
}

// Counted returns the word with the number of waiters, for Heal.
func (t *Table) Counted() uint64 { return t.waiters.Load() }

// Heal reduces the number of waiters to the number of slots that say that their owner
// waits, if the number's word is still w.
//
// It never makes the number too low. A living waiter that is counted in w has written
// so into its slot before it counted itself, and takes that back only after it has
// uncounted itself, which changes w. So if the compare-and-swap succeeds, each of them
// was among the slots seen. (A waiter that has written it, and has not counted itself
// yet, is then counted twice, until the next Heal.)
func (o *Owner) Heal(w uint64) {
	n := 0
	for s := range o.slotsInUse() {
		if o.slots[s].waits.Load() != 0 {
			n++
		}
	}
	if n < waitersOf(w) {
		o.waiters.CompareAndSwap(w, (w>>32+1)<<32|uint64(n))
	}
}

// neighbours is how many other waiters a waiter watches. All waiters watch all holders;
// but an owner that takes its permit after they fell asleep was only a waiter then.
// Sleeping waiters are woken in their order, so the waiter with the ticket before ours
// is the last one that gets a permit before us, the one before that the last but one,
// and so on.
const neighbours = 24

// A Word is a liveness word, and the value that it has while its owner lives.
type Word struct {
	Addr  *uint32
	Value uint32
}

// line keeps the slots with the latest tickets.
type line struct {
	slots   [neighbours]int32
	tickets [neighbours]uint64
	n       int
	least   int // index of the least ticket, if all neighbours are there
}

func (l *line) add(slot int, ticket uint64) {
	switch {
	case l.n < neighbours:
		l.slots[l.n], l.tickets[l.n] = int32(slot), ticket
		l.n++
	case ticket > l.tickets[l.least]:
		l.slots[l.least], l.tickets[l.least] = int32(slot), ticket
	default:
		return
	}
	if l.n == neighbours {
		l.least = slices.Index(l.tickets[:], slices.Min(l.tickets[:]))
	}
}

// Tickets returns a word that changes when a waiter takes a ticket. A waiter sleeps on it
// too: it watches the waiters that it saw, so it must not fall asleep behind one that it
// did not see.
func (t *Table) Tickets() *uint32 { return futex.LowHalf(&t.tickets) }

// TakeTicket gives the owner the latest ticket, because the kernel puts a waiter that
// falls asleep at the end of its queue.
func (o *Owner) TakeTicket() { o.slots[o.slot].ticket.Store(o.tickets.Add(1)) }
