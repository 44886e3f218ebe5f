//go:build unix && !aix && !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package semaphore_test

import (
	"os"

	"github.com/procsem/semaphore"
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
	restored := semaphore.Portable()
	os.Setenv(portableVariable, "1") // for helpers
	return func() {
		restored()
		os.Unsetenv(portableVariable)
	}
}
