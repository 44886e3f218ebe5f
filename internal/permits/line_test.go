package permits

import (
	"fmt"
	"testing"
	"time"
)

// turn has a waiter look for a permit, and fails unless it gets one or not, as wanted.
func turn(t *testing.T, what string, o *Owner, want bool) {
	t.Helper()
	_, got := o.TakeTurn(ticketOf(o.entry), false)
	if got != want {
		t.Errorf("%s: got a permit %v, want %v", what, got, want)
	}
	if got {
		o.Leave()
	}
}

// ago makes the time that a slot tells longer ago.
func ago(at interface{ Store(int64) }, d time.Duration) { at.Store(time.Now().Add(-d).UnixNano()) }

// Waiters are served in the order of their tickets, in whatever order they look.
func TestLine(t *testing.T) {
	w := newWorld(t, 2)
	holder, a, b, c := w.open(), w.open(), w.open(), w.open()
	w.takes(holder, 2)
	w.waits(b, a, c)
	w.sleeps(a, b, c)
	holder.Give()
	if w.slept[b.slot] || !w.slept[a.slot] || !w.slept[c.slot] {
		t.Errorf("asleep: %v; the first was to be woken", w.slept)
	}
	turn(t, "the second", a, false)
	holder.Give()
	if w.slept[a.slot] || !w.slept[c.slot] {
		t.Errorf("asleep: %v; the second was to be woken, for the first is called already", w.slept)
	}
	turn(t, "the third", c, false)
	turn(t, "the second, called", a, true)
	turn(t, "the first", b, true)
	turn(t, "the third, and none is left", c, false)
	a.Give()
	turn(t, "the third, called", c, true)
	if n := w.table.Waiters(); n != 0 {
		t.Errorf("%d wait", n)
	}
}

// A waiter that is in front takes what is free without being called, and others don't. One
// that is dead, or whose handle has no waiter, is not in front; nor does its call count as one that was not heeded.
func TestFront(t *testing.T) {
	for name, end := range map[string]func(w *world, o *Owner){
		"left":    func(_ *world, o *Owner) { o.Leave() },
		"dead":    func(w *world, o *Owner) { w.dies(o) },
		"in vain": func(_ *world, o *Owner) { o.Vain() },
	} {
		w := newWorld(t, 1)
		joining, a, b, c := w.open(), w.open(), w.open(), w.open()
		joining.Join() // its ticket is yet to come
		w.waits(a, b, c)
		w.table.line[a.slot].Or(calledBit)
		ago(&w.table.slots[a.slot].calledAt, 0)
		turn(t, name+": the second", b, false)
		end(w, a)
		ago(&w.table.slots[a.slot].calledAt, time.Hour)
		turn(t, name+": the third", c, false)
		turn(t, name+": the second, which is in front now", b, true)
	}
}

// One that is called takes no permit that is for those before it, called or not: whoever called it
// has seen one more.
func TestCalledBehindOthers(t *testing.T) {
	for name, before := range map[string]uint64{"called": calledBit, "not called": 0} {
		w := newWorld(t, 3)
		holder, newcomer, a, b, c := w.open(), w.open(), w.open(), w.open(), w.open()
		w.takes(holder, 3)
		w.waits(a, b, c)
		holder.Give()
		holder.Give()
		holder.Give()
		for range 2 { // before they look
			newcomer.Take(false)
		}
		w.table.line[a.slot].Store(a.entry | before)
		turn(t, name+": the third", c, false)
		turn(t, name+": the second", b, false)
		newcomer.Give()
		turn(t, name+": the third, and two are free", c, false)
		turn(t, name+": the second, and two are free", b, true)
		turn(t, name+": the first", a, true)
	}
}

