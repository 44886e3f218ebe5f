//go:build unix && !(cgo && linux)

package semaphore_test

import "testing"

func interruptMain([]string) int { return 9 }

func TestInterruptedWait(t *testing.T) {
	useHelper("interrupt")
	t.Skip("not in this build: a C signal handler, and a thread's blocking call in /proc")
}
