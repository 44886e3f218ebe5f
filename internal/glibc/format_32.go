//go:build linux && (386 || arm || mips || mipsle)

package glibc

// Words are the words of this machine's semaphores. As 32-bit programs have it, a file
// of 16 bytes:
//
//	0  value<<1 | has waiters; the futex
//	4  private
//	8  padding
//	12 number of waiters
type Words = words32

const (
	// Size is that of a semaphore's file.
	Size      = 16
	otherSize = 32 // of a 64-bit program's
	privateAt = 4
)
