//go:build linux

package glibc

import (
	"sync/atomic"
	"unsafe"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/futex"
)

// Both layouts are compiled everywhere, so that every machine tests both;
// Words is the machine's own.

// words64 is struct new_sem of machines with 64-bit atomics: value in the low
// half, number of waiters in the high half.
type words64 struct{ data atomic.Uint64 }

const waiter64 = 1 << 32

// valueHalf is the half of data that holds the value, which is the futex.
func (w *words64) valueHalf() *uint32 { return futex.LowHalf(&w.data) }

func (w *words64) Init(value uint32) { w.data.Store(uint64(value)) }

func (w *words64) Value() uint32 { return uint32(w.data.Load()) }

// Counted returns the number of waiters.
func (w *words64) Counted() uint32 { return uint32(w.data.Load() >> 32) }

// Take is the acquire operation: what the poster did before its add is visible
// after the compare-and-swap that sees the sum.
func (w *words64) Take() bool {
	for {
		d := w.data.Load()
		if uint32(d) == 0 {
			return false
		}
		if w.data.CompareAndSwap(d, d-1) {
			return true
		}
	}
}

// Post is the release operation. After it the semaphore's memory must not be
// touched, but for the wake-up, which uses only its address: the process that
// takes the permit, or the last of n, may be the last user and unmap it.
//
// For n permits it wakes n waiters, or all if fewer sleep, as n calls for one each would. A waiter that is
// counted, and does not sleep yet, finds the value changed, and does not sleep.
func (w *words64) Post(n int) error {
	for {
		d := w.data.Load()
		if err := engine.MayPost(uint32(d), n); err != nil {
			return err
		}
		if w.data.CompareAndSwap(d, d+uint64(n)) {
			if d >= waiter64 {
				futex.Wake(w.valueHalf(), n)
			}
			return nil
		}
	}
}

// Give is a Post that has no waiter to wake and no competitor; false: it has not
// posted.
func (w *words64) Give() bool {
	d := w.data.Load()
	return d < engine.MaxValue && w.data.CompareAndSwap(d, d+1)
}

func (w *words64) AddWaiter() { w.data.Add(waiter64) }

// RemoveWaiter passes on a wake-up that may have been meant for another waiter: a waiter
// that leaves while there is a permit wakes another one.
func (w *words64) RemoveWaiter() {
	d := w.data.Add(^uint64(waiter64 - 1))
	if uint32(d) > 0 && d >= waiter64 {
		futex.Wake(w.valueHalf(), 1)
	}
}

// SleepOn returns the futex, and its value while there is no permit.
func (w *words64) SleepOn() (word *uint32, none uint32) { return w.valueHalf(), 0 }

// words32 is struct new_sem of machines without them. Bit 0 of the value's word
// says that there are waiters, so that Post need not read their number after
// its add.
type words32 struct {
	val     atomic.Uint32 // value<<1 | has waiters; the futex
	_       [2]uint32     // private, padding
	waiters atomic.Uint32
}

const hasWaiters = 1

func (w *words32) Init(value uint32) { w.val.Store(value << 1) }

func (w *words32) Value() uint32 { return w.val.Load() >> 1 }

func (w *words32) Counted() uint32 { return w.waiters.Load() }

// Take and Post: as for words64.
func (w *words32) Take() bool {
	for {
		v := w.val.Load()
		if v>>1 == 0 {
			return false
		}
		if w.val.CompareAndSwap(v, v-2) {
			return true
		}
	}
}

func (w *words32) Post(n int) error {
	for {
		v := w.val.Load()
		if err := engine.MayPost(v>>1, n); err != nil {
			return err
		}
		if w.val.CompareAndSwap(v, v+uint32(n)<<1) {
			if v&hasWaiters != 0 {
				futex.Wake((*uint32)(unsafe.Pointer(&w.val)), n)
			}
			return nil
		}
	}
}

func (w *words32) Give() bool {
	v := w.val.Load()
	return v < engine.MaxValue<<1 && v&hasWaiters == 0 && w.val.CompareAndSwap(v, v+2)
}

func (w *words32) AddWaiter() { w.waiters.Add(1) }

// SleepOn sets the bit, before the sleep and after the waiter was counted. The
// kernel compares the whole word: if a permit or another waiter's departure
// changes it first, there is no sleep.
func (w *words32) SleepOn() (word *uint32, none uint32) {
	w.val.Or(hasWaiters)
	return (*uint32)(unsafe.Pointer(&w.val)), hasWaiters
}

// RemoveWaiter is glibc's __sem_wait_32_finish. The last waiter takes the bit
// back before it uncounts itself; if another one came in between, that was
// wrong: it sets the bit again, and since a Post may have missed it meanwhile, of
// however many permits, wakes as many as there are permits. Beyond glibc, and as words64 does, a
// waiter that leaves while there is a permit wakes another one.
func (w *words32) RemoveWaiter() {
	guess := w.waiters.Load()
	if guess == 1 {
		w.val.And(^uint32(hasWaiters))
	}
	left := w.waiters.Add(^uint32(0))
	if left == 0 {
		return
	}
	v := w.val.Load()
	if guess == 1 {
		v = w.val.Or(hasWaiters)
	}
	if v>>1 > 0 {
		futex.Wake((*uint32)(unsafe.Pointer(&w.val)), int(v>>1))
	}
}
