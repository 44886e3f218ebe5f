// Package futex waits on words of memory that processes share, with waits that
// another goroutine can end at once, and has the kernel report a process's exit in
// such a word (a robust futex). Its calls exist only on Linux; the words have the same
// bits on every system.
package futex

import (
	"sync/atomic"
	"unsafe"
)

// The bits of a liveness word, which is a robust futex's word (linux/futex.h). Its other
// bits are the number of the thread whose exit the kernel reports in it.
const (
	// Waiters says that the owner's exit will be reported in the word, by OwnerDied.
	// The kernel wakes nobody if this bit is clear, so it is set whether or not
	// somebody waits. It stays set beside OwnerDied. It is wrong in a file that has
	// outlived a reboot, where the word is on no robust list.
	Waiters = 0x80000000 // FUTEX_WAITERS
	// OwnerDied says that the owner's exit was reported: its thread has exited, or has
	// called exec. The kernel sets the bit when it walks the thread's robust list,
	// and then wakes one thread that waits on the word; other threads of the process
	// may still run.
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
