package permits

import (
	"testing"
	"time"

	"github.com/procsem/semaphore/internal/futex"
)

func TestLookOut(t *testing.T) {
	w := newWorld(t, 1)
	first, dead, a, b := w.open(), w.open(), w.open(), w.open() // a's slot is not 0, which is also nobody's
	for _, o := range []*Owner{first, a, b} {
		o.Join()
	}
	d := DyingOwner{dead.slot, dead.gen}
	now := int64(1_234_567_890_123)
	const pause = 20 * time.Millisecond
	term := (pause + lookoutGrace).Milliseconds()
	looksOut := func(who *Owner, at int64, want bool) (watches []Word) {
		t.Helper()
		f := Findings{Watch: make([]Word, 0, 8)}
		if got := who.lookOut(d, pause, &f, at); got != want {
			t.Errorf("slot %d at %+d ms: is to look: %v, want %v", who.slot, at-now, got, want)
		}
		return f.Watch
	}

	// Nobody is the lookout, whatever the time is.
	for at := range int64(lookoutMask + 1) {
		if !a.lookOut(d, pause, &Findings{}, at) {
			t.Fatalf("at %d another one is the lookout, and there is none", at)
		}
		dead.slots[d.Slot].lookout.Store(0)
	}

	if ws := looksOut(a, now, true); len(ws) != 0 {
		t.Errorf("the lookout watches %v", ws)
	}
	if ws := looksOut(b, now, false); len(ws) != 1 || ws[0] != (Word{addressOf(a.Live()), a.Live().Load()}) {
		t.Errorf("it sleeps on %v, want the liveness word of the lookout", ws)
	}
	looksOut(first, now, false)
	looksOut(a, now+20, true) // again, for another pause
	looksOut(b, now+term, false)
	looksOut(b, now+20+term, true) // a has not looked
	looksOut(a, now+20+term, false)
	if a.LookOutNoMore(d) {
		t.Error("it was the lookout no more before")
	}
	looksOut(a, now+20+term, false)
	if !b.LookOutNoMore(d) {
		t.Error("it was no lookout")
	}
	looksOut(a, now+20+term, true)

	// A clock that was set, be it by one that died or by the one that reads.
	looksOut(b, now-int64(time.Hour/time.Millisecond), true)
	looksOut(a, now, true)

	// Where the low bits of the time begin anew.
	now = 1 << (lookoutShift + 20)
	a.LookOutNoMore(d)
	looksOut(a, now-1, true)
	looksOut(b, now+term-2, false)
	looksOut(b, now+term-1, true)

	// A lookout that died, that does not wait, and that nobody can be.
	looksOut(a, now+2*term, true)
	looksOut(b, now+2*term, false)
	live := a.Live().Load()
	a.Live().Store(live | futex.OwnerDied)
	looksOut(b, now+2*term, true)
	a.Live().Store(live)
	for _, leave := range []func(){func() { a.Vain() }, func() { a.Leave() }} {
		b.LookOutNoMore(d)
		a.Join()
		looksOut(a, now+2*term, true)
		looksOut(b, now+2*term, false)
		leave()
		looksOut(b, now+2*term, true)
	}
	a.Join()
	dead.slots[d.Slot].lookout.Store(uint32(MaxSlots-1)<<lookoutShift | uint32(now+2*term+1)&lookoutMask)
	looksOut(b, now+2*term, true)

	// The slot's next owner has none, and nobody looks for the one before.
	b.LookOutNoMore(d)
	looksOut(a, now+2*term, true)
	w.dies(dead)
	next := w.open()
	if next.slot != d.Slot {
		t.Fatalf("slot %d, want %d", next.slot, d.Slot)
	}
	looksOut(b, now+2*term, false)
	d.Gen = next.gen
	looksOut(b, now+2*term, true)
}
