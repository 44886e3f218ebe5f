package permits

import (
	"github.com/procsem/semaphore/internal/futex"
)

// Reaping, which is giving back what a dead owner held, needs no lock. Each word goes,
// by a compare-and-swap, from exactly that owner (slot and generation) to 0. Several
// processes may reap at once, and any of them may be stopped or die in the middle: each
// permit comes back once, and the next scan finds the rest. A process that was stopped
// in the middle and goes on much later can't take permits from the slot's new owner,
// which has another generation.
//
// An owner takes its slot's lock before its first permit, and gives all permits back
// before it drops the lock. So if a word names an owner, and the lock of its slot is
// free after the word was read, the owner is dead. It is also dead if the word's
// generation is not its slot's any more, for only the process that has the slot's lock
// changes the generation.

// Findings are the result of a Scan.
type Findings struct {
	Held  int  // permits that living owners hold
	Free  bool // there is a free permit
	Freed int  // permits of dead owners that were given back
	Again bool // an owner was reaped: what was seen of it before may be outdated
	Ended bool // one of those gathered: permits may be free that were for it
	Dying []DyingOwner
	Watch []Word // liveness words to sleep on
	Err   error  // the last error of the Host

	// Unheard says that there is a living holder or waiter whose exit changes no word of
	// Watch, and none that another waiter watches: it will not be reported, or there was
	// no room.
	Unheard bool
	Others  int // other waiters whose exit will be reported
	Before  int // those of them in slots before the owner's own

	share *share // nil: of all locks that there is a reason to ask for
}

// Back returns how many waiters are to be notified.
func (f *Findings) Back() int {
	if f.Ended {
		return max(f.Freed, 1)
	}
	return f.Freed
}

// A DyingOwner is an owner whose exit the kernel has reported, but whose lock is still
// held: the kernel is not done with the process, or it has become another program
// (exec), or a child has its file.
type DyingOwner struct {
	Slot int
	Gen  uint64
}

// set is a set of slots.
type set [MaxSlots / 64]uint64

func (s *set) add(i int)      { s[i/64] |= 1 << (i % 64) }
func (s *set) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }

// Parts says where the next part of a look at the owners begins: at which slots, of those
// whose exit will be reported and of the others. 0 is the beginning.
type Parts struct{ Reported, Unreported int }

// A share bounds how many locks a scan asks for, of either kind of owners. An owner that is
// not in the share is left as it is, as if it were known to live: that keeps a dead owner's permits taken
// until a later scan, and is never wrong.
type share struct{ reported, unreported part }

// A part goes through the slots upwards, from first on, until nothing is left of it.
type part struct {
	first int
	left  int
	next  int // where the next part begins; 0 if this one came to the end
}

func (p *part) takes(s int) bool {
	switch {
	case s < p.first || p.next > 0:
		return false
	case p.left == 0:
		p.next = s
		return false
	}
	p.left--
	return true
}

// includes reports whether the lock of an owner is to be asked for that has this liveness
// word: if its exit was reported, always.
func (sh *share) includes(s int, live uint32) bool {
	switch {
	case sh == nil || live&futex.OwnerDied != 0:
		return true
	case exitWillBeReported(live):
		return sh.reported.takes(s)
	}
	return sh.unreported.takes(s)
}

// Scan looks at all permits and at all holders and waiters, and reaps the dead ones. It
// asks only for the locks of owners that may be dead: if the kernel will report an
// owner's exit, it asks only if all is set and the owner is a holder. The liveness words
// in which exits will be reported, those of the holders and of the waiters with the
// latest tickets, are appended to watch as far as there is room.
//
// An exit after a liveness word was read changes the word. So a waiter that sleeps only
// while all words have the values that were read misses no exit.
//
// Scan notifies no waiter of the permits that it has given back: the caller must call
// Notify, of as many as Back says.
func (o *Owner) Scan(all bool, watch []Word) Findings { return o.scan(all, watch, nil) }

