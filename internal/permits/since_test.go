package permits

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// times returns what Holders says about the owner in slot 0.
func (w *world) times() Times {
	w.t.Helper()
	hs := w.table.Holders()
	if len(hs) == 0 {
		w.t.Fatal("no handle")
	}
	return hs[0].Times
}

// takes does what Wait does, and gives what Post does: they try the fast path first.
func takes(t *testing.T, o *Owner) (fast bool) {
	t.Helper()
	if i, sure := o.TakeHome(); i >= 0 {
		if !sure && !o.Confirm(i) {
			t.Fatal("a permit that was taken may not be kept")
		}
		return true
	}
	if _, ok := o.Take(false); !ok {
		t.Fatal("no permit is free")
	}
	return false
}

func gives(t *testing.T, o *Owner) (fast bool) {
	t.Helper()
	if i, quiet := o.GiveHome(); i >= 0 {
		if !quiet {
			o.Announce(i)
		}
		return true
	}
	if !o.Give() {
		t.Fatal("no permit to give")
	}
	return false
}

// The times of a permit that was waited for are known until another permit is taken without
// waiting, by whichever way, and not for longer.
func TestTimesAreThoseOfTheLastTake(t *testing.T) {
	permit := func(o *Owner) int {
		i, ok := o.Take(true)
		if !ok {
			t.Fatal("no permit is free")
		}
		return i
	}
	for _, tt := range []struct {
		what  string
		do    func(o *Owner)
		known bool
	}{
		{"nothing", func(*Owner) {}, true},
		{"the fast path", func(o *Owner) {
			if !gives(t, o) || takes(t, o) {
				t.Error("a permit that was waited for is not given by the fast path, or the next is taken by it")
			}
			if !gives(t, o) || !takes(t, o) {
				t.Error("one that was not waited for is not given and taken by the fast path")
			}
		}, false},
		{"the slow path", func(o *Owner) {
			o.Give()
			o.Take(false)
		}, false},
		{"given by the slow path, taken by the fast one", func(o *Owner) {
			o.Give()
			takes(t, o)
		}, false},
		{"a second one", func(o *Owner) { o.Take(false) }, false},
		{"a second one by the fast path", func(o *Owner) { takes(t, o) }, false},
		{"a second one, given back", func(o *Owner) { o.GiveAt(permit(o)) }, false},
		{"a Permit", func(o *Owner) { gives(t, o); permit(o) }, false},
		{"a Permit that was waited for", func(o *Owner) {
			gives(t, o)
			i := permit(o)
			o.Stamp(Clock())
			o.GiveAt(i)
			permit(o)
		}, false},
		{"passed on", func(o *Owner) {
			if _, err := o.HandOver(0, false, true, Clock()-time.Minute); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"all given back", func(o *Owner) { o.GiveAll() }, false},
		{"all are not known to Acquire's fast path, until they are forgotten", func(o *Owner) {
			if _, sure := o.TakeLowest(); sure {
				t.Error("Acquire's fast path took a permit while times were known")
			}
			permit(o)
			if i, sure := o.TakeLowest(); i != 2 || !sure {
				t.Errorf("Acquire's fast path took %d, %v; want the third", i, sure)
			}
			if given, quiet := o.GiveLowest(2); !given || !quiet {
				t.Error("Acquire's fast path does not give what it took")
			}
		}, false},
	} {
		w := newWorld(t, 3)
		o := w.open()
		takes(t, o)
		before := time.Now()
		o.Stamp(Clock() - time.Minute)
		after := time.Now()
		earliest, latest := before.UnixNano(), after.UnixNano() // the first Stamp reads the time of day
		if got := w.times(); got.Since < earliest || got.Since > latest || time.Duration(got.Waited) < time.Minute || time.Duration(got.Waited) > time.Minute+after.Sub(before) {
			t.Errorf("%s: a permit that was waited for: %+v, want from %d to %d, and a minute", tt.what, got, earliest, latest)
		}
		tt.do(o)
		if got := w.times(); (got != Times{}) != tt.known || tt.known && (got.Since < earliest || time.Duration(got.Waited) < time.Minute) {
			t.Errorf("%s: %+v, known should be %v", tt.what, got, tt.known)
		}
	}
}

// In a bubble of testing/synctest, whose time is another one, the times are the bubble's; so they are outside again.
func TestTimesInABubble(t *testing.T) {
	w := newWorld(t, 1)
	o := w.open()
	takes(t, o)
	stamp := func(t *testing.T, where string) {
		o.Stamp(Clock() - time.Minute)
		if got, now := w.times(), time.Now().UnixNano(); time.Duration(got.Waited) < time.Minute || got.Since > now+int64(clocksDiffer) || got.Since < now-int64(clocksDiffer) {
			t.Errorf("%s: %+v; it is %d", where, got, now)
		}
	}
	synctest.Test(t, func(t *testing.T) { stamp(t, "in a bubble") })
	stamp(t, "outside")
	synctest.Test(t, func(t *testing.T) { stamp(t, "in another one") })
}

// A slot that gets a new owner is shown with the earlier one or with the new one, never with what is of both.
func TestSlotGetsAnotherOwner(t *testing.T) {
	w := newWorld(t, 1)
	first := Identity{PID: 1, Started: 10, Opened: 100, Label: "first"}
	second := Identity{PID: 2, Started: 20, Opened: 200, Label: "a label of 32 bytes: 12345678901"}
	claim := func(id Identity) *Owner {
		o, err := w.table.Claim(&process{w}, id)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	is := func(what string, want ...Holder) {
		t.Helper()
		got := w.table.Holders()
		for i := range got {
			got[i].Doing = Idle
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %+v, want %+v", what, got, want)
		}
		p := w.table.picture()
		want = slices.DeleteFunc(slices.Clone(want), func(h Holder) bool { return h.Permits == 0 && !h.Waits })
		if len(p.Handles) != len(want) || len(want) > 0 && p.Handles[0].Holder != want[0] {
			t.Errorf("%s: Look sees %+v, want %+v", what, p, want)
		}
	}
	o := claim(first)
	o.Join()
	ticket := o.Ticket()
	o.TakeTurn(ticket, false)
	o.Stamp(Clock())
	held := Holder{Identity: first, Times: w.times(), Permits: 1, Waits: true, Want: 1, Ticket: ticket, Arrived: w.table.slots[0].arrived.Load()}
	is("a holder that waits again", held)
	w.dies(o)

	// What occupy does, step by step.
	slot := &w.table.slots[0]
	slot.introduce(second)
	is("introduced")
	w.table.line[0].Store(0)
	is("not in the line")
	slot.gen.Add(1)
	is("with another generation")
	slot.accept(second)
	is("accepted", Holder{Identity: second})

	// If that process dies the next one begins anew. (It may have died when it had written anything.)
	slot.since.Store(1)
	third := Identity{PID: 3, Opened: 300}
	o = claim(third)
	is("the next owner", Holder{Identity: third})
	takes(t, o)
	is("the next owner with a permit", Holder{Identity: third, Permits: 1})
}

// While owners come and go whoever looks sees each with its own.
func TestSlotGetsOthersWhileSomebodyLooks(t *testing.T) {
	w := newWorld(t, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for pid := 1; pid <= 100_000; pid++ {
			o, err := w.table.Claim(&process{w}, Identity{PID: pid, Started: int64(pid), Opened: int64(pid), Label: strconv.Itoa(pid)})
			if err != nil {
				t.Error(err)
				return
			}
			if pid%2 == 1 {
				if _, ok := o.Take(false); !ok {
					t.Errorf("%d: no permit is free", pid)
				}
				o.Stamp(Clock())
			}
			w.dies(o)
		}
	}()
	for looks := 0; ; looks++ {
		for _, h := range w.table.Holders() {
			even := h.PID%2 == 0
			if h.Started != int64(h.PID) || h.Opened != int64(h.PID) || h.Label != strconv.Itoa(h.PID) || even && (h.Permits != 0 || h.Times != Times{}) {
				t.Fatalf("of two owners: %+v", h)
			}
		}
		select {
		case <-done:
			t.Logf("%d looks", looks)
			return
		default:
		}
	}
}

// Whatever is written over the times and the label, what Holders says makes sense.
func TestTimesAndLabelWrittenOver(t *testing.T) {
	w := newWorld(t, 1)
	o := w.open()
	takes(t, o)
	slot := &w.table.slots[0]
	for _, times := range []Times{{-1, 5}, {-1 << 63, 1<<63 - 1}, {5, -1}} {
		slot.since.Store(times.Since)
		slot.waited.Store(times.Waited)
		if got := w.times(); got != (Times{}) {
			t.Errorf("%+v is shown as %+v", times, got)
		}
	}
	future := Times{1<<63 - 1, 1<<63 - 1}
	slot.since.Store(future.Since)
	slot.waited.Store(future.Waited)
	if got := w.times(); got != future {
		t.Errorf("a time in the future is shown as %+v", got)
	}
	for label, want := range map[[4]uint64]string{
		{1<<64 - 1, 1<<64 - 1, 1<<64 - 1, 1<<64 - 1}: "\uFFFD",
		{0, 1<<64 - 1}: "",
	} {
		for i := range slot.label {
			slot.label[i].Store(label[i])
		}
		if got := w.table.Holders()[0].Label; got != want {
			t.Errorf("%s is shown as %q, want %q", fmt.Sprintf("%x", label), got, want)
		}
	}
}
