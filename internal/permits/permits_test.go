package permits

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"github.com/procsem/semaphore/internal/futex"
	"github.com/procsem/semaphore/internal/testhook"
)

// What a test does at once is at once, however slow the machine is; what it says was long ago was an
// hour ago.
func TestMain(m *testing.M) {
	passedOver, stuck, asleep = time.Minute, 2*time.Minute, 3*time.Minute
	os.Exit(m.Run())
}

// A world is a table in this process's memory. Its handles die by losing their locks.
// The tests make interleavings by hand: a test does with the words what a handle would
// do up to some instruction, and then lets other handles go on.
type world struct {
	t     *testing.T
	table *Table

	mu    sync.Mutex
	locks map[int]*process
	full  bool // no storage is left
	asked []int
	slept map[int]bool // the slots whose waiters sleep
	woken int

	locksAreFiles bool // a lock that nobody has cannot be asked for: its file was removed
}

// A process is the Host of one handle.
type process struct{ w *world }

func (p *process) Lock(slot int) (bool, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if p.w.locks[slot] != nil {
		return false, nil
	}
	p.w.locks[slot] = p
	return true, nil
}

func (p *process) Alive(slot int) (bool, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.w.asked = append(p.w.asked, slot)
	owner := p.w.locks[slot]
	if owner == nil && p.w.locksAreFiles {
		return false, errRemoved
	}
	return owner != nil && owner != p, nil
}

var errRemoved = errors.New("the lock's file was removed")

var errNoStorage = errors.New("no storage")

func (p *process) Allocate(Range) error {
	if p.w.full {
		return errNoStorage
	}
	return nil
}

func (p *process) Wake(slot int, _ *uint32) bool {
	if !p.w.slept[slot] {
		return false
	}
	delete(p.w.slept, slot)
	p.w.woken++
	return true
}

// waits gives owners tickets, in their order.
func (w *world) waits(os ...*Owner) {
	for _, o := range os {
		o.Join()
		o.stands(o.Ticket())
	}
}

// sleeps has the servers of owners sleep.
func (w *world) sleeps(os ...*Owner) {
	clear(w.slept)
	for _, o := range os {
		w.slept[o.slot] = true
	}
}

func newWorld(t *testing.T, limit int) *world { return newWorldOf(t, limit, ByteLocks) }

func newWorldOf(t *testing.T, limit int, locks Locks) *world {
	memory := make([]uint64, Size/8)
	head := NewHead("x", limit, locks, 1)
	if wrong := head.Check(Size); wrong != "" {
		t.Fatal(wrong)
	}
	copy(memory, head[:])
	return &world{t: t, table: At(unsafe.Pointer(&memory[0])), locks: make(map[int]*process), slept: make(map[int]bool)}
}

func (w *world) open() *Owner {
	w.t.Helper()
	o, err := w.table.Claim(&process{w}, Identity{PID: 1, Opened: 1})
	if err != nil {
		w.t.Fatal(err)
	}
	o.Live().Store(futex.Waiters | uint32(o.slot+1))
	return o
}

// dies is what the kernel does to a handle whose process ends.
func (w *world) dies(o *Owner) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o.Live().Store(futex.Waiters | futex.OwnerDied)
	delete(w.locks, o.slot)
}

// takes takes n permits for the handle, and fails unless there are exactly so many.
func (w *world) takes(o *Owner, n int) {
	w.t.Helper()
	for i := range n {
		if _, ok := o.Take(false); !ok {
			w.t.Fatalf("no permit after %d of %d", i, n)
		}
	}
	if i, ok := o.Take(false); ok {
		w.t.Fatalf("permit %d taken after the %d that there should be", i, n)
	}
}

func TestTakeAndGive(t *testing.T) {
	for _, limit := range []int{1, 64, 65, 10_000, MaxPermits} {
		w := newWorld(t, limit)
		a, b := w.open(), w.open()
		w.takes(a, limit)
		if b.Give() {
			t.Fatal("gave a permit that another handle holds")
		}
		for range limit {
			if i, quiet := a.GiveHome(); i < 0 && !a.Give() {
				t.Fatal("could not give a permit that it holds")
			} else if i >= 0 && !quiet {
				a.Announce(i)
			}
		}
		if a.Give() {
			t.Error("gave more permits than it held")
		}
		w.takes(b, limit)
		if n := b.GiveAll(); n != limit {
			t.Errorf("GiveAll gave %d of %d", n, limit)
		}
	}
}

// Each permit of a dead owner comes back once, however many scan, and none of a living
// owner.
func TestReap(t *testing.T) {
	w := newWorld(t, 200)
	dead, alive, c := w.open(), w.open(), w.open()
	for range 80 {
		dead.Take(false)
		dead.Take(true)
		alive.Take(false)
	}
	if c.Suspects() {
		t.Error("suspects, though all owners live")
	}
	w.dies(dead)
	if !c.Suspects() {
		t.Error("no suspects, though one owner is dead")
	}
	freed := c.Reap(false).Freed + alive.Reap(false).Freed
	const held = 134 // two of three, of 200
	if freed != held {
		t.Errorf("%d came back, want %d", freed, held)
	}
	if c.Suspects() {
		t.Error("suspects, though the dead owner was reaped")
	}
	w.takes(c, held)
	if w.open().slot != dead.slot {
		t.Error("the slot of the dead owner was not used again")
	}
}

// A slot that nobody has is reaped once, whatever it says of who waits in it, and not by
// every scan again.
func TestReapingEnds(t *testing.T) {
	for _, entry := range []uint64{1, 2, 12345, 1 << 63, 1<<64 - 1} {
		w := newWorld(t, 1)
		dead, o := w.open(), w.open()
		w.dies(dead)
		w.table.line[dead.slot].Store(entry)
		if f := o.Scan(false, nil); !f.Again {
			t.Errorf("entry %#x: the dead owner was not found", entry)
		}
		if f := o.Scan(false, nil); f.Again {
			t.Errorf("entry %#x: the dead owner was found again; its entry is %#x now", entry, w.table.line[dead.slot].Load())
		}
	}
}

