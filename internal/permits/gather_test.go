package permits

import (
	"slices"
	"testing"
	"time"

	"github.com/procsem/semaphore/internal/testhook"
)

// waitsFor gives an owner a ticket for a waiter that wants n permits, and has it look.
func (w *world) waitsFor(o *Owner, n int) {
	w.t.Helper()
	o.Join()
	if words, ok := o.GatherTurn(o.Ticket(), n); ok {
		w.t.Fatalf("it got %v, and was to wait", words)
	}
}

// gathers has a waiter that wants n look, and fails unless it gets as many permits as wanted.
func gathers(t *testing.T, what string, o *Owner, n int, want int) {
	t.Helper()
	got, ok := o.GatherTurn(ticketOf(o.entry), n)
	if ok != (want > 0) || len(got) != want || !slices.IsSorted(got) {
		t.Errorf("%s: got %v (%v), want %d", what, got, ok, want)
	}
	if ok {
		if o.Leave() {
			o.PassOn(nil, false, nil)
		}
	}
}

// holds fails unless an owner holds so many words.
func (w *world) holds(what string, o *Owner, want int) {
	w.t.Helper()
	n := 0
	for i := range w.table.words {
		if v := w.table.words[i].Load(); v != 0 && slotOf(v) == o.slot {
			n++
		}
	}
	if n != want {
		w.t.Errorf("%s: it holds %d, want %d", what, n, want)
	}
}

// A waiter that wants several takes them as they come back. Those behind it wait until it
// has all, and are called then if more are free.
func TestGather(t *testing.T) {
	w := newWorld(t, 3)
	holder, newcomer, several, behind := w.open(), w.open(), w.open(), w.open()
	w.takes(holder, 3)
	w.waitsFor(several, 2)
	w.waits(behind)
	w.sleeps(several, behind)
	holder.Give()
	if w.slept[several.slot] || !w.slept[behind.slot] {
		t.Errorf("asleep: %v; the one in front was to be woken", w.slept)
	}
	turn(t, "one behind, before the other one looks", behind, false)
	gathers(t, "one is free", several, 2, 0)
	w.holds("after the first permit", several, 1)
	if _, ok := newcomer.TakeHome(); ok {
		t.Error("a newcomer got a permit by its fast path")
	}
	holder.Give()
	if _, ok := newcomer.Take(true); ok {
		t.Error("a newcomer got a permit before one that gathers")
	}
	turn(t, "one behind, and one is free", behind, false)
	w.sleeps(behind)
	holder.Give()
	gathers(t, "two are free", several, 2, 2)
	if w.slept[behind.slot] {
		t.Error("the next one was not called for the permit that is left")
	}
	turn(t, "one behind, when the other one has all", behind, true)
	if w.table.gathering.Load() != 0 {
		t.Error("it gathers still")
	}
}

// Those behind one that wants several leave as many to it as it wants, before it looks.
func TestLeftForSeveral(t *testing.T) {
	for _, n := range []int{3, All} {
		w := newWorld(t, 3)
		holder, several, behind := w.open(), w.open(), w.open()
		w.takes(holder, 3)
		w.waitsFor(several, n)
		w.waits(behind)
		holder.words[0].Store(0)
		holder.words[1].Store(0)
		turn(t, "one behind, and two are free", behind, false)
		holder.order()
		if _, ok := holder.Take(false); ok {
			t.Error("a newcomer got a permit before one that wants three")
		}
	}
}

