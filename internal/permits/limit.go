package permits

import "slices"

// The limit's word: the limit, whether SetLimit has set it, how often the word was
// set, the flag ordered, and the flag shrinking, which says that more permits may be held than the
// limit has room for. All are in one word, so that a taker that reads it again and finds it
// unchanged knows that the limit was not set in between.
const (
	limitMask    = 1<<16 - 1
	limitSet     = 1 << 16 // the limit was set by SetLimit
	limitVersion = 1 << 17 // added each time that the word is set
	ordered      = 1 << 62 // newcomers wait in the line; may be set for nothing (see line.go)
	shrinking    = 1 << 63 // words above the limit may be held; may be set for nothing
)

func limitOf(l uint64) int { return int(l & limitMask) }

// As long as no word above the limit is held, a taker may take any free word below
// it: then no more words than the limit can be held. Lowering the limit breaks that,
// because a holder of a word above it keeps the word. So SetLimit sets the flag
// shrinking, and while that is set a taker, after it has taken a word, counts all held
// words, its own among them, and gives its word back if they are too many.
//
// That is enough. Of the holders at a moment, look at the one whose compare-and-swap
// was the last. All others had their words then and have them still, so its count saw
// them all; the count was not above the limit. (If two takers count at the same time,
// both may find one too many, give back, and try again.)
//
// The flag is cleared by a taker that sees no word held above the limit. A taker that
// has read the limit's word before it was set may still take a word above the limit
// after that; but it reads the limit's word again after its compare-and-swap, finds it
// changed, and gives the word back. Clearing is a compare-and-swap of the whole word:
// because of the version in it, it succeeds only if the words were seen under this
// limit.

// confirm decides whether the word i, which was just taken, may be kept.
func (o *Owner) confirm(i int) bool {
	for {
		now := o.limit.Load()
		n := limitOf(now)
		switch {
		case i >= n:
			return false
		case now&shrinking == 0:
			return true
		}
		if held, _ := o.held(); held > n {
			return false
		}
		if o.limit.Load() == now {
			return true
		}
	}
}

// confirmMany decides which of several words may be kept that were just taken, and gives the others back. It
// counts after it has taken the last of them, so its count is as good as one for each would be: it saw
// the words of all other holders, and of what it counted it gives back what is too much.
func (o *Owner) confirmMany(words []int, word uint64) []int {
	slices.Sort(words)
	for {
		now := o.limit.Load()
		n, over := limitOf(now), 0
		if now&shrinking != 0 {
			held, _ := o.held()
			over = held - n
		}
		for ; len(words) > 0 && (over > 0 || words[len(words)-1] >= n); over-- {
			o.undo(words[len(words)-1], word)
			words = words[:len(words)-1]
		}
		if o.limit.Load() == now {
			return words
		}
	}
}

// held returns how many words are not free, and the highest of them, -1 if there is
// none.
func (t *Table) held() (n, highest int) {
	highest = -1
	for i := range t.permitsInUse() {
		if t.words[i].Load() != 0 {
			n++
			highest = i
		}
	}
	return n, highest
}

// shrink is what a taker does first while the flag is set. It returns the limit's
// word, in which it has cleared the flag if that is not needed any more, and for how many
// permits there is room. Only a taker that finds room may take a word and count again: if all
// did, they would wake each other for ever with words that they give back.
func (o *Owner) shrink(l uint64) (now uint64, room int) {
	held, highest := o.held()
	if highest < limitOf(l) {
		if o.limit.CompareAndSwap(l, l&^shrinking) {
			return l &^ shrinking, limitOf(l) - held
		}
		return o.limit.Load(), 1
	}
	return l, limitOf(l) - held
}

// Shrinking reports whether more permits may be held than the limit has room for.
func (t *Table) Shrinking() bool { return t.limit.Load()&shrinking != 0 }

// Limit returns the limit, and whether SetLimit has set it.
func (t *Table) Limit() (n int, set bool) {
	l := t.limit.Load()
	return min(limitOf(l), t.permitsInUse()), l&limitSet != 0
}

// SetLimit sets the limit; set says that an operator has chosen it. The caller has
// the lock of the claim. A process that dies in here leaves the old limit or the new
// one; if it dies before it has woken the waiters for which there is room now, their
// safety net finds that out.
func (o *Owner) SetLimit(n int, set bool) error {
	if n < limitOf(o.limit.Load()) {
		defer o.do(o.do(Shrinking))
	}
	more, err := o.setLimit(o.host, n, set)
	o.Notify(more)
	o.callGatherer(o.host)
	return err
}

// Resize is an operator's SetLimit for a process without a slot. It needs none: a slot
// tells others whose permits to give back and whom to watch, and whoever sets the limit
// neither holds nor waits. So nobody would look at its slot if it died in here.
//
// It notifies as Notify does, but for what that does when it has woken nobody. Then no
// waiter slept: those that live look after the limit was set, for they read the event
// before they look; and to give back what the dead held, and to correct the number of
// waiters, can be left to the owners.
func (t *Table) Resize(host Host, n int) error {
	more, err := t.setLimit(host, n, true)
	t.notify(host, more)
	t.callGatherer(host)
	return err
}

// notify is the Notify of a process without a slot.
func (t *Table) notify(host Host, n int) {
	for range n {
		if t.Waiters() == 0 {
			return
		}
		s, woken := t.callFirst(host)
		for s >= 0 && !woken { // it is awake, or dead
			s, woken = t.callFirst(host)
		}
		if s < 0 {
			return
		}
		t.callGathererBehind(host, s)
	}
}

// ForgetSet takes back that an operator has set the limit: it stays as it is, and the next handle
// that opens the semaphore alone may have another. The caller has the lock of the claim.
func (t *Table) ForgetSet() { t.limit.And(^uint64(limitSet)) }

// setLimit returns by how much the limit has grown: for so many waiters there is room.
func (t *Table) setLimit(host Host, n int, set bool) (more int, err error) {
	mark := t.permitsInUse()
	if n > mark {
		if err := host.Allocate(wordRange(mark, n)); err != nil {
			return 0, err
		}
		t.permitsMark.Store(uint32(n)) // before the limit: words below the limit have storage
		mark = n
	}
	old := t.limit.Load()
	// After the mark: a taker that clears one of these bits from now on has searched
	// the new words too. And each time, because an earlier SetLimit may have died here.
	for g := groupOf(limitOf(old)); g <= groupOf(n); g++ {
		t.setBit(g)
	}
	now := uint64(n) | (old&^(limitMask|limitSet)+limitVersion)&^shrinking
	if set {
		now |= limitSet
	}
	if mark > n {
		now |= shrinking
	}
	t.limit.Store(now)
	return n - limitOf(old), nil
}
