//go:build linux

package glibc

import (
	"errors"
	"math"
	"runtime"
	"sync"
	"testing"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/futex"
)

// words are the operations on a layout's words.
type words interface {
	Init(uint32)
	Value() uint32
	Counted() uint32
	Take() bool
	Give() bool
	Post(int) error
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
			if err := w.Post(1); err != nil {
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
			if w.Give() || !errors.Is(w.Post(1), engine.ErrOverflow) || w.Value() != engine.MaxValue {
				t.Errorf("value %d after a Post at the maximum", w.Value())
			}
			w.Init(engine.MaxValue - 2)
			w.AddWaiter()
			w.SleepOn()
			for _, n := range []int{3, engine.MaxValue, math.MaxInt} {
				if err := w.Post(n); !errors.Is(err, engine.ErrOverflow) || w.Value() != engine.MaxValue-2 || w.Counted() != 1 {
					t.Errorf("Post(%d) at the maximum less 2: %v; value %d, %d waiters", n, err, w.Value(), w.Counted())
				}
			}
			if err := w.Post(2); err != nil || w.Value() != engine.MaxValue || w.Counted() != 1 {
				t.Errorf("%v; value %d, %d waiters", err, w.Value(), w.Counted())
			}
		})
	}
}

// One Post of n permits lets n go that sleep, in both layouts.
func TestPostToSleepers(t *testing.T) {
	const n = 4
	for name, w := range map[string]words{"64-bit": new(words64), "32-bit": new(words32)} {
		t.Run(name, func(t *testing.T) {
			for range 50 {
				var all sync.WaitGroup
				for range n {
					all.Go(func() {
						var stop futex.Stop
						w.AddWaiter()
						for !w.Take() {
							word, none := w.SleepOn()
							stop.Wait(word, none, stop.Now())
						}
						w.RemoveWaiter()
					})
				}
				for w.Counted() < n {
					runtime.Gosched()
				}
				if err := w.Post(n); err != nil {
					t.Fatal(err)
				}
				all.Wait()
				if w.Value() != 0 || w.Counted() != 0 {
					t.Fatalf("value %d, %d waiters", w.Value(), w.Counted())
				}
			}
		})
	}
}
