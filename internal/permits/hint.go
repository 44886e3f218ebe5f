package permits

// The summary spares takers the search in a large table that is nearly full. It has
// a bit for each group of 64 words, except the first: the bit is clear if none of the
// group's words is free. The first group is always searched; small tables have no
// other.
//
// A giver frees its word first, and then makes sure that the bit of its group is set.
// A taker that finds no free word in a group clears the bit, and then searches the
// group once more: either that search finds a word that was given meanwhile, or the
// giver finds the bit clear and sets it. Between the clearing and the end of the
// second search the bit may be wrong, and it stays wrong if the taker dies or is
// stopped there. So before it clears the bit, the taker writes the group's number
// into its slot, and takers that find no free word also search the groups that slots
// name. A set bit may be wrong at any time; that costs a search.
//
// A giver that dies, or is stopped, after freeing the word and before setting the bit
// has not given yet. Its word is found by every scan of all words: a waiter's before
// it sleeps, the safety net's, and one that looks for dead owners.
const groupSize = 64

func groupOf(i int) int { return i / groupSize }

func (h *header) bit(g int) bool { return h.summary[g/64].Load()&(1<<(g%64)) != 0 }

func (h *header) setBit(g int) { h.summary[g/64].Or(1 << (g % 64)) }

// offer makes sure that takers find the word i, which is free.
func (h *header) offer(i int) {
	if g := groupOf(i); g > 0 && !h.bit(g) {
		h.setBit(g)
	}
}

// search returns a free word of the group below n.
func (t *Table) search(g, n int) (i int, ok bool) {
	for i := g * groupSize; i < min((g+1)*groupSize, n); i++ {
		if t.words[i].Load() == 0 {
			return i, true
		}
	}
	return 0, false
}

// free returns a free word below n, for the handle or for a Permit.
func (o *Owner) free(n int, forPermit bool) (i int, ok bool) {
	if forPermit && n <= groupSize {
		// People see the number of a Permit's word, and are promised the lowest.
		return o.search(0, n)
	}
	i, ok = o.find(n)
	if !ok && n > groupSize {
		// After we read a bit, and before we read the slots, another taker may have
		// set that bit again and have cleared its slot's group number.
		i, ok = o.find(n)
	}
	return i, ok
}

func (o *Owner) find(n int) (i int, ok bool) {
	if i := o.homeWord(); i < n && o.words[i].Load() == 0 {
		return i, true
	}
	// The first group comes last: it has no bit to spare us the search, and in a
	// large table it is only one of many.
	if i, ok := o.searchOthers(n); ok {
		return i, true
	}
	return o.search(0, n)
}

func (o *Owner) searchOthers(n int) (i int, ok bool) {
	if n <= groupSize {
		return 0, false
	}
	last := groupOf(n - 1)
	for w := 0; w <= last/64; w++ {
		if o.summary[w].Load() == 0 {
			continue
		}
		for g := max(1, w*64); g < (w+1)*64 && g <= last; g++ {
			if !o.bit(g) {
				continue
			}
			if i, ok := o.search(g, n); ok {
				return i, true
			}
			if i, ok := o.clear(g, n); ok {
				return i, true
			}
		}
	}
	for s := range o.slotsInUse() {
		if g := int(o.slots[s].clearing.Load()) - 1; g > 0 && g <= last {
			if i, ok := o.search(g, n); ok {
				return i, true
			}
		}
	}
	return 0, false
}

// clear clears the bit of a group in which a search has found nothing, and searches
// the group again.
func (o *Owner) clear(g, n int) (i int, ok bool) {
	// Searches of one handle may run at the same time, but its slot has room for
	// one group number.
	if !o.clearing.TryLock() {
		return 0, false
	}
	defer o.clearing.Unlock()
	own := &o.slots[o.slot].clearing
	own.Store(uint32(g) + 1)
	o.summary[g/64].And(^uint64(1 << (g % 64)))
	// Search all of the group's words, also those above the limit: the limit may be
	// raised, and then nobody would set the bit.
	i, ok = o.search(g, o.permitsInUse())
	if ok {
		o.setBit(g)
	}
	own.Store(0)
	return i, ok && i < n
}
