package permits

// An owner may be an open file that some other program has, a shell script say: its slot's lock belongs
// to that open file, and nobody acts for it. It holds what was handed to it, waits for
// nothing, and its exit is not reported: waiters ask for its lock.

// HandTo makes another owner of the table the owner of the permit i, which was taken for a Permit. It
// reports false if the permit is not held any more.
//
// The word goes from one living owner to another, so at no moment is it free. Waiters that sleep watch
// the owner that had it. One of them is called, which sees in its scan that the present owner's exit
// will not be reported, and from then on looks by itself.
func (o *Owner) HandTo(to *Owner, i int) bool {
	if !o.words[i].CompareAndSwap(o.word|forPermitBit, to.word) {
		return false
	}
	o.Notify(1)
	return true
}

// End gives back what a slot's owner holds, frees the slot and notifies waiters. It returns how many
// permits came back. The caller has the lock of the claim, and drops the slot's lock afterwards. If it
// dies in here, the owner goes on with what is left.
func (t *Table) End(host Host, s int) (freed int) {
	slot := &t.slots[s]
	owner := ownerWord(s, slot.gen.Load()) >> genShift
	freed = t.sweep(func(w uint64) bool { return w>>genShift == owner })
	slot.state.Store(slotFree)
	t.notify(host, freed)
	return freed
}

// ByFile reports whether a slot's owner is an open file.
func (t *Table) ByFile(s int) bool { return t.slots[s].byFile.Load() != 0 }

// Held returns how many permits a slot's owner holds.
func (t *Table) Held(s int) (n int) {
	owner := ownerWord(s, t.slots[s].gen.Load()) >> genShift
	for i := range t.permitsInUse() {
		if t.words[i].Load()>>genShift == owner {
			n++
		}
	}
	return n
}
