//go:build unix && !linux

package semaphore_test

import (
	"testing"
)

func TestInterruptedWait(t *testing.T) {
	t.Skip("not on this system: a thread's blocking call in /proc")
}
