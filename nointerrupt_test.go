//go:build unix && !linux

package semaphore_test

import "testing"

func interruptMain([]string) int { return 9 }

func TestInterruptedWait(t *testing.T) {
	useHelper("interrupt")
	t.Skip("not on this system: a thread's blocking call in /proc")
}