// A reaper that was stopped after it found the lock free, does not write into the slot of
// the next owner that this does not wait.
func TestLateReaperOfAWaiter(t *testing.T) {
	w := newWorld(t, 1)
	dead, cleaner := w.open(), w.open()
	w.waits(dead)
	entry := w.table.line[dead.slot].Load()
	w.dies(dead)
	next := w.open()
	for name, wait := range map[string]func(){
		"joins": next.Join,
		"waits": func() { next.stands(next.Ticket()) },
	} {
		wait()
		cleaner.reapOwner(dead.slot, dead.gen, entry)
		if next.slot != dead.slot || w.table.line[next.slot].Load() != next.entry {
			t.Errorf("one that %s in slot %d: its entry is %#x, want %#x", name, next.slot, w.table.line[next.slot].Load(), next.entry)
		}
	}
}

// A scan says how many other waiters there are, and whether it knows of an owner of whose
// exit its waiter will not hear.
func TestScanSaysWhoIsHeard(t *testing.T) {
	for _, all := range []bool{false, true} {
		w := newWorld(t, 2)
		holder, first, o, last, idle := w.open(), w.open(), w.open(), w.open(), w.open()
		holder.Take(false)
		for _, waiter := range []*Owner{first, o, last} {
			waiter.Join()
		}
		check := func(what string, room int, unheard bool, others, before int) {
			t.Helper()
			f := o.Scan(all, make([]Word, 0, room))
			if f.Unheard != unheard || f.Others != others || f.Before != before {
				t.Errorf("%s (all %v): unheard %v, %d others, %d of them before; want %v, %d, %d", what, all, f.Unheard, f.Others, f.Before, unheard, others, before)
			}
		}
		check("all exits will be reported", 9, false, 2, 1)
		check("no room for one", 2, true, 2, 1)
		idle.Live().Store(0)
		check("one that neither holds nor waits is not reported", 9, false, 2, 1)
		last.Live().Store(0)
		check("a waiter is not reported", 9, true, 1, 1)
		last.Live().Store(first.Live().Load())
		holder.Live().Store(0)
		check("a holder is not reported", 9, true, 2, 1)
		w.dies(holder)
		w.dies(first)
		o.Scan(all, nil)
		check("after deaths", 9, false, 1, 0)
	}
}

// A process that was stopped while it reaped takes nothing from the slot's next owner.
func TestLateCleaner(t *testing.T) {
	w := newWorld(t, 2)
	dead, cleaner := w.open(), w.open()
	dead.Take(false)
	w.dies(dead)
	next := w.open() // claims the same slot, and sweeps
	if next.slot != dead.slot || next.gen == dead.gen {
		t.Fatalf("slot %d generation %d after slot %d generation %d", next.slot, next.gen, dead.slot, dead.gen)
	}
	next.Take(false)
	if freed, _ := cleaner.reapOwner(dead.slot, dead.gen, dead.gen); freed != 0 {
		t.Errorf("it freed %d", freed)
	}
	if f := cleaner.Reap(true); f.Held != 1 || f.Freed != 0 {
		t.Errorf("%+v, want one held and none freed", f)
	}
	// A word of the old generation, from a taker that was on its way.
	w.table.words[1].CompareAndSwap(0, dead.word)
	if f := cleaner.Reap(false); f.Held != 1 || f.Freed != 1 {
		t.Errorf("%+v, want the stale word freed", f)
	}
}

// A giver that dies between freeing a word and offering it hides it from takers, until
// the next scan.
func TestGiverDiesBeforeOffering(t *testing.T) {
	w := newWorld(t, 128)
	a, b, c := w.open(), w.open(), w.open()
	for range 127 {
		a.Take(false)
	}
	i, _ := b.Take(false)
	if _, ok := c.Take(false); ok || w.table.bit(1) {
		t.Fatal("the bit of the full group was not cleared")
	}
	w.table.words[i].CompareAndSwap(b.word, 0)
	w.dies(b)
	if f := c.Scan(false, nil); !f.Free {
		t.Error("the scan sees no free word")
	}
	w.takes(c, 1)
}

// A taker that dies while it clears a bit hides no word, whether or not its slot has been
// claimed since.
func TestClearerDies(t *testing.T) {
	for _, claimed := range []bool{false, true} {
		w := newWorld(t, 128)
		a, b, c := w.open(), w.open(), w.open()
		w.takes(a, 128)
		w.table.words[100].CompareAndSwap(a.word, 0)
		w.table.slots[b.slot].clearing.Store(1 + 1)
		w.table.summary[0].And(^uint64(2))
		w.takes(c, 1) // the slot names the group to search
		c.Give()
		w.table.summary[0].And(^uint64(2))
		w.dies(b)
		if claimed {
			w.open()
		}
		c.home.Store(0)
		c.Reap(false)
		w.takes(c, 1)
	}
}

// Takers find the words that a higher limit adds, though a taker has just found none in
// their group.
func TestRaiseAgainstClear(t *testing.T) {
	w := newWorld(t, 100)
	a := w.open()
	w.takes(a, 100) // the last search clears the bit
	if err := a.SetLimit(110, true); err != nil {
		t.Fatal(err)
	}
	w.takes(a, 10)
	if err := a.SetLimit(101, true); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		a.Give()
	}
	w.takes(a, 41)
	if err := a.SetLimit(200, true); err != nil {
		t.Fatal(err)
	}
	w.takes(a, 99)
}

