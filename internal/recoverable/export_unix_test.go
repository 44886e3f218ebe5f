//go:build unix && !aix && !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package recoverable

import (
	"os"

	"github.com/procsem/semaphore/internal/engine"
)

// OpenHandle makes a handle of an open file, as if it had been opened by the path.
func OpenHandle(f *os.File, path string) (engine.Backend, error) {
	return newHandle(f, path, &engine.Options{Create: true, Value: 1, Mode: 0o600})
}

// SeenThrough returns what Open checks at its end, of a handle that is open, and the byte of
// its slot's lock.
func SeenThrough(backend any, second *os.File) (slot int, err error) {
	h := backend.(*handle)
	return h.owner.Slot(), h.isSeen(second)
}
