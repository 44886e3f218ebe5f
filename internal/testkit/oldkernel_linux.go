package testkit

import (
	"os"

	"github.com/procsem/semaphore/internal/testhook"
)

// OldKernel makes this process run as on an older kernel, if the environment asks for that.
func OldKernel() {
	if os.Getenv(noFutexWaitv) != "" {
		testhook.NoFutexWaitv.Store(true)
	}
	if os.Getenv(noByteLocks) != "" {
		testhook.NoByteLocks.Store(true)
	}
}