func TestSetLimitWithoutStorage(t *testing.T) {
	w := newWorld(t, 3)
	a := w.open()
	w.full = true
	if err := a.SetLimit(4, true); err != errNoStorage {
		t.Errorf("got %v", err)
	}
	if n, set := w.table.Limit(); n != 3 || set {
		t.Errorf("limit %d, set %v, after a SetLimit that has failed", n, set)
	}
	if err := a.SetLimit(2, true); err != nil {
		t.Error(err)
	}
}

// After the limit was lowered holders keep their permits, and no taker gets one until
// there is room, wherever the free words are.
func TestShrinking(t *testing.T) {
	w := newWorld(t, 4)
	low, high, c := w.open(), w.open(), w.open()
	low.Take(false)
	low.Take(false)
	high.Take(false)
	high.Take(false) // 2 and 3
	low.GiveAll()
	c.SetLimit(2, true)
	w.takes(c, 0)
	high.Give()
	w.takes(c, 1)
	high.Give()
	if !w.table.Shrinking() {
		t.Error("the flag was cleared before a taker saw that it was not needed")
	}
	w.takes(low, 1)
	if w.table.Shrinking() {
		t.Error("the flag is still set")
	}
}

// While the limit shrinks, several takers may have seen the room that is for one.
func TestTakersCountAfterwards(t *testing.T) {
	w := newWorld(t, 4)
	high, a, b := w.open(), w.open(), w.open()
	a.SetLimit(2, true)
	w.table.words[3].CompareAndSwap(0, high.word) // held since before the limit was lowered
	w.takes(a, 1)
	w.table.words[1].CompareAndSwap(0, b.word) // it saw one held, too
	if b.Confirm(1) {
		t.Error("a third permit was taken with a limit of two")
	}
	if held, _ := w.table.held(); held != 2 {
		t.Errorf("%d held", held)
	}
}

// A taker that has read the limit before it was lowered finds that out after its
// compare-and-swap, even if the flag was cleared meanwhile.
func TestTakeAgainstLowering(t *testing.T) {
	w := newWorld(t, 4)
	a, b, c := w.open(), w.open(), w.open()
	b.Take(false)
	c.SetLimit(2, true)
	w.takes(c, 1)                              // clears the flag
	w.table.words[3].CompareAndSwap(0, a.word) // it has read a limit of 4
	if a.Confirm(3) {
		t.Error("a permit above the limit was kept")
	}
	if w.table.words[3].Load() != 0 {
		t.Error("the permit above the limit was not given back")
	}
}

// A hand-over must not make a word above the limit, which a taker is about to undo, that
// of a Permit.
func TestHandOverAgainstLowering(t *testing.T) {
	w := newWorld(t, 4)
	a, b, c := w.open(), w.open(), w.open()
	a.Take(false)
	b.Take(false)
	a.home.Store(3)
	c.SetLimit(2, true)
	w.takes(c, 0) // clears the flag
	w.table.words[3].CompareAndSwap(0, a.word)
	if to, err := a.HandOver(0, false, true, Clock()); err != ErrGive {
		t.Errorf("handed over %d, %v", to, err)
	}
	a.Confirm(3)
	if held, _ := w.table.held(); held != 2 {
		t.Errorf("%d held, want 2", held)
	}
}

func TestHandOver(t *testing.T) {
	w := newWorld(t, 2)
	a := w.open()
	if _, err := a.HandOver(0, false, false, Clock()); err != ErrNotHeld {
		t.Errorf("handed over a permit that is not held: %v", err)
	}
	a.Take(false)
	i, err := a.HandOver(0, false, true, Clock())
	if err != nil || a.Give() {
		t.Errorf("%v; the handle still has the permit: %v", err, err == nil)
	}
	if _, err := a.HandOver(i, true, true, Clock()); err != nil {
		t.Error(err)
	}
	if _, err := a.HandOver(i, true, false, Clock()); err != nil || a.GiveAt(i) || !a.Give() {
		t.Errorf("%v, or the Permit still has it", err)
	}
	if _, err := a.HandOver(i, true, true, Clock()); err != ErrNotHeld {
		t.Errorf("handed over a permit that was given: %v", err)
	}
}

// GiveN gives all or none, and calls as many waiters as there are permits for.
func TestGiveN(t *testing.T) {
	w := newWorld(t, 6)
	a, b := w.open(), w.open()
	if _, ok := a.Take(true); !ok {
		t.Fatal("no permit for a Permit")
	}
	w.takesOne(b)
	w.takes(a, 4)
	var waiters []*Owner
	for range 4 {
		waiters = append(waiters, w.open())
	}
	w.waits(waiters...)
	w.sleeps(waiters...)
	if has := a.GiveN(5); has != 4 || w.woken != 0 {
		t.Errorf("GiveN of 5: has %d, want 4; %d woken, want none", has, w.woken)
	}
	if held, _ := w.table.held(); held != 6 {
		t.Errorf("%d held after a GiveN of more than there are, want 6", held)
	}
	if has := a.GiveN(3); has != 3 || w.woken != 3 {
		t.Errorf("GiveN of 3: has %d; %d woken, want 3", has, w.woken)
	}
	if held, _ := w.table.held(); held != 3 {
		t.Errorf("%d held after a GiveN of 3 of 6, want 3", held)
	}
	if has := a.GiveN(2); has != 1 {
		t.Errorf("GiveN of 2: has %d, want 1", has)
	}
	if has := a.GiveN(1); has != 1 || a.Give() {
		t.Errorf("GiveN of the last one: has %d, or it has another one", has)
	}
	if has := a.GiveN(1); has != 0 {
		t.Errorf("GiveN without one: has %d", has)
	}
}

