//go:build !plan9

package semaphore

import "syscall"

var (
	errnosWouldBlock  = []error{syscall.EAGAIN}
	errnosTimeout     = []error{syscall.EAGAIN, syscall.ETIMEDOUT}
	errnosInterrupted = []error{syscall.EINTR}
	errnosOverflow    = []error{syscall.EOVERFLOW}
)
