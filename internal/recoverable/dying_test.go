//go:build (linux || windows) && !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package recoverable

import (
	"errors"
	"testing"
	"unsafe"

	"github.com/procsem/semaphore/internal/permits"
)

// locks is a permits.Host of owners that do not die.
type locks map[int]bool

func (l locks) Lock(slot int) (bool, error) {
	was := l[slot]
	l[slot] = true
	return !was, nil
}
func (l locks) Alive(slot int) (bool, error) { return l[slot], nil }
func (l locks) Allocate(permits.Range) error { return nil }
func (l locks) Wake(int, *uint32) bool       { return false }

// A waiter may find that nobody needs a lookout, just after another one has found that there is one:
// then it has to look again. It does not stop looking for an owner because it could not ask for a lock.
func TestNoLookoutAnyMore(t *testing.T) {
	memory := make([]uint64, permits.Size/8)
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&memory[0])), permits.Size), permits.NewHead("x", 1, permits.ByteLocks, 1).Bytes())
	table := permits.At(unsafe.Pointer(&memory[0]))
	host := locks{}
	claim := func() *permits.Owner {
		o, err := table.Claim(host, permits.Identity{PID: 1, Opened: 1})
		if err != nil {
			t.Fatal(err)
		}
		o.Join()
		return o
	}
	claim() // slot 0
	a, b := claim(), claim()
	of := claim()
	found := func() *permits.Findings {
		return &permits.Findings{Dying: []permits.DyingOwner{{Slot: of.Slot(), Gen: 1}}, Watch: make([]permits.Word, 0, 8)}
	}
	var byA, byB dying
	look := func(d *dying, o *permits.Owner, f *permits.Findings, wantLooks, wantAgain bool) {
		t.Helper()
		if pause, again := d.look(o, f); pause > 0 != wantLooks || again != wantAgain {
			t.Errorf("a pause of %v, again %v; want one: %v, %v", pause, again, wantLooks, wantAgain)
		}
	}
	failed := &permits.Findings{Err: errors.New("too many open files")}
	none := &permits.Findings{}
	look(&byA, a, none, false, false)
	look(&byA, a, found(), true, false)
	look(&byA, a, failed, true, false)
	look(&byA, a, none, false, true)
	look(&byA, a, none, false, false)
	look(&byB, b, found(), true, false)
	look(&byB, b, none, false, true)
}
