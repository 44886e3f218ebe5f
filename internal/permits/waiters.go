package permits

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/procsem/semaphore/internal/futex"
)

// The number of waiters is in the low half of its word; the high half changes with
// every change of the number. A waiter first writes into the line that it is joining,
// then counts itself, then takes its ticket and writes that into the line, then clears
// whether it is called, then looks for a permit, then sleeps while it is not called. A giver
// first frees the permit's word, then reads the number of waiters, and if that is not 0
// calls a waiter and wakes it. All atomic operations are in one order, so either the
// waiter's look finds the word free, or the giver finds the waiter counted, and in the line;
// and then it calls that one, which does not fall asleep or is woken, or another one.
//
// A waiter that dies stays counted. So the number may be too high, which costs each
// giver a search that finds nobody, but it is never too low, which would lose
// wake-ups. A giver that has called nobody heals the number: see Heal.
const (
	oneWaiter = 1
	oneChange = 1 << 32
)

func waitersOf(w uint64) int { return int(uint32(w)) }

// Join makes the owner a waiter: the line says so before it is counted. It has no ticket yet.
//
// If it lives on although its exit was reported (the thread that reports it has ended), its
// liveness word says no more that it will be: then others ask for the lock.
func (o *Owner) Join() {
	if live := o.Live(); live.Load()&futex.OwnerDied != 0 {
		live.Store(0)
	}
	o.unused, o.entry = false, o.gen<<ticketShift|joiningBit
	o.line[o.slot].Store(o.entry)
	o.waiters.Add(oneChange + oneWaiter)
}

// Poll writes into the line whether the owner waits, for a waiter that polls: it is
// not counted, since it cannot be woken.
func (o *Owner) Poll(waits bool) {
	if waits {
		o.unused, o.entry = false, o.gen<<ticketShift|joiningBit|pollsBit
		o.slots[o.slot].calledAt.Store(time.Now().UnixNano())
		o.line[o.slot].Store(o.entry)
	} else {
		o.line[o.slot].Store(0)
		if !o.anyInLine() {
			o.unorder()
		}
	}
}

// Leave makes the owner no waiter any more: it is uncounted before the line says so. It
// reports whether there are other waiters, or it was called: then the caller has to call
// PassOn. (One that joins after it was uncounted relies on a giver which may have called it.)
func (o *Owner) Leave() (passOn bool) {
	o.do(Idle)
	w := o.waiters.Add(oneChange - oneWaiter)
	if waitersOf(w) == 0 {
		o.unorder()
	}
	called := o.line[o.slot].Swap(0)&calledBit != 0
	o.unused = o.unused || called
	return waitersOf(w) != 0 || called
}

// PassOn notifies another waiter of what the owner, which waits no more, was notified of
// and has not used: a call, or the report of an exit. The owner may have been woken
// for several reasons at once, and have seen only one of them. If there is a free
// permit, or an owner that is dying, another waiter has to take care of it now.
//
// slept are the liveness words that the owner has slept on, with their values before:
// the report of an exit can have woken this waiter, instead of another one, only if one
// of them has changed. If the owner was called and took no permit, another process took that
// permit, which perhaps no sleeping waiter watches yet. dying reports whether one of these
// owners needs to be looked at often.
func (o *Owner) PassOn(slept []Word, woken bool, dying func([]DyingOwner) bool) {
	freed := 0
	woken = woken || o.unused
	if changed(slept) {
		f := o.Scan(false, nil)
		freed = f.Back()
		woken = woken || dying(f.Dying)
	}
	if freed == 0 && (woken || o.room() && o.mayTake() && !o.relyOn(^uint64(0))) {
		freed = 1
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

// Waiters returns how many waiters are counted.
func (t *Table) Waiters() int { return waitersOf(t.waiters.Load()) }

// Notify calls up to n waiters, which then look for permits.
func (o *Owner) Notify(n int) {
	for n > 0 {
		w := o.waiters.Load()
		if waitersOf(w) == 0 {
			return
		}
		if s, woken := o.callFirst(o.host); s >= 0 {
			o.callGathererBehind(o.host, s)
			if woken || !o.isDead(s, &n) {
				n--
			}
			continue
		}
		if o.firstCalled(^uint64(0)) >= 0 || o.anyInLine() && !o.exitsUnreported() {
			return // they are awake, or woken now, and will look
		}
		// The counted ones are dead.
		f := o.Scan(false, nil)
		n = f.Back() + o.reapWaiters()
		o.Heal(w)
	}
}

// isDead reports whether a waiter that was called and did not sleep is dead, and adds the
// permits that come back by that to n. It asks for the lock only if no exit will be reported:
// else those behind it in the line hear of it.
func (o *Owner) isDead(s int, n *int) bool {
	if s == o.slot || exitWillBeReported(o.slots[s].live.Load()) && !o.exitsUnreported() {
		return false
	}
	var f Findings
	o.visit(s, true, true, &f)
	*n += f.Back()
	return f.Again
}

// anyInLine reports whether somebody waits that is not known to be dead.
func (o *Owner) anyInLine() bool {
	for s := range o.slotsInUse() {
		if o.line[s].Load() != 0 && o.slots[s].live.Load()&futex.OwnerDied == 0 {
			return true
		}
	}
	return false
}

// Counted returns the word with the number of waiters, for Heal.
func (t *Table) Counted() uint64 { return t.waiters.Load() }

// Heal reduces the number of waiters to the number of entries in the line, if the number's word is still w.
//
// It never makes the number too low. A living waiter that is counted in w has written
// so into the line before it counted itself, and takes that back only after it has
// uncounted itself, which changes w. So if the compare-and-swap succeeds, each of them
// was among the entries seen. (A waiter that has written it, and has not counted itself
// yet, is then counted twice, until the next Heal.)
func (o *Owner) Heal(w uint64) {
	n := 0
	for s := range o.slotsInUse() {
		if o.line[s].Load() != 0 {
			n++
		}
	}
	if n < waitersOf(w) {
		o.waiters.CompareAndSwap(w, (w>>32+1)<<32|uint64(n))
	}
}

// CountAgain counts the owner, which waits, if the number of waiters is 0: then it is not among them. It was reaped though it
// lives, and the number was healed since, or the file was written over. Givers would notify nobody.
func (o *Owner) CountAgain() {
	if w := o.waiters.Load(); waitersOf(w) == 0 {
		o.waiters.CompareAndSwap(w, w+oneChange+oneWaiter)
	}
}

// neighbours is how many other waiters a waiter watches. All waiters watch all holders;
// but an owner that takes its permit after they fell asleep was only a waiter then.
// Waiters are served in the order of their tickets, so the waiter with the ticket before ours
// is the last one that gets a permit before us, the one before that the last but one,
// and so on. If these leave, those before them are watched by nobody until a server behind them
// scans again, which it does when many have left (Fewer). Each word costs a waiter that is
// woken time before it runs: with 24, of a hand-over of 80 µs some 10.
const neighbours = 4

// Fewer reports whether more than half of the waiters have left the line since the scan.
func (o *Owner) Fewer(since *Findings) bool { return 2*o.Waiters() < since.Others }

// A Word is a word on which waiters sleep (a liveness word, say), and the value that it has
// until they should look.
type Word struct {
	Addr  *uint32
	Value uint32
}

// nearest keeps the slots with the latest tickets.
type nearest struct {
	slots   [neighbours]int32
	tickets [neighbours]uint64
	n       int
	least   int // index of the least ticket, if all neighbours are there
}

func (l *nearest) add(slot int, ticket uint64) {
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
