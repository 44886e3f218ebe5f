// Package oldkernel is for tests: it makes this process run as on an older kernel.
package oldkernel

// The environment variables that ask for it, whatever their value. With one of them
// all tests run as there.
const (
	// NoFutexWaitv: Linux before 5.16, or a seccomp filter that forbids futex_waitv.
	NoFutexWaitv = "SEMAPHORE_TEST_NO_FUTEX_WAITV"

	// NoByteLocks: Linux before 3.15, or a filesystem without open-file-description
	// locks.
	NoByteLocks = "SEMAPHORE_TEST_NO_OFD_LOCKS"
)
