//go:build linux

package semaphore

import (
	"sync/atomic"
	"unsafe"

	"github.com/procsem/semaphore/internal/futex"
)

// Both layouts are compiled everywhere, so that every machine tests both;
// glibcWords is the machine's own.

// words64 is struct new_sem of machines with 64-bit atomics: value in the low
// half, number of waiters in the high half.
type words64 struct{ data atomic.Uint64 }

const waiter64 = 1 << 32

// valueHalf is the half of data that holds the value, which is the futex.
func (w *words64) valueHalf() *uint32 { return futex.LowHalf(&w.data) }

func (w *words64) init(value uint32) { w.data.Store(uint64(value)) }

func (w *words64) value() uint32 { return uint32(w.data.Load()) }

// counted returns the number of waiters.
func (w *words64) counted() uint32 { return uint32(w.data.Load() >> 32) }

// take is the acquire operation: what the poster did before its add is visible
// after the compare-and-swap that sees the sum.
func (w *words64) take() bool {
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

// post is the release operation. After it the semaphore's memory must not be
// touched, but for the wake-up, which uses only its address: who takes this
// permit may be the last user and unmap it.
func (w *words64) post() error {
	for {
		d := w.data.Load()
		if uint32(d) == MaxValue {
			return ErrOverflow
		}
		if w.data.CompareAndSwap(d, d+1) {
			if d >= waiter64 {
				futex.Wake(w.valueHalf(), 1)
			}
			return nil
		}
	}
}

// give is a post that needs no wake-up and meets nobody else; false: it was
// none.
func (w *words64) give() bool {
	d := w.data.Load()
	return d < MaxValue && w.data.CompareAndSwap(d, d+1)
}

func (w *words64) addWaiter() { w.data.Add(waiter64) }

// removeWaiter passes on a wake-up that may have been meant for somebody else:
// who leaves while there is a permit wakes another one.
func (w *words64) removeWaiter() {
	d := w.data.Add(^uint64(waiter64 - 1))
	if uint32(d) > 0 && d >= waiter64 {
		futex.Wake(w.valueHalf(), 1)
	}
}

// sleepOn returns the futex, and its value while there is no permit.
func (w *words64) sleepOn() (word *uint32, none uint32) { return w.valueHalf(), 0 }

// words32 is struct new_sem of machines without them. Bit 0 of the value's word
// says that there are waiters, so that Post need not read their number after
// its add.
type words32 struct {
	val     atomic.Uint32 // value<<1 | has waiters; the futex
	_       [2]uint32     // private, padding
	waiters atomic.Uint32
}

const hasWaiters = 1

func (w *words32) init(value uint32) { w.val.Store(value << 1) }

func (w *words32) value() uint32 { return w.val.Load() >> 1 }

func (w *words32) counted() uint32 { return w.waiters.Load() }

// take and post: as for words64.
func (w *words32) take() bool {
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

func (w *words32) post() error {
	for {
		v := w.val.Load()
		if v>>1 == MaxValue {
			return ErrOverflow
		}
		if w.val.CompareAndSwap(v, v+2) {
			if v&hasWaiters != 0 {
				futex.Wake((*uint32)(unsafe.Pointer(&w.val)), 1)
			}
			return nil
		}
	}
}

func (w *words32) give() bool {
	v := w.val.Load()
	return v < MaxValue<<1 && v&hasWaiters == 0 && w.val.CompareAndSwap(v, v+2)
}

func (w *words32) addWaiter() { w.waiters.Add(1) }

// sleepOn sets the bit, before the sleep and after the waiter was counted. The
// kernel compares the whole word: if a permit or another waiter's departure
// changes it first, there is no sleep.
func (w *words32) sleepOn() (word *uint32, none uint32) {
	w.val.Or(hasWaiters)
	return (*uint32)(unsafe.Pointer(&w.val)), hasWaiters
}

// removeWaiter is glibc's __sem_wait_32_finish. The last waiter takes the bit
// back before it uncounts itself; if another one came in between, that was
// wrong: it sets the bit again, and since a Post may have missed it meanwhile,
// wakes as many as there are permits. Beyond glibc, and as words64 does, who
// leaves while there is a permit wakes another one.
func (w *words32) removeWaiter() {
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
