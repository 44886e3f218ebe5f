//go:build linux

package glibc

import (
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
)

// A libc that cannot wait for a time says so at once: its wait ends before a waiter was counted.
// Time stands still here until all sleep, so a Probe that looks for one in spite of it never ends.
func TestProbeOfALibcWithoutTimedWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := unsafe.Pointer(unsafe.SliceData(NewFile(2)))
		words := (*Words)(memory)
		waits := 0
		if Probe(memory, Probed{
			TryWait: words.Take,
			Post:    func() bool { return words.Post(1) == nil },
			Wait:    func(time.Duration) bool { waits++; return false },
		}) {
			t.Error("it works as ours")
		}
		if waits != 1 {
			t.Errorf("it waited %d times", waits)
		}
	})
}
