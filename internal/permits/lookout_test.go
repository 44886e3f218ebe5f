package permits

import (
	"testing"
	"time"

	"github.com/procsem/semaphore/internal/futex"
)

func TestLookOut(t *testing.T) {
	w := newWorld(t, 1)
	first, dead, a, b := w.open(), w.open(), w.open(), w.open() // a's slot is not 0, which is also nobody's
	d := DyingOwner{dead.slot, dead.gen}
	now := int64(1_234_567_890_123)
	const pause = 20 * time.Millisecond
	term := (pause + lookoutGrace).Milliseconds()
	looksOut := func(who *Owner, at int64, want bool) {
		t.Helper()
		if got := who.lookOut(d, pause, at); got != want {
			t.Errorf("slot %d at %+d ms: is the lookout: %v, want %v", who.slot, at-now, got, want)
		}
	}

	// Nobody is the lookout, whatever the time is.
	for at := range int64(lookoutMask + 1) {
		if !a.lookOut(d, pause, at) {
			t.Fatalf("at %d another one is the lookout, and there is none", at)
		}
		dead.slots[d.Slot].lookout.Store(0)
	}

	looksOut(a, now, true)
	looksOut(b, now, false)
	looksOut(first, now, false)
	looksOut(a, now+20, true) // again, for another pause
	looksOut(b, now+term, false)
	looksOut(b, now+20+term, true) // a has not looked
	looksOut(a, now+20+term, false)
	a.LookOutNoMore(d) // it is not
	looksOut(a, now+20+term, false)
	b.LookOutNoMore(d)
	looksOut(a, now+20+term, true)

	// A clock that was set, be it by one that died or by the one that reads.
	looksOut(b, now-int64(time.Hour/time.Millisecond), true)
	looksOut(a, now, true)

	// Where the low bits of the time begin anew.
	now = 1 << (lookoutShift + 20)
	b.LookOutNoMore(d)
	a.LookOutNoMore(d)
	looksOut(a, now-1, true)
	looksOut(b, now+term-2, false)
	looksOut(b, now+term-1, true)

	// The slot's next owner has none.
	looksOut(a, now+2*term, true)
	dead.Live().Store(futex.Waiters | futex.OwnerDied)
	w.dies(dead)
	if next := w.open(); next.slot != d.Slot {
		t.Fatalf("slot %d, want %d", next.slot, d.Slot)
	}
	looksOut(b, now+2*term, true)
}
