//go:build !cgo && linux

package environment_test

import (
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// installHandler makes sig interrupt system calls; handled counts its signals.
// It removes SA_RESTART from Go's own handler.
func installHandler(sig syscall.Signal) (handled func() int) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, sig)
	// The kernel's struct sigaction begins with handler and flags, a word
	// each, on all machines but MIPS.
	var action [16]uintptr
	change := func(set, get unsafe.Pointer) {
		if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(set), uintptr(get), 8, 0, 0); errno != 0 {
			panic(errno)
		}
	}
	const saRestart = 0x10000000
	change(nil, unsafe.Pointer(&action))
	action[1] &^= saRestart
	change(unsafe.Pointer(&action), nil)
	var n atomic.Int64
	go func() {
		for range signals {
			n.Add(1)
		}
	}()
	return func() int { return int(n.Load()) }
}