// A waiter whose place in the line changes, because the goroutine that stood there has gone,
// leaves what that was called for to another one.
func TestCallOfOneThatHasGone(t *testing.T) {
	w := newWorld(t, 1)
	holder, a, b := w.open(), w.open(), w.open()
	w.takes(holder, 1)
	w.waits(a, b)
	later := a.Ticket()
	w.sleeps(a, b)
	holder.Give()
	if _, ok := a.TakeTurn(later, false); ok {
		t.Error("it got a permit before one that came earlier")
	}
	if a.Rely() {
		t.Error("the permit is left to nobody")
	}
	a.Notify(1)
	if w.slept[b.slot] {
		t.Error("the call was not passed on")
	}
	turn(t, "the one that came earlier", b, true)
	b.Give()
	turn(t, "the later one", a, true)
}

// A handle is listed as a waiter once nobody that comes later can be before it.
func TestListedWithItsPlace(t *testing.T) {
	w := newWorld(t, 1)
	o := w.open()
	listed := func(what string, want bool) {
		t.Helper()
		if hs := w.table.Holders(); hs[0].Waits != want {
			t.Errorf("%s: Holders lists it as a waiter: %v, want %v", what, hs[0].Waits, want)
		}
		if got := len(w.table.picture().Handles) == 1; got != want {
			t.Errorf("%s: it is in the picture: %v, want %v", what, got, want)
		}
	}
	for _, begin := range []func(){o.Join, func() { o.Poll(true) }} {
		begin()
		listed("joining", false)
		o.stands(o.Ticket())
		listed("with its ticket", true)
		o.Vain()
		listed("without a waiter", false)
		o.line[o.slot].Store(0)
	}
}

// Newcomers take no permit past those who have waited for a while, until nobody waits. A flag
// that was left behind is cleared.
func TestNewcomers(t *testing.T) {
	for name, leave := range map[string]func(w *world, o *Owner){
		"leaves":     func(_ *world, o *Owner) { o.Leave() },
		"dies":       func(w *world, o *Owner) { w.dies(o) },
		"is idle":    func(_ *world, o *Owner) { o.Vain() },
		"is stopped": func(w *world, o *Owner) { ago(&w.table.slots[o.slot].calledAt, time.Hour) },
	} {
		w := newWorld(t, 1)
		holder, waiter, newcomer := w.open(), w.open(), w.open()
		w.takes(holder, 1)
		w.waits(waiter)
		holder.Give()
		if _, ok := newcomer.Take(false); !ok {
			t.Errorf("%s: a newcomer got no permit past one that had just come", name)
		}
		ago(&w.table.slots[waiter.slot].arrived, time.Hour)
		turn(t, "one that came too late", waiter, false)
		newcomer.Give()
		if _, ok := newcomer.TakeHome(); ok {
			t.Errorf("%s: a newcomer got a permit by its fast path", name)
		}
		if _, ok := newcomer.TakeLowest(); ok {
			t.Errorf("%s: a newcomer got a permit by Acquire's fast path", name)
		}
		if _, ok := newcomer.Take(false); ok {
			t.Errorf("%s: a newcomer got a permit past one that waits", name)
		}
		leave(w, waiter)
		if _, ok := newcomer.Take(false); !ok {
			t.Errorf("%s: a newcomer got no permit though nobody waits", name)
		}
		newcomer.Give()
		if i, _ := newcomer.TakeHome(); i < 0 && name != "is stopped" {
			t.Errorf("%s: the flag is still set", name)
		}
	}
}

// clocksDiffer allows for the time of day being set a little while a test reckons with Clock.
const clocksDiffer = time.Second

// A handle's next waiter has waited since it began, and not since the one before it was served.
func TestNextWaiterHasWaited(t *testing.T) {
	w := newWorld(t, 1)
	holder, o := w.open(), w.open()
	w.takes(holder, 1)
	o.Join()
	for _, waited := range []time.Duration{2 * time.Hour, time.Hour} {
		before := time.Now().Add(-waited)
		o.Began(Clock() - waited)
		after := time.Now().Add(-waited)
		o.TakeTurn(o.Ticket(), false)
		if got := time.Unix(0, w.table.slots[o.slot].arrived.Load()); got.Before(before.Add(-clocksDiffer)) || got.After(after.Add(clocksDiffer)) {
			t.Errorf("it waits since %v, want %v to %v", got, before, after)
		}
	}
}

