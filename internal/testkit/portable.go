//go:build unix

package testkit

import (
	"os"

	"github.com/procsem/semaphore/internal/testhook"
)

// WithoutReports makes the kernel look older than futex_waitv, without which only the
// safety net finds out that a process has ended.
func WithoutReports() (restore func()) {
	waitv, net := WithoutWaitv(), Rescuing()
	return func() {
		net()
		waitv()
	}
}

// Portable makes the recoverable engine what it is on systems without
// open-file-description locks and futexes.
func Portable() (restore func()) {
	locks, polls := testhook.NoByteLocks.Swap(true), testhook.Polling.Swap(true)
	os.Setenv(portableVariable, "1") // for helpers
	return func() {
		testhook.NoByteLocks.Store(locks)
		testhook.Polling.Store(polls)
		os.Unsetenv(portableVariable)
	}
}