func (o *Owner) scan(all bool, watch []Word, of *share) Findings {
	f := Findings{Watch: watch, share: of}
	// The line before the words: a waiter that takes a permit in between and leaves the line
	// is seen, for it was there.
	var waiters set
	var ahead nearest
	own := o.line[o.slot].Load()
	for s := range o.slotsInUse() {
		e := o.line[s].Load()
		if e == 0 || s == o.slot {
			continue
		}
		waiters.add(s)
		if exitWillBeReported(o.slots[s].live.Load()) {
			f.Others++
			if s < o.slot {
				f.Before++
			}
		}
		if !hasTicket(e) {
			ahead.add(s, ^uint64(0))
		} else if !hasTicket(own) || e < own {
			ahead.add(s, ticketOf(e))
		}
	}
	var holders set
	if s := o.gathers(); s >= 0 {
		holders.add(s) // others wait for it as they do for a holder
	}
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
	for s := range o.slotsInUse() {
		slot := &o.slots[s]
		switch live := slot.live.Load(); {
		case s == o.slot:
		case holders.has(s):
			o.visit(s, all, true, &f)
		case waiters.has(s) && exitWillBeReported(live):
			// Not all are watched. So one that does not come when it is called may be dead; and where
			// only those that are watched are reported, any.
			if all && (o.exitsUnreported() || o.late(s, o.line[s].Load())) {
				o.visit(s, true, true, &f)
				holders.add(s)
			}
		case waiters.has(s), live&futex.OwnerDied != 0 && slot.reaped.Load() != uint32(slot.gen.Load()):
			o.visit(s, all, waiters.has(s), &f)
		}
	}
	for _, s := range ahead.slots[:ahead.n] {
		if !holders.has(int(s)) && exitWillBeReported(o.slots[s].live.Load()) { // the others were visited
			o.visit(int(s), false, true, &f)
		}
	}
	limit, _ := o.Limit()
	f.Free = f.Held < limit && o.room()
	return f
}

// Reap is Scan, and notifies waiters of the permits that came back.
func (o *Owner) Reap(all bool) Findings { return o.reap(all, nil) }

func (o *Owner) reap(all bool, of *share) Findings {
	f := o.scan(all, nil, of)
	o.Notify(f.Back())
	return f
}

// ReapPart is Reap that asks for the locks of at most n owners whose exit will be reported,
// and of n others; and of all whose exit was reported. With parts as from one call to the next
// it comes to all slots.
func (o *Owner) ReapPart(all bool, from Parts, n int) (f Findings, next Parts) {
	of := &share{part{first: from.Reported, left: n}, part{first: from.Unreported, left: n}}
	f = o.reap(all, of)
	next = Parts{from.Reported, of.unreported.next}
	if all {
		next.Reported = of.reported.next
	}
	return f, next
}

// room reports whether there is a free word below the limit. It does not use the
// summary, and sets the bit of the word that it finds: a giver that died, or is
// stopped, between freeing a word and offering it has left a word that takers don't
// find.
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

// stale reports whether a word's generation is not its slot's. The mark is read after
// the word: an owner's slot is below the mark before the owner takes its first permit.
func (o *Owner) stale(w uint64) bool {
	s := slotOf(w)
	return s >= o.slotsInUse() || o.slots[s].gen.Load() != genOf(w)
}

