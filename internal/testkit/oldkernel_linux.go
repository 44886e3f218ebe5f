package oldkernel

import (
	"os"

	"github.com/procsem/semaphore/internal/testhook"
)

// Pretend does what the environment asks for.
func Pretend() {
	if os.Getenv(NoFutexWaitv) != "" {
		testhook.NoFutexWaitv.Store(true)
	}
	if os.Getenv(NoByteLocks) != "" {
		testhook.NoByteLocks.Store(true)
	}
}