// Of two that want several only one gathers, whichever is in front meanwhile; those that want one
// pass one that is stopped.
func TestOneGathers(t *testing.T) {
	w := newWorld(t, 3)
	holder, stopped, other, single := w.open(), w.open(), w.open(), w.open()
	w.takes(holder, 3)
	w.waitsFor(stopped, 2)
	w.waitsFor(other, 3)
	w.waits(single)
	for _, o := range []*Owner{other, single} {
		ago(&w.table.slots[o.slot].arrived, time.Hour)
	}
	holder.Give()
	gathers(t, "the first", stopped, 2, 0)
	holder.Give()
	gathers(t, "the second, before the first is late", other, 3, 0)
	ago(&w.table.slots[stopped.slot].calledAt, time.Hour)
	gathers(t, "the second, past one that is late", other, 3, 0)
	w.holds("it must not gather", other, 0)
	w.sleeps(single)
	if !other.Rely() || w.slept[single.slot] {
		t.Error("one that may not gather, and sees a free permit, does not call one that can use it")
	}
	turn(t, "one that wants one, past one that is late", single, true)
	single.Give()
	gathers(t, "the first, late", stopped, 2, 2)
	stopped.GiveAll()
	holder.Give()
	gathers(t, "the second, when the first has gone", other, 3, 3)
}

// One that gathers past one that is late leaves permits to it if it wants one. If it wants several it
// waits, though it is in front.
func TestGathererBehindOthers(t *testing.T) {
	for name, n := range map[string]int{"one": 1, "several": 2} {
		w := newWorld(t, 3)
		holder, late, several := w.open(), w.open(), w.open()
		w.takes(holder, 3)
		if n == 1 {
			w.waits(late)
		} else {
			late.slots[late.slot].want.Store(uint32(n))
			late.several = severalBit
			w.waits(late) // it has not looked yet
		}
		w.waitsFor(several, 2)
		ago(&w.table.slots[several.slot].arrived, time.Hour)
		holder.Give()
		ago(&w.table.slots[late.slot].calledAt, time.Hour)
		gathers(t, "the second, past one that is late", several, 2, 0)
		w.holds("past one that is late", several, 1)
		ago(&w.table.slots[late.slot].calledAt, 0)
		holder.Give()
		if n == 1 {
			gathers(t, "the second, and the first was called", several, 2, 0)
			w.holds("and the first was called", several, 1)
			turn(t, "the first", late, true)
			late.Give()
		} else {
			gathers(t, "the first, which wants "+name, late, n, 0)
			w.holds("though it is in front", late, 0)
			w.sleeps(several)
			if !late.Rely() || w.slept[several.slot] {
				t.Error("the first leaves the permit to the one that gathers, and does not wake it")
			}
		}
		gathers(t, "the second, when the first wants "+name, several, 2, 2)
	}
}

// One that wants several wakes up when another one gathers that was let past it. Those that want one and
// came between the two get what the other one leaves to them, and don't wait for the first.
func TestGathererLeavesToThoseBetween(t *testing.T) {
	w := newWorld(t, 2)
	holder, before, first, single, gatherer := w.open(), w.open(), w.open(), w.open(), w.open()
	w.takes(holder, 2)
	w.waitsFor(before, 2) // it gathers until all others are there
	w.waitsFor(first, 2)
	w.waits(single)
	w.waitsFor(gatherer, 2)
	before.StopGathering(ticketOf(before.entry))
	before.Leave()
	w.table.line[first.slot].Or(calledBit)
	ago(&w.table.slots[first.slot].calledAt, time.Hour)
	ago(&w.table.slots[gatherer.slot].arrived, time.Hour)
	w.table.line[single.slot].Or(calledBit) // it is late, too
	ago(&w.table.slots[single.slot].calledAt, time.Hour)
	gathers(t, "one behind two that are late, and nothing is free", gatherer, 2, 0)
	gathers(t, "the first, awake", first, 2, 0)
	turn(t, "the second, awake", single, false)
	holder.Give()
	gathers(t, "one that leaves a permit to another one", gatherer, 2, 0)
	turn(t, "one that came before the one that gathers", single, true)
	single.Give()
	holder.Give()
	gathers(t, "the one that gathers", gatherer, 2, 2)
	gatherer.GiveAll()
	gathers(t, "the first, when nobody gathers any more", first, 2, 2)
}

