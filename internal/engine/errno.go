//go:build !plan9

package engine

import "syscall"

// The errnos that the sentinels are, for errors.Is. POSIX has them for sem_trywait
// (EAGAIN), sem_timedwait (ETIMEDOUT), sem_wait (EINTR) and sem_post (EOVERFLOW). They
// stand in a file of their own because Plan 9 does not have all of them.
var (
	errnosWouldBlock  = []error{syscall.EAGAIN}
	errnosTimeout     = []error{syscall.EAGAIN, syscall.ETIMEDOUT}
	errnosInterrupted = []error{syscall.EINTR}
	errnosOverflow    = []error{syscall.EOVERFLOW}
)
