package permits

import "testing"

// A permit that is handed to an owner is never free in between, and comes back when that
// owner has gone, whether it gives it back or dies.
func TestHandTo(t *testing.T) {
	for name, end := range map[string]func(w *world, to *Owner){
		"dies": func(w *world, to *Owner) { w.dies(to) },
		"ends": func(w *world, to *Owner) {
			if n := w.table.End(&process{w}, to.slot); n != 1 {
				t.Errorf("End gave back %d permits, want 1", n)
			}
			delete(w.locks, to.slot)
		},
	} {
		w := newWorld(t, 1)
		o, to, waiter := w.open(), w.open(), w.open()
		to.Live().Store(0) // nobody reports its exit
		i, _ := o.Take(true)
		w.waits(waiter)
		w.sleeps(waiter)
		if !o.HandTo(to, i) {
			t.Fatalf("%s: the permit was not handed over", name)
		}
		if w.slept[waiter.slot] {
			t.Errorf("%s: the waiter watches the old owner", name)
		}
		turn(t, name+": a waiter", waiter, false)
		if f := waiter.Scan(false, make([]Word, 0, 4)); !f.Unheard || f.Held != 1 {
			t.Errorf("%s: the waiter's scan found %+v, want a holder whose exit is not reported", name, f)
		}
		if o.GiveAt(i) || o.HandTo(to, i) || o.GiveAll() != 0 {
			t.Errorf("%s: the old owner still had the permit", name)
		}
		if n := w.table.Held(to.slot); n != 1 {
			t.Errorf("%s: the new owner holds %d", name, n)
		}
		w.sleeps(waiter)
		end(w, to)
		if name == "ends" && w.slept[waiter.slot] {
			t.Error("End notified no waiter")
		}
		waiter.Scan(true, nil)
		turn(t, name+": a waiter, of a free permit", waiter, true)
	}
}