// What GiveN frees takers find, in all groups of a large table.
func TestGiveNInALargeTable(t *testing.T) {
	const limit = 5 * groupSize
	w := newWorld(t, limit)
	a, b := w.open(), w.open()
	w.takes(a, limit)
	w.takes(b, 0) // all groups are clear now
	if has := a.GiveN(limit + 1); has != limit {
		t.Errorf("has %d, want %d", has, limit)
	}
	w.takes(b, 0)
	if has := a.GiveN(limit - 1); has != limit-1 {
		t.Errorf("has %d, want %d", has, limit-1)
	}
	w.takes(b, limit-1)
	if !a.Give() || a.Give() {
		t.Error("it has not kept exactly one")
	}
}

// GiveN needs home's word, which another goroutine gives at the same moment: one of the two gives.
func TestGiveNAgainstGiveHome(t *testing.T) {
	eachWay(func(together func(giveN, other func()) bool) (more bool) {
		w := newWorld(t, 3)
		a := w.open()
		w.takes(a, 3)
		has, home := 0, -1
		more = together(func() { has = a.GiveN(3) }, func() { home, _ = a.GiveHome() })
		held, _ := w.table.held()
		if !(has == 3 && home < 0 && held == 0) && !(has == 2 && home >= 0 && held == 2) {
			t.Errorf("GiveN: %d; GiveHome: %d; %d held", has, home, held)
		}
		return more
	})
}

// A GiveHome has read which word is home before that changed, and swaps while a GiveN goes on: one of the two gives.
func TestGiveNAgainstStaleHome(t *testing.T) {
	for stale := range 2 {
		eachWay(func(together func(giveN, other func()) bool) (more bool) {
			w := newWorld(t, 2)
			a := w.open()
			w.takes(a, 2)
			has, gave := 0, false
			more = together(func() { has = a.GiveN(2) }, func() { gave = a.words[stale].CompareAndSwap(a.word, 0) })
			held, _ := w.table.held()
			if !(has == 2 && !gave && held == 0) && !(has == 1 && gave && held == 1) {
				t.Errorf("GiveN: %d; GiveHome of word %d: %v; %d held", has, stale, gave, held)
			}
			return more
		})
	}
}

// Goroutines of a handle take and give in all ways at once: as many permits are given as were taken.
func TestGiveNCounts(t *testing.T) {
	w := newWorld(t, 4)
	a := w.open()
	var taken, given atomic.Int64
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for n := range 20_000 {
				if i, sure := a.TakeHome(); i >= 0 && (sure || a.Confirm(i)) {
					taken.Add(1)
				} else if _, ok := a.Take(false); ok {
					taken.Add(1)
				}
				if n%2 == 0 && a.GiveN(2) == 2 {
					given.Add(2)
				} else if i, quiet := a.GiveHome(); i >= 0 {
					given.Add(1)
					if !quiet {
						a.Announce(i)
					}
				} else if a.Give() {
					given.Add(1)
				}
			}
		})
	}
	all.Wait()
	held, _ := w.table.held()
	if left := int(taken.Load() - given.Load()); left != held {
		t.Errorf("%d taken and %d given, but %d held", taken.Load(), given.Load(), held)
	}
	// No word is left marked.
	if has := a.GiveN(5); has != held {
		t.Errorf("the handle has %d of the %d held", has, held)
	}
}

// A word that GiveN has counted goes back under it, because it is above the limit: GiveN gives another
// one if there is one, and nobody keeps a word above the limit.
func TestGiveNAgainstUndo(t *testing.T) {
	for n := 1; n <= 4; n++ {
		eachWay(func(together func(giveN, other func()) bool) (more bool) {
			w := newWorld(t, 4)
			a, b := w.open(), w.open()
			w.takesOne(a)
			w.takesOne(a)
			a.home.Store(0)
			b.SetLimit(2, true)
			w.takes(b, 0)                              // clears the flag
			w.table.words[3].CompareAndSwap(0, a.word) // it has read a limit of 4
			has, put := 0, false
			more = together(func() { has = a.GiveN(n) }, func() { put = a.put(3, a.word) })
			if !put {
				a.undoAfterGiveN(3) // as undo does then
			}
			given := 0
			if has == n {
				given = min(n, 2)
			}
			held, highest := w.table.held()
			if held != 2-given || highest >= 2 || has < min(n, 2) {
				t.Errorf("GiveN(%d): %d; %d held, the highest is %d", n, has, held, highest)
			}
			return more
		})
	}
}

// eachWay calls try with the ways in which two operations can come together: one after the other, the second at
// each step of the first, and both in goroutines. try reports whether there are more steps.
func eachWay(try func(together func(do, other func()) bool) (more bool)) {
	for n, more := 0, true; more; n++ {
		more = try(func(do, other func()) bool { return stopAt(n, do, other) })
	}
	for range 200 {
		try(func(do, other func()) bool {
			var both sync.WaitGroup
			both.Go(other)
			do()
			both.Wait()
			return false
		})
	}
}

