package semaphore_test

import "github.com/procsem/semaphore/internal/futex"

// withoutWaitv makes the kernel look older than 5.16.
func withoutWaitv() (restore func()) {
	before := futex.SetClassic(true)
	return func() { futex.SetClassic(before) }
}
