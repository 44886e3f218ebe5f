package permits

// The summary spares takers the search in a large table that is nearly full: of
// each group of 64 words, but the first, it has a bit that is clear if none of
// them is free. The first group is searched always; small tables have no other.
//
// Who gives a word sees to it, after that, that its bit is set. Who finds none
// free in a group clears the bit, and then searches the group once more: either
// that search finds the word that was given meanwhile, or the giver finds the bit
// clear. Between clearing and searching the bit may be wrong, and stay so if the
// clearer dies or is stopped there. So before that it writes into its slot what it
// is about to clear, and who finds no free word looks there. A giver that dies, or
// is stopped, between freeing and offering has not yet given; the word is found
// by whoever surveys all words: a waiter before it sleeps, the safety net, and who
// looks for the dead.
const groupSize = 64

func groupOf(i int) int { return i / groupSize }

func (h *header) bit(g int) bool { return h.summary[g/64].Load()&(1<<(g%64)) != 0 }

func (h *header) setBit(g int) { h.summary[g/64].Or(1 << (g % 64)) }

// offer lets takers find the word i, which is free.
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

// free returns a free word below n.
func (o *Owner) free(n int) (i int, ok bool) {
	i, ok = o.find(n)
	if !ok && n > groupSize {
		// Somebody may have mended a bit and taken back his intention since we
		// looked at the first and before we looked at the second.
		i, ok = o.find(n)
	}
	return i, ok
}

func (o *Owner) find(n int) (i int, ok bool) {
	if i := int(o.home.Load()); i < n && o.words[i].Load() == 0 {
		return i, true
	}
	// The first group last: it has no bit, and where there are others it is one of
	// many.
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

// clear clears the bit of a group in which a search has found nothing.
func (o *Owner) clear(g, n int) (i int, ok bool) {
	// The searches of one handle may run at the same time, but its slot has
	// room for one intention.
	if !o.clearing.TryLock() {
		return 0, false
	}
	defer o.clearing.Unlock()
	own := &o.slots[o.slot].clearing
	own.Store(uint32(g) + 1)
	o.summary[g/64].And(^uint64(1 << (g % 64)))
	// All of the group's words, those above the limit too: the limit may be
	// raised, and nobody would set the bit.
	i, ok = o.search(g, o.permitsInUse())
	if ok {
		o.setBit(g)
	}
	own.Store(0)
	return i, ok && i < n
}
