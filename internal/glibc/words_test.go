//go:build linux

package glibc

import (
	"testing"

	"github.com/procsem/semaphore/internal/engine"
)

// words are the operations on a layout's words.
type words interface {
	Init(uint32)
	Value() uint32
	Counted() uint32
	Take() bool
	Give() bool
	Post() error
	AddWaiter()
	RemoveWaiter()
	SleepOn() (*uint32, uint32)
}

// Both layouts, that of 32-bit and that of 64-bit machines, are tested on all machines,
// as far as one process can.
func TestBothLayouts(t *testing.T) {
	for name, w := range map[string]words{"64-bit": new(words64), "32-bit": new(words32)} {
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
				t.Error("Give, which wakes no waiter, beside two")
			}
			if err := w.Post(); err != nil {
				t.Fatal(err)
			}
			w.RemoveWaiter()
			if w.Give() {
				t.Error("Give, which wakes no waiter, beside the other waiter")
			}
			w.RemoveWaiter()
			if !w.Give() || w.Value() != 3 || w.Counted() != 0 {
				t.Errorf("value %d, waiters %d", w.Value(), w.Counted())
			}
			w.Init(engine.MaxValue)
			if w.Give() || w.Post() != engine.ErrOverflow || w.Value() != engine.MaxValue {
				t.Errorf("value %d after a Post at the maximum", w.Value())
			}
		})
	}
}