// Newcomers may pass again, although others wait, when the first one is served and has not waited for long.
func TestNewcomersPassAgain(t *testing.T) {
	for name, set := range map[string]struct {
		long, behind, behindLong bool
		pass                     bool
	}{
		"the first, at once":            {pass: true},
		"the first, after long":         {long: true},
		"the first, one behind it long": {behindLong: true},
		"one behind the first, at once": {behind: true},
	} {
		w := newWorld(t, 3)
		holder, first, second := w.open(), w.open(), w.open()
		w.takes(holder, 3)
		w.waits(first, second)
		holder.order()
		served := first
		if set.behind {
			served = second
		}
		if set.long {
			ago(&w.table.slots[served.slot].arrived, time.Hour)
		}
		if set.behindLong {
			ago(&w.table.slots[second.slot].arrived, time.Hour)
		}
		for range 3 {
			holder.Give()
		}
		turn(t, name, served, true)
		if pass := w.table.limit.Load()&ordered == 0; pass != set.pass {
			t.Errorf("%s: newcomers may pass: %v", name, pass)
		}
	}
}

// A waiter that was called long ago, and has not looked since, keeps nobody waiting, however
// many there are like it.
func TestStuck(t *testing.T) {
	w := newWorld(t, 1)
	holder, stopped, alike, awake := w.open(), w.open(), w.open(), w.open()
	w.takes(holder, 1)
	w.waits(stopped, alike, awake)
	holder.Give()
	turn(t, "one behind others", awake, false)
	if !awake.Rely() {
		t.Error("a free permit is not left to the one that is called")
	}
	ago(&w.table.slots[stopped.slot].calledAt, time.Hour)
	if awake.Rely() {
		t.Error("a free permit is left to one that is stuck")
	}
	holder.order()
	if _, ok := holder.Take(false); ok {
		t.Error("a newcomer takes a permit past those who wait because one of them is stuck")
	}
	turn(t, "one that has just come behind one that is stuck", awake, false)
	ago(&w.table.slots[awake.slot].arrived, time.Hour)
	turn(t, "one that waits behind one that is stuck", awake, true)
	awake.Give() // calls alike
	turn(t, "one that was called, and looks late", stopped, true)
	stopped.Give()
	turn(t, "the next one", alike, true)
	if _, ok := holder.Take(false); ok {
		t.Error("there is more than one permit")
	}
}

// Newcomers leave a free permit to nobody if all who wait are stuck.
func TestAllStuck(t *testing.T) {
	w := newWorld(t, 1)
	holder, stopped := w.open(), w.open()
	w.takes(holder, 1)
	w.waits(stopped)
	holder.order()
	holder.Give()
	if _, ok := holder.Take(false); ok {
		t.Error("a newcomer got a permit past one that was just called")
	}
	ago(&w.table.slots[stopped.slot].calledAt, time.Hour)
	if _, ok := holder.Take(false); !ok {
		t.Error("a newcomer leaves a free permit to one that is stuck")
	}
}

// If the number of tickets is written over, the next ones still are in their order, and nobody waits
// for itself.
func TestTicketsWrittenOver(t *testing.T) {
	for _, last := range []uint64{1 << 59, 1<<60 - 1, 1 << 60, 1 << 62, 1<<64 - 1} {
		w := newWorld(t, 1)
		holder, a, b := w.open(), w.open(), w.open()
		w.takes(holder, 1)
		w.table.tickets.Store(last)
		w.waits(a, b)
		holder.Give()
		for i, o := range []*Owner{a, b} {
			if i == 0 {
				turn(t, fmt.Sprintf("after ticket %#x, the second", last), b, false)
			}
			turn(t, fmt.Sprintf("after ticket %#x, number %d", last, i), o, true)
			o.Give()
		}
	}
}