// In a small table a Permit gets the lowest free word, whichever word the handle took or gave
// last, and for itself the handle takes that one.
func TestPermitsTakeTheLowestWord(t *testing.T) {
	const limit = groupSize
	w := newWorld(t, limit)
	a, b := w.open(), w.open()
	wants := func(what string, o *Owner, forPermit bool, want int) {
		t.Helper()
		if i, ok := o.Take(forPermit); !ok || i != want {
			t.Errorf("%s: took %d, %v, want %d", what, i, ok, want)
		}
	}
	for i := range limit {
		wants("the free words in their order", []*Owner{a, b}[i%2], true, i)
	}
	if i, ok := a.Take(true); ok {
		t.Errorf("took %d, but none is free", i)
	}
	for _, i := range []int{62, 40, 2} {
		if !a.GiveAt(i) {
			t.Fatalf("could not give %d", i)
		}
	}
	wants("of three that were given", b, true, 2)
	wants("of two that were given", a, true, 40)
	a.home.Store(62)
	if i := 38; !a.GiveAt(i) {
		t.Fatalf("could not give %d", i)
	}
	wants("for the handle", a, false, 62)
	wants("the lowest again", a, true, 38)

	// A lowered limit: only words below it.
	for _, i := range []int{10, 50} {
		if !a.GiveAt(i) {
			t.Fatalf("could not give %d", i)
		}
	}
	if err := b.SetLimit(limit-1, true); err != nil {
		t.Fatal(err)
	}
	wants("below a lowered limit", b, true, 10)
	if i, ok := b.Take(true); ok {
		t.Errorf("took %d, but as many as the limit are held", i)
	}
}

// A waiter that dies stays counted until a giver wakes nobody.
func TestWaitersAreHealed(t *testing.T) {
	w := newWorld(t, 1)
	holder, dead, alive := w.open(), w.open(), w.open()
	holder.Take(false)
	w.waits(dead, alive)
	w.dies(dead)
	w.sleeps(alive)
	holder.Give() // wakes alive
	if w.woken != 1 || w.table.Waiters() != 2 {
		t.Errorf("%d woken, %d counted", w.woken, w.table.Waiters())
	}
	if _, ok := alive.TakeTurn(ticketOf(alive.entry), false); !ok {
		t.Error("the waiter that was called got no permit")
	}
	alive.Leave()
	if n := w.table.Waiters(); n != 1 {
		t.Errorf("%d counted, want only the dead one", n)
	}
	alive.Give() // wakes nobody
	if n := w.table.Waiters(); n != 0 {
		t.Errorf("%d counted", n)
	}
	// The number is never below that of the living waiters: here one is joining,
	// and has not counted itself yet.
	alive.line[alive.slot].Store(alive.gen<<ticketShift | joiningBit)
	holder.Join()
	holder.Heal(w.table.waiters.Load())
	if n := w.table.Waiters(); n < 1 {
		t.Errorf("%d counted, though one waits", n)
	}
}

// The slot of an owner that died after it had freed a word, and before it notified a
// waiter, may be claimed before any other process has looked whether it lives.
func TestClaimNotifiesForTheDead(t *testing.T) {
	w := newWorld(t, 1)
	dead, waiter := w.open(), w.open()
	dead.Take(false)
	w.waits(waiter)
	w.sleeps(waiter)
	w.table.words[0].CompareAndSwap(dead.word, 0)
	w.dies(dead)
	if o := w.open(); o.slot != dead.slot {
		t.Fatalf("slot %d was claimed, want %d", o.slot, dead.slot)
	}
	if w.woken != 1 {
		t.Errorf("%d woken", w.woken)
	}
}

// A waiter that leaves notifies another one of what it alone may have been notified of.
func TestLeavePassesOn(t *testing.T) {
	w := newWorld(t, 1)
	holder, leaver, other := w.open(), w.open(), w.open()
	holder.Take(false)
	recent := func(dying []DyingOwner) bool { return len(dying) > 0 }
	w.waits(leaver, other)
	w.sleeps(leaver, other)
	if !leaver.Leave() {
		t.Error("Leave does not report the other waiter")
	}
	leaver.PassOn(nil, false, recent)
	if w.woken != 0 {
		t.Error("it notified another waiter of nothing")
	}
	other.Leave()
	w.waits(leaver, other)
	w.sleeps(leaver, other)
	holder.Give() // wakes the leaver
	if w.slept[leaver.slot] || !w.slept[other.slot] {
		t.Errorf("asleep: %v; the first in the line was to be woken", w.slept)
	}
	w.woken = 0
	if !leaver.Leave() {
		t.Error("Leave does not report that it was called")
	}
	leaver.PassOn(nil, false, recent)
	if w.woken != 1 {
		t.Errorf("%d were notified of the free permit", w.woken)
	}
	if _, ok := other.TakeTurn(ticketOf(other.entry), false); !ok {
		t.Error("the next one got no permit")
	}
	other.Leave()
	other.Give()
	w.takes(holder, 1)
	w.waits(leaver, other)
	live := holder.Live().Swap(futex.Waiters | futex.OwnerDied) // its lock is still held
	w.woken = 0
	w.sleeps(other)
	leaver.Leave()
	leaver.PassOn([]Word{{addressOf(holder.Live()), live}}, false, recent)
	if w.woken != 1 {
		t.Errorf("%d were notified of the death", w.woken)
	}
	// It was called too late: perhaps nobody watches the owner that took the permit.
	other.stands(ticketOf(other.entry))
	w.woken = 0
	w.sleeps(other)
	leaver.unused = true
	leaver.PassOn(nil, false, recent)
	if w.woken != 1 {
		t.Errorf("%d were notified that there is a new holder to watch", w.woken)
	}
	// A giver has freed a word, and died before it called anybody.
	other.stands(ticketOf(other.entry))
	w.woken = 0
	w.sleeps(other)
	holder.words[0].Store(0)
	w.waits(leaver)
	leaver.Leave()
	leaver.PassOn(nil, false, recent)
	if w.woken != 1 {
		t.Errorf("%d were notified of the permit that a dead giver has left", w.woken)
	}
}

