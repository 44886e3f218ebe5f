//go:build unix && !linux && !aix && !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package recoverable

import (
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/store"
)

// On systems without futexes no server can be woken: it polls.

type sleeper struct{}

// mapFile maps the file. free unmaps it.
func (*sleeper) mapFile(f *os.File, _ *permits.Head) (memory unsafe.Pointer, free func(), err error) {
	memory, err = unix.MmapPtr(int(f.Fd()), 0, nil, permits.Size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, mapError(f, err)
	}
	return memory, func() { unix.MunmapPtr(memory, permits.Size) }, nil
}

func (h *handle) reportExit() {}

func (h *handle) withdrawReport() {}

// Wake and prepareSleep have nothing to do: waiters poll.
func (h *handle) Wake(int, *uint32) bool { return false }

func (h *handle) prepareSleep() error { return nil }

func (h *handle) Interrupt() { h.kick.Send() }

func (h *handle) Serve(t engine.Turn) { h.servePolling(t) }

// allocate gives a part of the file storage. What is not fresh had it when it was
// used.
func allocate(f *os.File, from, to int64, fresh bool) error {
	if !fresh {
		return nil
	}
	return store.WriteZeros(f, from, to)
}

func reopenUnnamed(f *os.File) (*os.File, error) {
	return nil, errVanished
}

// ownStart is not known here.
func ownStart() int64 { return 0 }

func startTime(int64) time.Time { return time.Time{} }