// A clock that was set back keeps nobody waiting.
func TestClockSetBack(t *testing.T) {
	w := newWorld(t, 1)
	holder, first, second := w.open(), w.open(), w.open()
	w.takes(holder, 1)
	w.waits(first, second)
	holder.Give()
	turn(t, "one behind another", second, false)
	ago(&w.table.slots[first.slot].calledAt, -time.Hour)
	turn(t, "one behind another that was called in the future", second, true)
	first.stands(ticketOf(first.entry))
	ago(&w.table.slots[first.slot].arrived, -time.Hour)
	second.Give()
	if _, ok := holder.Take(false); ok {
		t.Error("a newcomer got a permit past one that came in the future")
	}
}

// A waiter whose caller died before it was woken is woken by the next one that gives, however
// long ago that was.
func TestLongCalledAndNotWoken(t *testing.T) {
	w := newWorld(t, 2)
	giver, stopped, asleep, other := w.open(), w.open(), w.open(), w.open()
	w.takes(giver, 2)
	w.waits(stopped, asleep, other)
	for _, o := range []*Owner{stopped, asleep} {
		w.table.line[o.slot].Or(calledBit)
		ago(&w.table.slots[o.slot].calledAt, time.Hour)
	}
	w.sleeps(stopped, asleep, other)
	giver.Give()
	if w.slept[stopped.slot] || w.slept[other.slot] {
		t.Errorf("asleep: %v; the first and the one that is called now were to be woken", w.slept)
	}
	giver.Give() // nobody is left to be called
	if w.slept[asleep.slot] {
		t.Error("one that was called long ago sleeps on beside a free permit")
	}
}

// A waiter that has looked in vain, and is called before it sleeps, calls nobody for the permit
// that it sees: it is its own.
func TestCalledBeforeItSleeps(t *testing.T) {
	w := newWorld(t, 1)
	holder, a, b := w.open(), w.open(), w.open()
	w.takes(holder, 1)
	w.waits(a, b)
	turn(t, "the first, in vain", a, false)
	holder.Give()
	if !a.Rely() {
		t.Error("it does not rely on its own call")
	}
	turn(t, "the first", a, true)
}

// A dead waiter whose exit was not reported, though its liveness word says that it would be, keeps
// no permit from TryWait: where only those that are watched are reported, and also if
// it was called.
func TestUnreportedInLine(t *testing.T) {
	for name, locks := range map[string]Locks{"watched": RangeLocks, "reported by the kernel": ByteLocks} {
		w := newWorldOf(t, 1, locks)
		holder, dead, newcomer := w.open(), w.open(), w.open()
		w.takes(holder, 1)
		w.waits(dead)
		ago(&w.table.slots[dead.slot].arrived, time.Hour)
		delete(w.locks, dead.slot) // and its liveness word is as it was
		holder.Give()
		ago(&w.table.slots[dead.slot].calledAt, time.Hour)
		newcomer.Reap(true)
		if _, ok := newcomer.Take(false); !ok || w.table.line[dead.slot].Load() != 0 {
			t.Errorf("%s: a dead one in the line (entry %#x) keeps the permit", name, w.table.line[dead.slot].Load())
		}
	}
}

// An owner that lives, and was reaped since somebody has found its lock free, does not insist on its place.
func TestReapedThoughItLives(t *testing.T) {
	w := newWorld(t, 1)
	o, other := w.open(), w.open()
	w.waits(o)
	ticket := ticketOf(o.entry)
	o.Live().Store(0)
	delete(w.locks, o.slot)
	if f := other.Scan(true, nil); !f.Again {
		t.Fatal("it was not reaped")
	}
	w.takes(other, 1)
	for range 3 {
		if _, ok := o.TakeTurn(ticket, false); ok {
			t.Error("it got a permit that is not free")
		}
		if f := other.Scan(true, nil); f.Again {
			t.Error("it was reaped again")
		}
		if e := o.Entry(); *e.Addr != e.Value {
			t.Error("it would not sleep")
		}
		w.table.line[o.slot].Store(12345 << 32) // by somebody else
	}
	o.TakeTurn(o.Ticket(), false)
	if !hasPlace(w.table.line[o.slot].Load()) {
		t.Error("its next waiter has no place in the line")
	}
	if e := o.Entry(); *e.Addr != e.Value {
		t.Error("it would not sleep with its next ticket")
	}
}

