package permits

import (
	"slices"
	"sync/atomic"

	"github.com/procsem/semaphore/internal/futex"
)

// The number of waiters is in the low half of its word; the high half changes
// with every change. Who waits writes so into its slot first, then counts itself,
// then looks, then sleeps while the event is what it was before the look; who
// gives frees the word, then reads the number, and if it is not 0 changes the event
// and wakes. Both halves of that are in the one order that all atomic operations
// have: either the look finds the word free, or the giver finds the waiter
// counted, and then the event has changed since the waiter read it (it will not
// sleep, or is woken).
//
// A waiter that dies stays counted. The number may so be too high, which costs
// each giver a system call that wakes nobody, but never too low, which would lose
// wake-ups. Who has woken nobody heals it: see Heal.
const (
	oneWaiter = 1
	oneChange = 1 << 32
)

func waitersOf(w uint64) int { return int(uint32(w)) }

// Join makes the owner a waiter.
func (o *Owner) Join() {
	o.slots[o.slot].waits.Store(o.gen)
	o.waiters.Add(oneChange + oneWaiter)
}

// Poll says in the owner's slot that it waits, or not, where nobody can be woken.
func (o *Owner) Poll(waits bool) {
	if waits {
		o.slots[o.slot].waits.Store(o.gen)
	} else {
		o.slots[o.slot].waits.Store(0)
	}
}

// Leave is the end of that. It reports whether others wait: then the caller has to
// PassOn what it may have been told.
func (o *Owner) Leave() (others bool) {
	o.do(Idle)
	w := o.waiters.Add(oneChange - oneWaiter)
	o.slots[o.slot].waits.Store(0)
	return waitersOf(w) != 0
}

// PassOn tells another waiter what the owner was told and has not used: a wake-up, or
// the news of a death. It may have been woken for several reasons at once, and have
// seen one of them only. A word that is free, and a death that it can't settle, is
// the business of another one now.
//
// slept are the words that it has slept on: of a death whose word it has not slept on,
// or that has not changed since, it was not told. woken says that an event was for it,
// and that it took nothing: whoever took the permit in its stead is watched by
// nobody yet. dying picks those of the mortals that are looked at often.
func (o *Owner) PassOn(slept []Word, woken bool, dying func([]DyingOwner) bool) {
	scan := false
	for _, word := range slept {
		scan = scan || atomic.LoadUint32(word.Addr) != word.Value
	}
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

// Notify makes up to n waiters look again.
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
		// Nobody slept. Those who are counted are awake and will look, or dead.
		n = o.Scan(false, nil).Freed + o.reapWaiters()
		o.Heal(w)
	}
}

// Counted returns the number of waiters, for Heal.
func (t *Table) Counted() uint64 { return t.waiters.Load() }

// Heal brings the number of waiters down to that of the slots which say that they
// wait, if it is still w.
//
// It never makes it too low. Who is counted in w, and alive, has said so in its
// slot before, and unsays it only after it has uncounted itself, which changes w.
// So if the compare-and-swap succeeds each of them was among those seen. (Who
// has said it and not yet counted itself is then counted twice, until the next
// healing.)
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

// neighbours is how many of those who wait a waiter watches. Who holds is watched
// by all, but who takes a permit later than the others fell asleep was then only a
// waiter. Sleepers are woken in their order, so the one in front of me in line is
// the last one to get a permit before me, and the one before that the last but one.
const neighbours = 24

// A Word is a liveness word, and its value while its owner lives.
type Word struct {
	Addr  *uint32
	Value uint32
}

// line keeps the latest places in line.
type line struct {
	slots   [neighbours]int32
	tickets [neighbours]uint64
	n       int
	least   int // of places
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

// Tickets returns a word that changes when somebody takes a place. Whoever watches
// those whom it saw must not fall asleep behind one whom it did not see.
func (t *Table) Tickets() *uint32 { return futex.LowHalf(&t.tickets) }

// TakeTicket puts the owner at the end of the line, where the kernel puts who falls
// asleep.
func (o *Owner) TakeTicket() { o.slots[o.slot].ticket.Store(o.tickets.Add(1)) }
