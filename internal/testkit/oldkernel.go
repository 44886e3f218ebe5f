package testkit

import (
	"os"

	"github.com/procsem/semaphore/internal/testhook"
)

// Environment variables for OldKernel, whatever their value. With one of them all tests
// run as on such a system.
const (
	// noFutexWaitv: Linux before 5.16, or a seccomp filter that forbids futex_waitv.
	noFutexWaitv = "SEMAPHORE_TEST_NO_FUTEX_WAITV"

	// noByteLocks: Linux before 3.15, or a filesystem without open-file-description
	// locks.
	noByteLocks = "SEMAPHORE_TEST_NO_OFD_LOCKS"

	// NoRobustList: a kernel, or an emulator of one, that reports no exits.
	NoRobustList = "SEMAPHORE_TEST_NO_ROBUST_LIST"
)

// OldKernel makes this process run as on an older kernel, if the environment asks for it.
// Only Linux has the mechanisms that it switches off.
func OldKernel() {
	if os.Getenv(noFutexWaitv) != "" {
		testhook.NoFutexWaitv.Store(true)
	}
	if os.Getenv(NoRobustList) != "" {
		testhook.NoRobustList.Store(true)
	}
	if os.Getenv(noByteLocks) != "" {
		testhook.NoByteLocks.Store(true)
	}
}