// However one ends that gathers, what it has comes back, and the next one that wants several is
// called and gathers.
func TestGatheringEnds(t *testing.T) {
	for name, end := range map[string]func(w *world, helper, o *Owner){
		"its waiter leaves":          func(_ *world, _, o *Owner) { o.StopGathering(ticketOf(o.entry)); o.Leave(); o.PassOn(nil, false, nil) },
		"its handle is closed":       func(_ *world, _, o *Owner) { o.Leave(); o.GiveAll() },
		"it dies, and is reaped":     func(w *world, helper, o *Owner) { w.dies(o); helper.Reap(false) },
		"it dies unseen":             func(w *world, helper, o *Owner) { w.diesUnseen(o); helper.Reap(true) },
		"it dies, its slot is taken": func(w *world, _, o *Owner) { w.dies(o); w.open() },
	} {
		for _, has := range []int{0, 1} {
			w := newWorld(t, 3)
			helper, holder, o, next := w.open(), w.open(), w.open(), w.open()
			w.takes(holder, 3)
			w.waitsFor(o, 3)
			w.waitsFor(next, 2)
			for range has {
				holder.Give()
				gathers(t, name, o, 3, 0)
			}
			w.holds(name, o, has)
			gathers(t, name+": the next one, before that", next, 2, 0)
			w.table.line[next.slot].Store(next.entry)
			w.sleeps(next)
			holder.words[0].Store(0) // it gives one, and is stopped before it notifies
			end(w, helper, o)
			if w.slept[next.slot] {
				t.Errorf("%s, with %d: the next one sleeps on beside free permits", name, has)
			}
			w.holds(name, o, 0)
			if n := w.table.gathers(); n >= 0 {
				t.Errorf("%s: slot %d gathers still", name, n)
			}
			gathers(t, name+": the next one", next, 2, 2*has)
		}
	}
}

// diesUnseen is dies, and the kernel reports nothing.
func (w *world) diesUnseen(o *Owner) {
	w.dies(o)
	o.Live().Store(0)
}

// A waiter watches the one that gathers, also if that holds nothing yet and is not before it in
// the line.
func TestGathererIsWatched(t *testing.T) {
	w := newWorld(t, 3)
	holder, late, o := w.open(), w.open(), w.open()
	w.takes(holder, 3)
	w.waitsFor(late, 2)
	w.waitsFor(o, 2)
	w.table.gathering.Store(o.word)
	f := late.Scan(false, make([]Word, 0, 9))
	if !slices.ContainsFunc(f.Watch, func(v Word) bool { return v.Addr == addressOf(o.Live()) }) {
		t.Error("it is not watched")
	}
}

// A word in the header that names no owner of these days keeps nobody from gathering.
func TestStaleGatherer(t *testing.T) {
	w := newWorld(t, 3)
	holder, gone, o := w.open(), w.open(), w.open()
	w.takes(holder, 3)
	gone.Vacate()
	for name, word := range map[string]uint64{
		"another generation": ownerWord(gone.slot, gone.gen+1),
		"a free slot":        gone.word,
		"no slot":            ownerWord(MaxSlots+7, 1),
		"nonsense":           ^uint64(0),
	} {
		w.table.gathering.Store(word)
		w.waitsFor(o, 2)
		if n := w.table.gathers(); n != o.slot {
			t.Errorf("%s: slot %d gathers, want %d", name, n, o.slot)
		}
		o.StopGathering(ticketOf(o.entry))
		o.Leave()
	}
}

