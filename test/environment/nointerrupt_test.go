//go:build unix && !linux

package environment_test

import (
	"testing"
)

func TestInterruptedWait(t *testing.T) {
	t.Skip("not on this system: a thread's blocking call in /proc")
}