// A waiter that polls, and has not done so for long, keeps nobody waiting either.
func TestSeldomPoll(t *testing.T) {
	w := newWorld(t, 1)
	a, b := w.open(), w.open()
	for _, o := range []*Owner{a, b} {
		o.Poll(true)
		o.stands(o.Ticket())
	}
	turn(t, "the second", b, false)
	ago(&w.table.slots[a.slot].calledAt, time.Hour)
	if _, ok := b.TakeTurn(ticketOf(b.entry), false); !ok {
		t.Error("one that has not looked for an hour keeps another one waiting")
	}
}

// Whoever leaves a free permit to a waiter that is called wakes it: its caller may have died
// before it did.
func TestCallerDiesBeforeItWakes(t *testing.T) {
	for name, rely := range map[string]func(giver, waiter *Owner){
		"a waiter behind it":  func(_, waiter *Owner) { waiter.Rely() },
		"one that leaves":     func(_, waiter *Owner) { waiter.Leave(); waiter.PassOn(nil, false, nil) },
		"one that gives":      func(giver, _ *Owner) { giver.Give() },
		"one that gives last": func(giver, waiter *Owner) { waiter.Leave(); giver.Give() },
	} {
		w := newWorld(t, 2)
		giver, first, waiter := w.open(), w.open(), w.open()
		w.takes(giver, 2)
		w.waits(first, waiter)
		giver.words[0].Store(0)
		w.table.line[first.slot].Or(calledBit)
		ago(&w.table.slots[first.slot].calledAt, 0)
		w.sleeps(first)
		rely(giver, waiter)
		if w.slept[first.slot] {
			t.Errorf("%s does not wake the one that is called", name)
		}
	}
}

// Others wait as soon as another handle is joining the line, until it has left.
func TestOthersWait(t *testing.T) {
	w := newWorld(t, 1)
	holder, other := w.open(), w.open()
	others := func(what string, want bool) {
		t.Helper()
		if got := holder.OthersWait(); got != want {
			t.Errorf("%s: others wait %v, want %v", what, got, want)
		}
	}
	others("nobody waits", false)
	holder.Join()
	others("only its own waiter", false)
	other.Join()
	others("another one is joining", true)
	other.Leave()
	others("it has left", false)
	other.Poll(true)
	others("another one polls", true)
	other.Poll(false)
	others("it does not any more", false)
}

// A handle hands no permit to a waiter of its own while one of another handle came before it.
func TestYields(t *testing.T) {
	w := newWorld(t, 1)
	holder, other := w.open(), w.open()
	w.takes(holder, 1)
	yields := func(what string, ticket uint64, want bool) {
		t.Helper()
		if got := holder.Yields(ticket); got != want {
			t.Errorf("%s: yields %v, want %v", what, got, want)
		}
	}
	yields("nobody waits", 0, false)
	w.waits(holder)
	first := ticketOf(holder.entry)
	yields("only its own waiter", first, false)
	w.waits(other)
	ago(&w.table.slots[other.slot].arrived, time.Hour)
	yields("another one behind its own", first, false)
	yields("another one before one that came later, and whose place the line does not have yet", holder.Ticket(), true)
	yields("another one before one that has no ticket", 0, true)
	ago(&w.table.slots[other.slot].arrived, 0)
	yields("another one that has just come", 0, false)
	ago(&w.table.slots[other.slot].arrived, time.Hour)
	holder.Leave()
	yields("its own server has not begun", 0, true)
}