// One that wants more than there are keeps nobody waiting, and keeps no permit; it gets them when the
// limit is raised.
func TestLimitBelowWhatIsWanted(t *testing.T) {
	for how, set := range map[string]func(o *Owner, n int){
		"SetLimit": func(o *Owner, n int) { o.SetLimit(n, true) },
		"Resize":   func(o *Owner, n int) { o.table.Resize(o.host, n) },
	} {
		w := newWorld(t, 3)
		holder, newcomer, o, single := w.open(), w.open(), w.open(), w.open()
		w.takes(holder, 3)
		w.waitsFor(o, 3)
		w.waits(single)
		holder.Give()
		gathers(t, how, o, 3, 0)
		w.sleeps(o)
		set(holder, 2)
		if w.slept[o.slot] {
			t.Errorf("%s: the one that gathers was not called when the limit was lowered", how)
		}
		w.sleeps(single)
		gathers(t, how+": more than there are", o, 3, 0)
		w.holds(how, o, 0)
		holder.Give()
		if w.slept[single.slot] {
			t.Errorf("%s: the one behind it sleeps on", how)
		}
		if !o.Rely() {
			t.Errorf("%s: one that wants too many does not sleep beside a free permit", how)
		}
		turn(t, how+": one behind it", single, true)
		single.Give()
		if i, ok := newcomer.Take(false); !ok {
			t.Errorf("%s: it keeps a permit from newcomers", how)
		} else {
			newcomer.GiveAt(i)
			newcomer.Give()
		}
		holder.Give()
		w.sleeps(o)
		set(holder, 4)
		if w.slept[o.slot] {
			t.Errorf("%s: it sleeps on when the limit is raised", how)
		}
		gathers(t, how+": when the limit is raised", o, 3, 3)
	}
}

// All are as many as the limit says when the last one is taken, at whatever step it is changed.
func TestAllAgainstSetLimit(t *testing.T) {
	for name, set := range map[string][]int{"raised": {4}, "lowered": {2}, "lowered and raised": {1, 5}, "none, and one": {0, 1}} {
		for n := 0; ; n++ {
			w := newWorld(t, 3)
			holder, o := w.open(), w.open()
			w.takes(holder, 3)
			w.waitsFor(o, All)
			for range 3 {
				holder.Give()
			}
			var words []int
			ok, limit := false, 3
			stopped := stopAt(n, func() { words, ok = o.GatherTurn(ticketOf(o.entry), All) }, func() {
				if w.table.gathers() != o.slot {
					return // it had all before
				}
				limit = set[len(set)-1]
				for _, n := range set {
					holder.SetLimit(n, true)
				}
			})
			if ok && len(words) != max(1, limit) {
				t.Errorf("%s at step %d: it has %v of %d", name, n, words, limit)
			}
			if !ok {
				limit, _ = w.table.Limit()
				gathers(t, name, o, All, max(1, limit))
			}
			if f := o.Scan(true, nil); ok && f.Held != len(words) {
				t.Errorf("%s at step %d: %d are held, it has %v", name, n, f.Held, words)
			}
			if !stopped {
				break
			}
		}
	}
}

// One that has all is alone, also if words above a lowered limit are held.
func TestAllWhileTheLimitShrinks(t *testing.T) {
	w := newWorld(t, 3)
	holder, o := w.open(), w.open()
	w.takes(holder, 3)
	w.waitsFor(o, All)
	holder.words[0].Store(0)
	holder.words[1].Store(0)
	gathers(t, "two of three", o, All, 0)
	holder.SetLimit(2, true)
	gathers(t, "while a word above the limit is held", o, All, 0)
	w.sleeps(o)
	holder.Give()
	if w.slept[o.slot] {
		t.Error("it sleeps on when that comes back")
	}
	gathers(t, "when that has come back", o, All, 2)

	// There is nothing to have all of.
	holder.SetLimit(0, true)
	o.GiveAll()
	w.waitsFor(o, All)
	holder.SetLimit(1, true)
	gathers(t, "of one", o, All, 1)
}

// What comes back above a lowered limit is for nobody but one that gathers all, whoever is called first.
func TestAllWhileTheLimitShrinksBehindOthers(t *testing.T) {
	w := newWorld(t, 3)
	holder, late, o := w.open(), w.open(), w.open()
	w.takes(holder, 3)
	w.waits(late)
	w.waitsFor(o, All)
	w.table.line[late.slot].Or(calledBit)
	ago(&w.table.slots[late.slot].calledAt, time.Hour)
	ago(&w.table.slots[o.slot].arrived, time.Hour)
	holder.words[0].Store(0)
	gathers(t, "past one that is late", o, All, 0)
	w.holds("past one that is late", o, 1)
	holder.SetLimit(1, true)
	for range 2 {
		turn(t, "one that was late, and the limit is held", late, false)
		gathers(t, "while words above the limit are held", o, All, 0)
		w.sleeps(late, o)
		holder.Give()
	}
	if w.slept[o.slot] {
		t.Error("it sleeps on when the last word above the limit comes back")
	}
	gathers(t, "when all above the limit has come back", o, All, 1)
}

