//go:build unix && !linux && !aix && !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package recoverable

import (
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/store"
)

// On systems without futexes no server can be woken: it polls.

type sleeper struct{}

func (*sleeper) mapFile(f *os.File, _ *permits.Head) (unsafe.Pointer, error) {
	memory, err := unix.MmapPtr(int(f.Fd()), 0, nil, permits.Size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	return memory, os.NewSyscallError("mmap", err)
}

// freeWith unmaps the memory when nothing refers to the table any more.
// now does that at once, when nothing uses it.
func (*sleeper) freeWith(t *permits.Table, memory unsafe.Pointer) (now func()) {
	free := func(memory unsafe.Pointer) { unix.MunmapPtr(memory, permits.Size) }
	cleanup := runtime.AddCleanup(t, free, memory)
	return func() {
		cleanup.Stop()
		free(memory)
	}
}

func (h *handle) reportExit() {}

func (h *handle) withdrawReport() {}

func (h *handle) Wake(*uint32, int) int { return 0 }

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
