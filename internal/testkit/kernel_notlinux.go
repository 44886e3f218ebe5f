//go:build unix && !linux

package testkit

import (
	"os"

	"golang.org/x/sys/unix"
)

// WithoutWaitv does nothing, as there is no futex_waitv.
func WithoutWaitv() (restore func()) { return func() {} }

// Emulated reports whether the tests run on an emulator of another processor.
func Emulated() bool { return false }

// KernelReports is false: only the safety net finds out that a process has ended.
func KernelReports() bool { return false }

func paths() string { return "no futexes, no OFD locks" }

// stopHere stops this process, now or a moment later.
func stopHere() { unix.Kill(os.Getpid(), unix.SIGSTOP) }