// What an open file has above the limit comes back by a process without a slot.
func TestAllWhileTheLimitShrinksToAFile(t *testing.T) {
	w := newWorld(t, 3)
	holder, late, o, file := w.open(), w.open(), w.open(), w.open()
	file.Live().Store(0)
	var held []int
	for range 3 {
		i, _ := holder.Take(true)
		held = append(held, i)
	}
	w.waits(late)
	w.waitsFor(o, All)
	w.table.line[late.slot].Or(calledBit)
	ago(&w.table.slots[late.slot].calledAt, time.Hour)
	ago(&w.table.slots[o.slot].arrived, time.Hour)
	holder.GiveAt(held[0])
	gathers(t, "past one that is late", o, All, 0)
	if !holder.HandTo(file, held[2]) {
		t.Fatal("HandTo")
	}
	holder.SetLimit(1, true)
	holder.GiveAt(held[1])
	turn(t, "one that was late, and the limit is held", late, false)
	gathers(t, "while a word above the limit is held", o, All, 0)
	w.sleeps(late, o)
	if n := w.table.End(&process{w}, file.slot); n != 1 || w.slept[o.slot] {
		t.Errorf("%d came back; asleep: %v", n, w.slept)
	}
	gathers(t, "when that has come back", o, All, 1)
}

// One that gathers is woken although it is called already: its caller may have died before it did that.
func TestGathererIsCalledAndNotWoken(t *testing.T) {
	w := newWorld(t, 3)
	holder, single, o := w.open(), w.open(), w.open()
	w.takes(holder, 3)
	w.waitsFor(o, 2) // it gathers before the other one is there
	w.waits(single)
	w.table.line[single.slot].Store(1 << ticketShift) // and is behind it now
	w.sleeps(single, o)
	w.table.line[o.slot].Or(calledBit)
	w.table.slots[o.slot].calledAt.Store(time.Now().UnixNano())
	holder.Give()
	if w.slept[single.slot] || w.slept[o.slot] {
		t.Errorf("asleep: %v, want none", w.slept)
	}
}

// Of what was gathered nothing above a limit is kept that was lowered meanwhile.
func TestGatheredAboveTheLimit(t *testing.T) {
	w := newWorld(t, 4)
	holder, o := w.open(), w.open()
	w.takes(holder, 4)
	w.waitsFor(o, 2)
	holder.words[3].Store(0)
	gathers(t, "the last word", o, 2, 0)
	w.holds("the last word", o, 1)
	holder.SetLimit(3, true)
	holder.words[0].Store(0)
	gathers(t, "after the limit was lowered", o, 2, 0)
	if w.table.words[3].Load() != 0 {
		t.Error("it keeps a word above the limit")
	}
	holder.words[1].Store(0)
	gathers(t, "when two are free", o, 2, 2)
}

// Two that take many while the limit shrinks get no more together than there is room for, at whatever
// step of one the other one comes; what one keeps is below the limit.
func TestManyCountAfterwards(t *testing.T) {
	for n, more := 0, true; more; n++ {
		w := newWorld(t, 5)
		holder, a, b := w.open(), w.open(), w.open()
		w.table.words[4].Store(holder.word)
		holder.SetLimit(3, true)
		var of, others []int
		more = stopAt(n, func() { of = a.takeMany(3) }, func() { others = b.takeMany(3) })
		if len(of)+len(others) > 2 {
			t.Errorf("at step %d: they have %v and %v, and there was room for two", n, of, others)
		}
		a.GiveSeveral(of)
		b.GiveSeveral(others)
		if words := a.takeMany(3); !slices.Equal(words, []int{0, 1}) {
			t.Errorf("after step %d: it has %v, and there is room for two", n, words)
		}
	}
}

