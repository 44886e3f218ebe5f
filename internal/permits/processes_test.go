package permits

import "testing"

// With RangeLocks only the waiters that watch an owner report its exit.

// ends is what happens to a handle whose process ends, if nobody reports that.
func (w *world) ends(o *Owner) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.locks, o.slot)
}

func (w *world) openOf(pid int) *Owner {
	w.t.Helper()
	o, err := w.table.Claim(&process{w}, Identity{PID: pid, Started: int64(pid) * 1000})
	if err != nil {
		w.t.Fatal(err)
	}
	o.ExpectReport()
	return o
}

// A liveness word leads to its process, and Mark has the effect of the kernel's report.
func TestMark(t *testing.T) {
	w := newWorldOf(t, 1, RangeLocks)
	holder, waiter := w.openOf(11), w.openOf(12)
	w.takes(holder, 1)
	watch := waiter.Scan(false, make([]Word, 0, 8)).Watch
	if len(watch) != 1 || w.table.ProcessOf(watch[0]) != (Process{11, 11_000}) {
		t.Fatalf("watches %v", watch)
	}
	w.table.Mark(watch[0]) // by mistake: the lock decides
	if f := waiter.Scan(false, nil); f.Freed != 0 || len(f.Dying) != 1 {
		t.Errorf("%+v of an owner that was marked and lives", f)
	}
	w.ends(holder)
	if f := waiter.Scan(false, nil); f.Freed != 1 {
		t.Errorf("%+v of an owner that was marked and is dead", f)
	}
	w.takes(waiter, 1)
}

// A Mark that comes late does not mark the slot's next owner.
func TestMarkIsLate(t *testing.T) {
	w := newWorldOf(t, 1, RangeLocks)
	dead, waiter := w.openOf(11), w.openOf(12)
	w.takes(dead, 1)
	watch := waiter.Scan(false, make([]Word, 0, 8)).Watch
	w.ends(dead)
	waiter.Reap(true)
	next := w.openOf(11)
	if next.slot != dead.slot {
		t.Fatalf("slot %d was claimed, want %d", next.slot, dead.slot)
	}
	w.table.Mark(watch[0])
	if !exitWillBeReported(next.Live().Load()) {
		t.Error("the slot's next owner was marked")
	}
}

// The slots of owners whose exit was not reported are used again.
func TestUnreportedExits(t *testing.T) {
	w := newWorldOf(t, 1, RangeLocks)
	w.openOf(1)
	for range 1000 {
		w.ends(w.openOf(2))
	}
	if n := w.table.Slots(); n > 20 {
		t.Errorf("%d slots, of which one has a living owner", n)
	}
}

// A dead waiter whose exit was not reported is not counted for ever.
func TestUnreportedWaiters(t *testing.T) {
	w := newWorldOf(t, 1, RangeLocks)
	holder, dead := w.openOf(1), w.openOf(2)
	w.takes(holder, 1)
	for name, wait := range map[string]func(){
		"joins": dead.Join,
		"waits": func() { w.waits(dead) },
	} {
		wait()
		w.ends(dead)
		holder.Give() // wakes nobody
		if n := w.table.Waiters(); n != 0 {
			t.Errorf("one that %s: %d counted", name, n)
		}
		w.takes(holder, 1)
		dead = w.openOf(2)
	}
}
