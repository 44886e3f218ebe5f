// White-box test of glibc's words.

package semaphore_test

import (
	"testing"

	"github.com/procsem/semaphore"
	. "github.com/procsem/semaphore/internal/testkit"
)

// The layout of 32-bit machines is tested on all, and the other way round, as
// far as one process can.
func TestBothLayouts(t *testing.T) {
	for name, w := range semaphore.BothWords() {
		t.Run(name, func(t *testing.T) {
			w.Init(2)
			if w.Value() != 2 || !w.Take() || !w.Take() || w.Take() || w.Give() != true || w.Value() != 1 {
				t.Fatalf("value %d", w.Value())
			}
			w.AddWaiter()
			w.AddWaiter()
			if _, none := w.SleepOn(); w.Counted() != 2 || w.Value() != 1 {
				t.Errorf("waiters %d, value %d, none %d", w.Counted(), w.Value(), none)
			}
			if w.Give() {
				t.Error("Give, which wakes nobody, while somebody waits")
			}
			Must(t, w.Post())
			w.RemoveWaiter()
			if w.Give() {
				t.Error("Give, which wakes nobody, while somebody waits still")
			}
			w.RemoveWaiter()
			if !w.Give() || w.Value() != 3 || w.Counted() != 0 {
				t.Errorf("value %d, waiters %d", w.Value(), w.Counted())
			}
			w.Init(semaphore.MaxValue)
			if w.Give() || w.Post() != semaphore.ErrOverflow || w.Value() != semaphore.MaxValue {
				t.Errorf("value %d after a Post at the maximum", w.Value())
			}
		})
	}
}
