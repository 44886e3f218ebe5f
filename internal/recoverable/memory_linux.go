//go:build !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package recoverable

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore/internal/futex"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/store"
)

// mapFile maps the file, with private memory for the robust list's nodes before
// it: they hold addresses, which no other process may write. free unmaps it.
func (*sleeper) mapFile(f *os.File, _ *permits.Head) (memory unsafe.Pointer, free func(), err error) {
	if err := futex.Check(); err != nil {
		return nil, nil, err
	}
	const private = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_NORESERVE
	base, err := unix.MmapPtr(-1, 0, nil, futex.Distance+permits.Size, unix.PROT_READ|unix.PROT_WRITE, private)
	if err != nil {
		return nil, nil, os.NewSyscallError("mmap", err)
	}
	free = func() { unix.MunmapPtr(base, futex.Distance+permits.Size) }
	memory = unsafe.Add(base, futex.Distance)
	if _, err := unix.MmapPtr(int(f.Fd()), 0, memory, permits.Size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_FIXED); err != nil {
		free()
		return nil, nil, mapError(f, err)
	}
	return memory, free, nil
}

// allocate gives a part of the file storage, without changing what is there.
// fresh says that nothing is.
func allocate(f *os.File, from, to int64, fresh bool) error {
	if from == to {
		return nil
	}
	for {
		err := unix.Fallocate(int(f.Fd()), 0, from, to-from)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EOPNOTSUPP && fresh:
			return store.WriteZeros(f, from, to)
		case err == unix.EOPNOTSUPP:
			return nil
		case err != nil:
			return &os.PathError{Op: "fallocate", Path: f.Name(), Err: err}
		}
		return nil
	}
}

// reopenUnnamed opens a file again whose name is gone.
func reopenUnnamed(f *os.File) (*os.File, error) {
	return os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_RDWR, 0)
}