// Of many that are taken none is kept above a limit that is lowered meanwhile, though it has room for them.
func TestManyAgainstLowering(t *testing.T) {
	for n, more := 0, true; more; n++ {
		w := newWorld(t, 5)
		holder, o := w.open(), w.open()
		w.table.words[0].Store(holder.word)
		w.table.words[1].Store(holder.word)
		var words []int
		more = stopAt(n, func() { words = o.takeMany(2) }, func() {
			holder.GiveAll()
			holder.SetLimit(2, true)
		})
		held, highest := w.table.held()
		if held != len(words) || more && highest >= 2 {
			t.Errorf("at step %d: it has %v, and %d are held", n, words, held)
		}
	}
}

// TakeSeveral takes n at once or nothing, whatever others do meanwhile, and leaves to those who wait what they want.
func TestTakeSeveral(t *testing.T) {
	w := newWorld(t, 3)
	holder, o, waiter := w.open(), w.open(), w.open()
	takes := func(what string, n int, want []int) {
		t.Helper()
		got, ok := o.TakeSeveral(n)
		if ok != (want != nil) || !slices.Equal(got, want) {
			t.Errorf("%s: got %v (%v), want %v", what, got, ok, want)
		}
		w.holds(what, o, len(want))
		o.GiveSeveral(got)
	}
	takes("all are free", 3, []int{0, 1, 2})
	takes("all are free", All, []int{0, 1, 2})
	takes("too few", 4, nil)
	holder.Take(false)
	takes("two are free", 2, []int{1, 2})
	takes("two are free", 3, nil)
	takes("two are free", All, nil)
	w.waits(waiter)
	takes("two are free, and one waits", 2, nil)
	waiter.Leave()
	for n := 0; ; n++ {
		var got []int
		var ok bool
		stopped := stopAt(n, func() { got, ok = o.TakeSeveral(2) }, func() { holder.Take(false) })
		if ok != (len(got) == 2) {
			t.Errorf("step %d: %v, %v", n, got, ok)
		}
		if !ok {
			w.holds("after it failed", o, 0)
		}
		o.GiveAll()
		holder.GiveAll()
		holder.Take(false)
		if !stopped {
			break
		}
	}
}

// One that was reaped though it lives counts nothing that is not its own any more.
func TestGathererReapedThoughItLives(t *testing.T) {
	w := newWorld(t, 3)
	holder, o, other := w.open(), w.open(), w.open()
	w.takes(holder, 3)
	w.waitsFor(o, 2)
	holder.Give()
	gathers(t, "one", o, 2, 0)
	o.Live().Store(0)
	lock := w.locks[o.slot]
	delete(w.locks, o.slot)
	holder.Reap(true)
	w.locks[o.slot] = lock
	w.takes(other, 1)
	gathers(t, "reaped", o, 2, 0)
	ticket := o.Ticket()
	holder.words[0].Store(0)
	if got, ok := o.GatherTurn(ticket, 2); ok {
		t.Errorf("it has %v, of which one is not its own", got)
	}
}

// The table says how many permits a waiter wants.
func TestWant(t *testing.T) {
	w := newWorld(t, 3)
	holder, one, two, all, none := w.open(), w.open(), w.open(), w.open(), w.open()
	w.takes(holder, 3)
	w.waits(one)
	w.waitsFor(two, 2)
	w.waitsFor(all, All)
	want := map[int]int{holder.slot: 0, one.slot: 1, two.slot: 2, all.slot: All, none.slot: 0}
	for s, h := range w.table.Holders() {
		if h.Want != want[s] {
			t.Errorf("slot %d: Holders: it wants %d, want %d", s, h.Want, want[s])
		}
	}
	for _, h := range w.table.picture().Handles {
		if h.Want != want[h.Slot] {
			t.Errorf("slot %d: the picture: it wants %d, want %d", h.Slot, h.Want, want[h.Slot])
		}
	}
}

