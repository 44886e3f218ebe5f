package exitsignal

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() {
	setDefault = setKernelDefault
	// The limit does not hold for a core that the kernel pipes into a program.
	limit := forbidCore
	forbidCore = func() {
		limit()
		_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	}
}

// setKernelDefault is SetDefault past Go's runtime.
func setKernelDefault(sig syscall.Signal) bool {
	// The structures of the architectures differ, but all are zero for
	// SIG_DFL without flags and mask, and smaller than this. The size of the
	// kernel's signal set is 8, but 16 on MIPS.
	var action [64]byte
	for _, setSize := range []uintptr{8, 16} {
		_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&action)), 0, setSize, 0, 0)
		if errno == 0 {
			return true
		}
	}
	return false
}