// A waiter watches the holders, and of the waiters before it those with the latest tickets.
func TestWatch(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.open(), w.open()
	a.Take(false)
	b.Take(false)
	var waiters []*Owner
	for range 40 {
		o := w.open()
		w.waits(o)
		waiters = append(waiters, o)
	}
	last, later, joining := w.open(), w.open(), w.open()
	w.waits(last, later)
	joining.Join() // may have its ticket already
	waiters = append(waiters, later, joining)
	watched := make(map[*uint32]bool)
	for _, word := range last.Scan(false, make([]Word, 0, 100)).Watch {
		watched[word.Addr] = true
	}
	var got, want []bool
	for _, o := range append([]*Owner{a, b}, waiters...) {
		got = append(got, watched[addressOf(o.Live())])
		n := len(want)
		want = append(want, n < 2 || n >= 2+40-(neighbours-1) && n < 2+40 || n == 2+41)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("watched: holders, then waiters by ticket (-want +got):\n%s", diff)
	}
}

func TestClaim(t *testing.T) {
	w := newWorld(t, 1)
	var all []*Owner
	for range MaxSlots {
		all = append(all, w.open())
	}
	if _, err := w.table.Claim(&process{w}, Identity{}); err != ErrFull {
		t.Errorf("one handle too many: %v", err)
	}
	all[77].Vacate()
	delete(w.locks, 77)
	if o := w.open(); o.slot != 77 || o.gen == all[77].gen {
		t.Errorf("slot %d, generation %d", o.slot, o.gen)
	}
	// The exit of this one is not known.
	delete(w.locks, 1234)
	w.full = true
	if o := w.open(); o.slot != 1234 {
		t.Errorf("slot %d", o.slot)
	}
	if w := newWorld(t, 1); true {
		w.full = true
		if _, err := w.table.Claim(&process{w}, Identity{}); err != errNoStorage {
			t.Errorf("Claim without storage: %v", err)
		}
	}
}

// A process that dies while it claims a slot, or vacates it, leaves one that looks like
// that of a living handle whose exit will not be reported. The next claim takes it.
func TestClaimOfUnreportedSlot(t *testing.T) {
	w := newWorld(t, 1)
	alive, dead := w.open(), w.open()
	dead.Live().Store(0)
	w.mu.Lock()
	delete(w.locks, dead.slot)
	w.mu.Unlock()
	if o := w.open(); o.slot != dead.slot || w.table.Slots() != 2 {
		t.Errorf("slot %d of %d, want that of the dead one, %d", o.slot, w.table.Slots(), dead.slot)
	}
	if alive.Suspects() {
		t.Error("suspects, though all owners live")
	}
}

// The file's format: programs of every version and word size agree on it.
func TestFormat(t *testing.T) {
	var s slot
	var h header
	for name, tt := range map[string][2]uintptr{
		"slot":        {unsafe.Sizeof(s), SlotSize},
		"gen":         {unsafe.Offsetof(s.gen), 8},
		"doing":       {unsafe.Offsetof(s.doing), 16},
		"clearing":    {unsafe.Offsetof(s.clearing), 20},
		"pid":         {unsafe.Offsetof(s.pid), 24},
		"reaped":      {unsafe.Offsetof(s.reaped), 28},
		"started":     {unsafe.Offsetof(s.started), 32},
		"opened":      {unsafe.Offsetof(s.opened), 40},
		"arrived":     {unsafe.Offsetof(s.arrived), 48},
		"calledAt":    {unsafe.Offsetof(s.calledAt), 56},
		"lookout":     {unsafe.Offsetof(s.lookout), 116},
		"version":     {unsafe.Offsetof(h.version), 8},
		"locks":       {unsafe.Offsetof(h.locks), 12},
		"id":          {unsafe.Offsetof(h.id), 16},
		"start, wall": {unsafe.Offsetof(h.started) + unsafe.Offsetof(h.started.wall), 24},
		"start, up":   {unsafe.Offsetof(h.started) + unsafe.Offsetof(h.started.up), 32},
		"start, boot": {unsafe.Offsetof(h.started) + unsafe.Offsetof(h.started.boot), 40},
		"limit":       {unsafe.Offsetof(h.limit), 64},
		"permitsMark": {unsafe.Offsetof(h.permitsMark), 72},
		"slotsMark":   {unsafe.Offsetof(h.slotsMark), 76},
		"waiters":     {unsafe.Offsetof(h.waiters), 128},
		"tickets":     {unsafe.Offsetof(h.tickets), 136},
		"summary":     {unsafe.Offsetof(h.summary), 192},
		"name":        {unsafe.Offsetof(h.name), 320},
		"line":        {lineAt, 4096},
		"slots":       {SlotsAt, 36864},
		"words":       {wordsAt, 561152},
		"size":        {Size, 1085440},
	} {
		if tt[0] != tt[1] {
			t.Errorf("%s: %d, want %d", name, tt[0], tt[1])
		}
	}
	if w := ownerWord(0xabc, 0x123456789abc) | forPermitBit; w != 0x0abc_2468acf13579 || slotOf(w) != 0xabc || genOf(w) != 0x123456789abc {
		t.Errorf("owner %#x: slot %#x, generation %#x", w, slotOf(w), genOf(w))
	}
}

// stopAt calls do, and at the nth step that do traces it calls other, which does what
// another process does meanwhile; if do has fewer steps it calls other afterwards, and
// reports false. Operations have few steps. A mutant that is to be found here brings
// along the step at which it shows (test/mutants).
func stopAt(n int, do, other func()) (stopped bool) {
	testhook.Trace = func(uint32) {
		if n--; n == -1 {
			stopped = true
			other()
		}
	}
	do()
	testhook.Trace = nil
	if !stopped {
		other()
	}
	return stopped
}

