package oldkernel

import (
	"os"

	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/futex"
)

// Pretend does what the environment asks for.
func Pretend() {
	if os.Getenv(NoFutexWaitv) != "" {
		futex.SetClassic(true)
	}
	if os.Getenv(NoByteLocks) != "" {
		filelock.SetNoByteLocks(true)
	}
}