// A process that is killed at whatever step of gathering leaves nothing that a reaper does not
// give back.
func TestGathererIsKilled(t *testing.T) {
	for step := 0; ; step++ {
		w := newWorld(t, 3)
		holder, o, next, cleaner := w.open(), w.open(), w.open(), w.open()
		w.takes(holder, 3)
		w.waitsFor(o, 3)
		w.waitsFor(next, All)
		w.sleeps(next)
		for range 3 {
			holder.Give()
		}
		killed, n := false, step
		testhook.Trace = func(uint32) {
			if n--; n == -1 {
				killed = true
				panic("killed")
			}
		}
		func() {
			defer func() { recover() }()
			o.GatherTurn(ticketOf(o.entry), 3)
		}()
		testhook.Trace = nil
		w.dies(o)
		cleaner.Reap(false)
		if w.slept[next.slot] {
			t.Error("nobody was woken")
		}
		gathers(t, "the next one", next, All, 3)
		if !killed {
			break
		}
	}
}

// If somebody writes over the word that says who gathers, no two hold a part each for ever, and nobody waits for one
// that does not gather.
func TestGatheringWrittenOver(t *testing.T) {
	w := newWorld(t, 2)
	holder, a, b := w.open(), w.open(), w.open()
	w.takes(holder, 2)
	w.waitsFor(a, All)
	w.waitsFor(b, All)
	holder.Give()
	gathers(t, "the first, of one", a, All, 0)
	w.holds("the first", a, 1)
	w.table.gathering.Store(0)
	ago(&w.table.slots[a.slot].calledAt, time.Hour)
	w.table.line[a.slot].Or(calledBit)
	ago(&w.table.slots[b.slot].arrived, time.Hour)
	gathers(t, "the second, which begins to gather", b, All, 0)
	holder.Give()
	gathers(t, "the second, of one", b, All, 0)
	gathers(t, "the first, which does not gather any more", a, All, 0)
	gathers(t, "the second", b, All, 2)
	b.GiveAll()

	idle := w.open()
	w.table.gathering.Store(idle.word)
	gathers(t, "one that is said to be blocked by an idle one", a, All, 2)
}

// One that gathers is not late in the moment in which it is called because the limit was set.
func TestGathererIsCalledInTime(t *testing.T) {
	w := newWorld(t, 4)
	holder, gatherer, behind := w.open(), w.open(), w.open()
	w.takes(holder, 4)
	w.waitsFor(gatherer, 2)
	w.waits(behind)
	ago(&w.table.slots[gatherer.slot].calledAt, time.Hour)
	if err := holder.SetLimit(3, true); err != nil {
		t.Fatal(err)
	}
	holder.Give()
	holder.Give()
	ago(&w.table.slots[behind.slot].arrived, time.Hour)
	turn(t, "one behind the one that gathers", behind, false)
}

// A gatherer that has died blocks nobody from being called: whoever is called reaps it.
func TestBlockedByADeadOne(t *testing.T) {
	w := newWorld(t, 2)
	holder, gatherer, blocked := w.open(), w.open(), w.open()
	w.takes(holder, 2)
	w.waitsFor(gatherer, 2)
	w.waitsFor(blocked, 2)
	w.dies(gatherer)
	w.sleeps(blocked)
	holder.Give()
	if w.slept[blocked.slot] {
		t.Error("nobody was called")
	}
	blocked.Scan(false, nil)
	gathers(t, "the one that was blocked", blocked, 2, 0)
	holder.Give()
	gathers(t, "the one that was blocked", blocked, 2, 2)
}

// One that wants more than there are, since the limit was lowered, gathers no more, and another one may.
func TestAnotherGathersUnderALowerLimit(t *testing.T) {
	w := newWorld(t, 3)
	holder, big, other := w.open(), w.open(), w.open()
	w.takes(holder, 3)
	w.waitsFor(big, 3)
	w.waitsFor(other, 2)
	if err := holder.SetLimit(2, true); err != nil {
		t.Fatal(err)
	}
	gathers(t, "one that wants too many", big, 3, 0)
	for range 3 {
		holder.Give()
	}
	gathers(t, "another one", other, 2, 2)
}