// At whatever step of a give a waiter comes, either it finds the permit, or the giver
// finds it counted.
func TestGiveAgainstWait(t *testing.T) {
	for how, give := range map[string]func(o *Owner, i int){
		"Give": func(o *Owner, _ int) { o.Give() },
		"GiveHome": func(o *Owner, _ int) {
			if i, quiet := o.GiveHome(); !quiet {
				o.Announce(i)
			}
		},
		"GiveN":   func(o *Owner, _ int) { o.GiveN(1) },
		"GiveAt":  func(o *Owner, i int) { o.GiveAt(i) },
		"GiveAll": func(o *Owner, _ int) { o.GiveAll() },
	} {
		for n, more := 0, true; more; n++ {
			w := newWorld(t, 1)
			holder, waiter := w.open(), w.open()
			i, _ := holder.Take(how == "GiveAt")
			var got bool
			more = stopAt(n, func() { give(holder, i) }, func() {
				w.waits(waiter)
				_, got = waiter.TakeTurn(ticketOf(waiter.entry), false)
			})
			if entry := waiter.Entry(); !got && *entry.Addr == entry.Value {
				t.Errorf("%s: a waiter that came at step %d sleeps on", how, n)
			}
		}
	}
}

// At whatever step of a take the limit is lowered, either the permit was taken before,
// or the taker keeps none for which the limit has no room.
func TestLoweringAtEachStep(t *testing.T) {
	for how, take := range map[string]func(o *Owner){
		"Take": func(o *Owner) { o.Take(false) },
		"TakeHome": func(o *Owner) {
			if i, sure := o.TakeHome(); i >= 0 && !sure {
				o.Confirm(i)
			}
		},
		"TakeLowest": func(o *Owner) {
			if i, sure := o.TakeLowest(); i >= 0 && !sure {
				o.ConfirmForPermit(i)
			}
		},
	} {
		for n, more := 0, true; more; n++ {
			w := newWorld(t, 4)
			a, b, c := w.open(), w.open(), w.open()
			w.table.words[0].Store(b.word)
			w.table.words[1].Store(b.word)
			a.home.Store(3)
			more = stopAt(n, func() { take(a) }, func() {
				c.SetLimit(2, true)
				c.Take(false) // clears the flag, if it is not needed
			})
			if held, _ := w.table.held(); more && held > 2 {
				t.Errorf("%s: %d held of 2 after lowering at step %d", how, held, n)
			}
		}
	}
}

// Heal does not overlook a waiter that joins meanwhile.
func TestHealAgainstJoin(t *testing.T) {
	for n, more := 0, true; more; n++ {
		w := newWorld(t, 1)
		healer, dead, alive := w.open(), w.open(), w.open()
		dead.Join()
		w.dies(dead)
		healer.Reap(false)
		more = stopAt(n, func() { healer.Heal(w.table.waiters.Load()) }, alive.Join)
		if w.table.Waiters() == 0 {
			t.Errorf("a waiter that came at step %d of Heal is not counted", n)
		}
	}
}

// At whatever step of Join or Leave another process heals, the waiter is counted exactly
// as long as it should be.
func TestJoinAndLeaveAgainstHealing(t *testing.T) {
	for n, more := 0, true; more; n++ {
		w := newWorld(t, 1)
		healer, o := w.open(), w.open()
		healer.Take(false) // so that Leave notifies no waiter, and heals nothing
		heal := func() { healer.Heal(w.table.waiters.Load()) }
		more = stopAt(n, o.Join, heal)
		if got := w.table.Waiters(); got != 1 {
			t.Errorf("%d counted of one, healed at step %d of Join", got, n)
		}
		more = stopAt(n, func() { o.Leave() }, heal) || more
		if got := w.table.Waiters(); got != 0 {
			t.Errorf("%d counted of none, healed at step %d of Leave", got, n)
		}
	}
}

// A taker that clears the flag of a lowered limit has counted under that limit, not under
// an earlier one of the same number.
func TestLoweringTwice(t *testing.T) {
	for n, more := 0, true; more; n++ {
		w := newWorld(t, 4)
		o, high, c, late := w.open(), w.open(), w.open(), w.open()
		c.SetLimit(2, true)
		more = stopAt(n, func() { o.Take(false) }, func() {
			c.SetLimit(4, true)
			high.home.Store(3)
			high.Take(false)
			c.SetLimit(2, true)
		})
		for range 4 {
			late.Take(false)
		}
		if held, _ := w.table.held(); held > 2 {
			t.Errorf("%d held of 2 after lowering at step %d", held, n)
		}
	}
}

// A taker that is killed between clearing a bit and searching again hides no word that
// was given before it cleared the bit.
func TestClearerIsKilled(t *testing.T) {
	w := newWorld(t, 128)
	a, clearer, c := w.open(), w.open(), w.open()
	w.takes(a, 128)
	w.table.setBit(1)
	testhook.Trace = func(uint32) {
		w.table.words[100].Store(0) // the giver found the bit set
		panic("killed")
	}
	func() {
		defer func() { recover() }()
		clearer.Take(false)
	}()
	testhook.Trace = nil
	if w.table.words[100].Load() == 0 {
		w.takes(c, 1)
	}
}

// Whatever gives back permits of others notifies as many waiters as there are permits.
func TestReapingNotifies(t *testing.T) {
	for how, reap := range map[string]func(w *world, o *Owner){
		"Reap":  func(_ *world, o *Owner) { o.Reap(false) },
		"Claim": func(w *world, _ *Owner) { w.open() },
		"SetLimit, which makes room": func(_ *world, o *Owner) {
			o.SetLimit(5, true)
		},
		"Resize, which makes room": func(w *world, _ *Owner) {
			w.table.Resize(&process{w}, 5)
		},
		"GiveAll": func(_ *world, o *Owner) { o.GiveAll() },
	} {
		w := newWorld(t, 4)
		dead, o, a, b := w.open(), w.open(), w.open(), w.open()
		for range 2 {
			dead.Take(false)
			o.Take(false)
		}
		w.waits(a, b)
		w.sleeps(a, b)
		want := 2
		switch how {
		case "SetLimit, which makes room", "Resize, which makes room":
			want = 1
		case "Reap", "Claim":
			w.dies(dead)
		}
		reap(w, o)
		if w.woken != want {
			t.Errorf("%s: %d of two sleeping waiters were woken, want %d", how, w.woken, want)
		}
	}
}

