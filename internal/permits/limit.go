package permits

// The limit's word: the limit, whether it was set by SetLimit, how often the
// word was set, and the flag that says that permits are still held which the
// limit has no room for. All in one word, so that whoever reads it again and finds
// it unchanged knows that nobody has set it in between.
const (
	limitMask    = 1<<16 - 1
	limitSet     = 1 << 16 // by SetLimit
	limitVersion = 1 << 17 // one
	shrinking    = 1 << 63
)

func limitOf(l uint64) int { return int(l & limitMask) }

// A taker may take any free word below the limit, as long as no word above it
// is held: then no more than limit can be. Lowering the limit breaks that, for
// those who hold a word above it keep it. So it sets the flag shrinking, and
// while that is set a taker counts all held words, its own among them, after it
// has taken one, and gives it back if they are too many.
//
// That is enough. Of those who hold a permit at a moment, look at the one whose
// compare-and-swap was the last. All others had theirs then and have it still, so
// its count saw them all; it was not above the limit. (If two count at the same
// time both may find one too many, and both give back, and try again.)
//
// The flag is cleared by a taker who sees no word held above the limit. Who has
// read the word before it was set may take such a word even after that, but reads
// the limit's word again after his compare-and-swap, finds it changed, and gives
// it back. Clearing is a compare-and-swap of the whole word: the version in it
// says that what the clearer has seen was of this limit.

// confirm decides whether the word i, just taken, may be kept.
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

// held counts the words that are not free, and returns the highest of them, -1 if
// there is none.
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

// shrink is what a taker does first while the flag is set. It reports whether
// there is room, and the limit's word, from which it has taken the flag if it is
// not needed any more. Only who finds room may take a word to count again: if
// all did, they would wake each other for ever with words given back.
func (o *Owner) shrink(l uint64) (now uint64, room bool) {
	held, highest := o.held()
	if highest < limitOf(l) {
		if o.limit.CompareAndSwap(l, l&^shrinking) {
			return l &^ shrinking, held < limitOf(l)
		}
		return o.limit.Load(), true
	}
	return l, held < limitOf(l)
}

// Shrinking reports whether more permits may be held than the limit has room for.
func (t *Table) Shrinking() bool { return t.limit.Load()&shrinking != 0 }

// Limit returns the limit, and whether SetLimit has set it.
func (t *Table) Limit() (n int, set bool) {
	l := t.limit.Load()
	return min(limitOf(l), t.permitsInUse()), l&limitSet != 0
}

// SetLimit sets the limit; set says that it is an operator's word. The caller has
// the lock of the claim. Who dies in here leaves the old limit or the new one;
// dying before those are woken for whom there is room now, it leaves that to
// their safety net.
func (o *Owner) SetLimit(n int, set bool) error {
	mark := o.permitsInUse()
	if n > mark {
		if err := o.host.Allocate(wordRange(mark, n)); err != nil {
			return err
		}
		o.permitsMark.Store(uint32(n)) // before the limit: words below that have storage
		mark = n
	}
	old := o.limit.Load()
	// After the mark, so that whoever clears a bit has searched the new words too,
	// and each time, for somebody may have died here.
	for g := groupOf(limitOf(old)); g <= groupOf(n); g++ {
		o.setBit(g)
	}
	if n < limitOf(old) {
		defer o.do(o.do(Shrinking))
	}
	now := uint64(n) | (old&^(limitMask|limitSet)+limitVersion)&^shrinking
	if set {
		now |= limitSet
	}
	if mark > n {
		now |= shrinking
	}
	o.limit.Store(now)
	o.Notify(n - limitOf(old))
	return nil
}
