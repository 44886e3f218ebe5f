package semaphore

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore/internal/futex"
)

// Engine native: glibc's named semaphores without glibc. The file's layout and
// what its words mean are those of glibc since 2.21 (sysdeps/nptl/internaltypes.h,
// struct new_sem; nptl/sem_open.c, sem_waitcommon.c, sem_post.c).

const (
	glibcStore  = "glibc"
	glibcDir    = "/dev/shm"
	glibcPrefix = "sem."
	// glibcShared is what sem_open writes into the word "private":
	// FUTEX_PRIVATE_FLAG, to be taken off the operations, so: shared.
	glibcShared = 128
)

var nativeKind = func() *kind {
	if runtime.GOOS != "linux" {
		return nil // Android has no /dev/shm
	}
	return &kind{
		engine: EngineNative,
		store:  glibcStore,
		open:   openNative,
		exists: func(name string) (bool, error) { return fileExists(glibcPath(name)) },
		unlink: func(name string) error { return removeFile(glibcPath(name)) },
	}
}()

func glibcPath(name string) string { return glibcDir + "/" + glibcPrefix + name }

// safetyNet is how long a server sleeps at the most before it looks again. Post
// wakes one waiter; if that one is killed before it takes the permit, the others
// sleep on beside a free permit (so they do in libc). Negative in tests: no net.
var safetyNet = time.Second

// rescued counts the times that the net found a permit beside a sleeper that
// nobody had woken.
var rescued atomic.Int64

// A nativeSemaphore works on glibc's words in shared memory.
type nativeSemaphore struct {
	mem  *mapping
	opts *options
	stop futex.Stop // ends the server's sleep
}

// A mapping is memory that is freed when nothing refers to it any more. Calls
// in progress do, so Close need not know of them, and they need not count
// themselves.
type mapping struct{ words *glibcWords }

// unfreed counts closed semaphores whose memory waits for the garbage collector.
var unfreed atomic.Int64

func newNative(words unsafe.Pointer, free func(), o *options) *nativeSemaphore {
	s := &nativeSemaphore{mem: &mapping{(*glibcWords)(words)}, opts: o}
	runtime.AddCleanup(s.mem, func(free func()) {
		free()
		unfreed.Add(-1)
	}, free)
	return s
}

func openNative(name string, how openHow, o *options) (backend, error) {
	path := glibcPath(name)
	for {
		if how != createNew {
			f, err := openGlibcFile(path)
			if err == nil {
				return mapNative(f, o)
			}
			if how == openExisting || !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
		}
		f, err := publish(glibcDir, glibcPrefix+name, newGlibcFile(uint32(o.value)), o.mode)
		switch {
		case err == nil:
			return mapNative(f, o)
		case !errors.Is(err, fs.ErrExist):
			return nil, err
		case how == createNew:
			return nil, errExists
		}
		// A program of libc's was faster.
	}
}

// openGlibcFile opens what stands at path if it is a semaphore of this word
// size. libc does not look, and dies of SIGBUS later.
func openGlibcFile(path string) (*os.File, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	var b [glibcSize]byte
	if err := checkGlibcFile(f, b[:]); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func checkGlibcFile(f *os.File, b []byte) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := checkGlibcSize(f.Name(), info.Size()); err != nil {
		return err
	}
	if _, err := f.ReadAt(b, 0); err != nil {
		return err
	}
	if value := (*glibcWords)(unsafe.Pointer(&b[0])).value(); value > MaxValue {
		return because(ErrCorrupt, "%s has the value %d; at most %d is possible", f.Name(), value, MaxValue)
	}
	if private := binary.NativeEndian.Uint32(b[glibcPrivateAt:]); private != glibcShared {
		return because(ErrCorrupt, "%s is not shared as glibc's sem_open would have it (%d in place of %d)", f.Name(), private, glibcShared)
	}
	return nil
}

// checkGlibcSize tells a semaphore of another word size from what is none.
func checkGlibcSize(path string, size int64) error {
	const bits = 8 * unsafe.Sizeof(uintptr(0))
	switch size {
	case glibcSize:
		return nil
	case glibcOtherSize:
		return because(ErrCorrupt, "%s has %d bytes: it belongs to programs of %d bits; this one has %d, and its semaphores %d bytes",
			path, size, 96-bits, bits, glibcSize)
	}
	return because(ErrCorrupt, "%s has %d bytes; a semaphore of this word size (%d bits) has %d", path, size, bits, glibcSize)
}

func newGlibcFile(value uint32) []byte {
	var b [glibcSize]byte
	(*glibcWords)(unsafe.Pointer(&b[0])).init(value)
	binary.NativeEndian.PutUint32(b[glibcPrivateAt:], glibcShared)
	return b[:]
}

// mapNative maps a file that was checked, and closes it.
func mapNative(f *os.File, o *options) (backend, error) {
	defer f.Close()
	memory, err := unix.Mmap(int(f.Fd()), 0, glibcSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	return newNative(unsafe.Pointer(&memory[0]), func() { unix.Munmap(memory) }, o), nil
}

func (s *nativeSemaphore) tryWait(bool) error {
	taken := s.mem.words.take()
	runtime.KeepAlive(s.mem)
	if !taken {
		return ErrWouldBlock
	}
	return nil
}

func (s *nativeSemaphore) post() error {
	err := s.mem.words.post()
	runtime.KeepAlive(s.mem)
	return err
}

func (s *nativeSemaphore) value() (int, error) {
	value := int(s.mem.words.value())
	runtime.KeepAlive(s.mem)
	return value, nil
}

// serve sleeps on the semaphore's word.
//
// No wake-up is lost: the server counts itself as a waiter, then looks for a
// permit, then sleeps if the word still says that there is none; Post adds the
// permit, then reads the number of waiters (64-bit: both in one operation on one
// word; 32-bit: the word has a bit for it), and wakes one. Either the look finds
// the permit, or the word has changed before the sleep, or Post finds a waiter.
//
// A crash of this process leaves the number of waiters one too high: each Post
// then costs a system call that wakes nobody. A crash between being woken and
// taking leaves others asleep; see safetyNet.
func (s *nativeSemaphore) serve(t *turn) {
	defer runtime.KeepAlive(s.mem)
	s.mem.words.addWaiter()
	for {
		moment := s.stop.Now()
		if t.look() {
			break
		}
		word, none := s.mem.words.sleepOn()
		err := s.stop.Wait(word, none, moment, max(safetyNet, 0))
		switch {
		case err == syscall.ETIMEDOUT && s.mem.words.value() > 0:
			rescued.Add(1)
		case err == syscall.EINTR && !s.opts.retryEINTR:
			t.fail(ErrInterrupted)
		case err == syscall.EINTR:
			s.opts.debug("retried", "after", "EINTR")
		case err != nil && err != syscall.ETIMEDOUT:
			t.fail(os.NewSyscallError("futex", err))
		}
	}
	s.mem.words.removeWaiter()
}

func (s *nativeSemaphore) interrupt() { s.stop.Fire() }

// close leaves the memory to the garbage collector. A program that opens and
// closes faster than that comes by on its own would use up its mappings (65530,
// vm.max_map_count), so make it come.
func (s *nativeSemaphore) close() error {
	if unfreed.Add(1)%1000 == 0 {
		runtime.GC()
	}
	return nil
}
