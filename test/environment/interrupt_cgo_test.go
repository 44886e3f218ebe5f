//go:build cgo && linux

package environment_test

import (
	"syscall"

	"github.com/procsem/semaphore/internal/testkit/eintr"
)

// installHandler makes sig interrupt system calls; handled counts its signals.
func installHandler(sig syscall.Signal) (handled func() int) {
	if err := eintr.Install(sig); err != nil {
		panic(err)
	}
	return eintr.Handled
}
