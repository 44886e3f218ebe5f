// Package futex waits on words of memory that processes share, with waits that
// another goroutine can end at once, and has the kernel report a process's exit in
// such a word (a robust futex). The calls exist on Linux only; the layout of the words
// is the same everywhere.
package futex

import (
	"sync/atomic"
	"unsafe"
)

// The bits of a robust futex's word (linux/futex.h), a liveness word. Its other bits
// are the number of the thread whose exit the kernel reports there.
const (
	// Waiters says that an exit will be reported, by whoever sets OwnerDied: when the
	// thread exits the kernel wakes nobody if this bit is clear.
	Waiters = 0x80000000 // FUTEX_WAITERS
	// OwnerDied says that the exit was reported: the thread has exited, or has called
	// exec. The kernel sets it when it walks the thread's robust list, and then wakes
	// one waiter of the word.
	OwnerDied = 0x40000000 // FUTEX_OWNER_DIED
)

// LowHalf returns the address of the low 32 bits of a 64-bit word, on which a futex
// can wait.
func LowHalf(w *atomic.Uint64) *uint32 {
	halves := (*[2]uint32)(unsafe.Pointer(w))
	if bigEndian {
		return &halves[1]
	}
	return &halves[0]
}

var bigEndian = func() bool {
	one := uint16(1)
	return *(*byte)(unsafe.Pointer(&one)) == 0
}()
