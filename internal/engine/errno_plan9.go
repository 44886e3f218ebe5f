package engine

import "syscall"

// Plan 9's errors are strings, and it has none for EAGAIN and EOVERFLOW.
var (
	errnosWouldBlock  []error
	errnosTimeout     = []error{syscall.ETIMEDOUT}
	errnosInterrupted = []error{syscall.EINTR}
	errnosOverflow    []error
)