// visit finds out whether a slot's owner is alive, and reaps it if not. matters says
// that it holds or waits, so that a waiter has to know when it dies.
func (o *Owner) visit(s int, all, matters bool, f *Findings) {
	slot := &o.slots[s]
	gen, entry := slot.gen.Load(), o.line[s].Load()
	if s == o.slot {
		return // our own lock looks free to us
	}
	live := slot.live.Load()
	if exitWillBeReported(live) {
		if len(f.Watch) < cap(f.Watch) {
			f.Watch = append(f.Watch, Word{addressOf(&slot.live), live})
		} else {
			f.Unheard = true
		}
		if !all {
			return
		}
	}
	if !f.share.includes(s, live) {
		return
	}
	alive, err := o.host.Alive(s)
	if err != nil {
		// Where locks are files an owner that leaves its slot removes the file. If a word names it
		// nevertheless, a taker that did not see yet that the handle is closed has taken it, and is
		// about to undo that, or its process has ended before it could. So it goes back as a dead
		// owner's does. The generation is read last: it is the first thing that the slot's next owner
		// changes, so until then neither the lock that we asked for nor the entry was that one's.
		left := slot.state.Load() == slotFree
		if slot.gen.Load() != gen {
			return
		}
		if !left {
			f.Err = err
			return
		}
	}
	if alive {
		f.Unheard = f.Unheard || matters && !exitWillBeReported(live)
		if live&futex.OwnerDied != 0 && matters {
			f.Dying = append(f.Dying, DyingOwner{s, gen})
		}
		return
	}
	// It may have given a permit after we read the permit's word, and have died before
	// it notified a waiter; and its exit will not be reported again. So the caller has
	// to look again.
	f.Again = true
	freed, ended := o.reapOwner(s, gen, entry)
	f.Freed += freed
	f.Held -= freed
	f.Ended = f.Ended || ended
}

// reapOwner gives back what a dead owner held, takes it out of the line, and writes into its
// slot that it was reaped. entry is what the line said before the lock was asked for: only the
// process that has the lock writes a new entry, so the one that wrote this is dead. The slot's
// next owner writes another one, which stays, for tickets and generations are not used twice.
//
// It ends the gathering last. Until then nobody else gathers, and whoever dies in here leaves a
// gatherer that the next scan finds again.
func (o *Owner) reapOwner(s int, gen, entry uint64) (freed int, ended bool) {
	defer o.do(o.do(Reaping))
	slot := &o.slots[s]
	owner := ownerWord(s, gen) >> genShift
	freed = o.sweep(func(w uint64) bool { return w>>genShift == owner })
	if slot.gen.Load() == gen {
		// If the slot has got a new owner since, this sets a bit for nothing.
		o.restore(slot.clearing.Load())
	}
	if now := o.line[s].Load(); (now^entry)&^(calledBit|idleBit) == 0 { // a giver may have called it
		o.line[s].CompareAndSwap(now, 0)
	}
	if slot.gen.Load() == gen {
		slot.reaped.Store(uint32(gen))
	}
	return freed, o.endGathering(ownerWord(s, gen))
}

// Suspects reports whether there are owners that may be dead and were not reaped yet.
// It looks at no permit, so it is quick in a large table.
func (o *Owner) Suspects() bool {
	for s := range o.slotsInUse() {
		if o.Occupied(s) && !exitWillBeReported(o.slots[s].live.Load()) {
			return true
		}
	}
	return false
}

// A Holder is a handle and what it holds.
type Holder struct {
	Identity
	Times
	Permits int
	Waits   bool
	Want    int    // how many permits it waits for, or All; 0 if it does not wait
	Ticket  uint64 // the waiter with the least one came first; 0 if it does not wait
	Arrived int64  // when it came, Unix time in ns
	Doing   Step
}

// Holders returns the handles whose slot is in use. Dead ones are among them until
// their slot has a new owner, to which their permits do not count: it has another generation.
//
// The words are read before the slots. So a handle may have given a permit that is
// counted, and have taken another one, by the time that its Times are read.
func (t *Table) Holders() []Holder {
	held := make(map[uint64]int)
	for i := range t.permitsInUse() {
		if w := t.words[i].Load(); w != 0 {
			held[w>>genShift]++
		}
	}
	var hs []Holder
	for s := range t.slotsInUse() {
		h, gen, ok := t.look(s)
		if ok && t.slots[s].state.Load() == slotUsed {
			h.hold(held[ownerWord(s, gen)>>genShift])
			hs = append(hs, h)
		}
	}
	return hs
}

// hold writes down how many permits a holder has. If it has none its times are of one that it has given back.
func (h *Holder) hold(permits int) {
	if h.Permits = permits; permits == 0 {
		h.Times = Times{}
	}
}
