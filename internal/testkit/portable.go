//go:build unix && !aix && !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package semaphore_test

import (
	"os"

	"github.com/procsem/semaphore/internal/testhook"
)

// withoutNews makes the kernel look older than futex_waitv, which tells of deaths
// too: without it only the safety net does.
func withoutNews() (restore func()) {
	waitv, net := withoutWaitv(), rescuing()
	return func() {
		net()
		waitv()
	}
}

// portable makes the recoverable engine what it is on systems without
// open-file-description locks and futexes.
func portable() (restore func()) {
	locks, polls := testhook.NoByteLocks.Swap(true), testhook.Polling.Swap(true)
	os.Setenv(portableVariable, "1") // for helpers
	return func() {
		testhook.NoByteLocks.Store(locks)
		testhook.Polling.Store(polls)
		os.Unsetenv(portableVariable)
	}
}