// The kernel's report of an exit does not decide: as long as the lock is held, another
// thread of the dying process may still run.
func TestReportBeforeTheLock(t *testing.T) {
	w := newWorld(t, 1)
	dying, o := w.open(), w.open()
	dying.Take(false)
	dying.Live().Store(futex.Waiters | futex.OwnerDied)
	f := o.Reap(true)
	if f.Freed != 0 || f.Held != 1 || len(f.Dying) != 1 || f.Dying[0] != (DyingOwner{dying.slot, dying.gen}) {
		t.Errorf("%+v, want one held, by a dying owner", f)
	}
	w.takes(o, 0)
	w.dies(dying)
	if f := o.Reap(false); f.Freed != 1 || len(f.Dying) != 0 {
		t.Errorf("%+v, want one freed", f)
	}
}

// A look by parts asks for a bounded number of locks at a time, and comes to all.
func TestReapPart(t *testing.T) {
	const (
		owners     = 300
		unreported = 100 // of them
		most       = 64
	)
	w := newWorld(t, owners)
	var all []*Owner
	for i := range owners {
		o := w.open()
		w.takesOne(o)
		if i%3 == 0 {
			o.Live().Store(0)
		}
		all = append(all, o)
	}
	o := w.open()
	var from Parts
	looked := make(map[int]int)
	part := func(all bool, wanted int) (f Findings) {
		t.Helper()
		w.asked = nil
		f, from = o.ReapPart(all, from, most)
		if len(w.asked) > wanted {
			t.Errorf("%d locks were asked for, want at most %d", len(w.asked), wanted)
		}
		for _, s := range w.asked {
			looked[s]++
		}
		return f
	}
	pass := func() {
		t.Helper()
		clear(looked)
		from = Parts{}
		for i := 0; i == 0 || from.Reported > 0; i++ {
			part(true, 2*most)
		}
	}
	pass()
	for _, other := range all {
		if looked[other.slot] == 0 {
			t.Errorf("slot %d was not looked at", other.slot)
		}
		if other.Live().Load() != 0 && looked[other.slot] != 1 {
			t.Errorf("slot %d was looked at %d times in a pass, want 1", other.slot, looked[other.slot])
		}
	}

	// Only those whose exit is not reported, and those that are reported dead, wherever
	// the look has arrived.
	from = Parts{}
	clear(looked)
	for range (unreported + most - 1) / most {
		part(false, most)
	}
	if len(looked) != unreported || from.Unreported != 0 {
		t.Errorf("%d owners were looked at, and the next part begins at %d; want %d and 0", len(looked), from.Unreported, unreported)
	}
	part(false, most) // from here on it is past the first slots
	w.dies(all[1])
	if f := part(false, most+1); f.Freed != 1 || from.Reported != 0 {
		t.Errorf("of one that was reported dead %d permits were freed, want 1", f.Freed)
	}

	// What is not reported is found in a pass.
	for _, dead := range []*Owner{all[owners-1], all[owners-3]} {
		live := dead.Live().Load()
		w.dies(dead)
		dead.Live().Store(live)
		pass()
		if o.table.HoldsOrWaits(dead.slot) {
			t.Errorf("slot %d has its permit still after a pass", dead.slot)
		}
	}
}

// takesOne takes one permit of several for the handle.
func (w *world) takesOne(o *Owner) {
	w.t.Helper()
	if _, ok := o.Take(false); !ok {
		w.t.Fatal("no permit")
	}
}

// A taker that did not see yet that its handle is closed takes a permit after the handle has
// left its slot, and its process ends before it has undone that. The permit comes back. Of an
// owner that has not left its slot nobody knows, if its lock cannot be asked for.
func TestTakenAfterClose(t *testing.T) {
	for name, locksAreFiles := range map[string]bool{"bytes": false, "files": true} {
		w := newWorld(t, 2)
		w.locksAreFiles = locksAreFiles
		o, closed, unknown := w.open(), w.open(), w.open()
		closed.Live().Store(0)
		closed.Vacate()
		delete(w.locks, closed.slot)
		if i, _ := closed.TakeHome(); i < 0 {
			t.Fatal("it has taken no permit")
		}
		if f := o.Reap(true); f.Freed != 1 || f.Err != nil {
			t.Errorf("locks are %s: %d permits came back, want 1; error %v", name, f.Freed, f.Err)
		}
		if !locksAreFiles {
			continue
		}
		w.takesOne(unknown)
		delete(w.locks, unknown.slot)
		if f := o.Reap(true); f.Freed != 0 || f.Err != errRemoved {
			t.Errorf("its lock was removed: %d permits came back, want none; error %v", f.Freed, f.Err)
		}
	}
}

// A waiter that nobody counts counts itself again.
func TestCountAgain(t *testing.T) {
	w := newWorld(t, 1)
	holder, waiter := w.open(), w.open()
	w.takes(holder, 1)
	w.waits(waiter)
	for _, counted := range []uint64{0, 7 << 32} {
		w.table.waiters.Store(counted)
		waiter.CountAgain()
		waiter.CountAgain()
		if n := w.table.Waiters(); n != 1 {
			t.Errorf("%#x: %d are counted, want 1", counted, n)
		}
	}
	w.sleeps(waiter)
	holder.Give()
	if w.slept[waiter.slot] {
		t.Error("it was not notified")
	}
}
