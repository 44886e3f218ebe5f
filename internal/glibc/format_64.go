//go:build linux && (amd64 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x)

package glibc

// Words are the words of this machine's semaphores. As 64-bit programs have it, a file
// of 32 bytes:
//
//	0  value in the low half, which is the futex, and number of waiters in the
//	   high half of a word of 64 bits
//	8  private
//	12 padding
type Words = words64

const (
	// Size is that of a semaphore's file.
	Size      = 32
	otherSize = 16 // of a 32-bit program's
	privateAt = 8
)
