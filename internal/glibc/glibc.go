package semaphore

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore/internal/futex"
	"github.com/procsem/semaphore/internal/names"
	"github.com/procsem/semaphore/internal/testhook"
)

// Engine native: glibc's named semaphores without glibc. The file's layout and
// what its words mean are those of glibc since 2.21 (sysdeps/nptl/internaltypes.h,
// struct new_sem; nptl/sem_open.c, sem_waitcommon.c, sem_post.c).

const (
	glibcStore = "glibc"
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

func glibcPath(name string) string { return names.GlibcDir + "/" + names.Glibc + name }

// A nativeSemaphore works on glibc's words in shared memory.
type nativeSemaphore struct {
	mem   *mapping
	opts  *options
	stop  futex.Stop    // ends the server's sleep
	looks atomic.Uint64 // how often the server has looked
}

// A mapping is memory that is freed when nothing refers to it any more. Calls
// in progress do, so Close need not know of them, and they need not count
// themselves.
type mapping struct{ words *glibcWords }

func newNative(words unsafe.Pointer, free func(), o *options) *nativeSemaphore {
	s := &nativeSemaphore{mem: &mapping{(*glibcWords)(words)}, opts: o}
	runtime.AddCleanup(s.mem, func(free func()) { free() }, free)
	return s
}

func openNative(name string, how openHow, o *options) (backend, error) {
	f, err := openOrPublish(names.GlibcDir, names.Glibc+name, how, checkGlibcFile, filled(newGlibcFile(uint32(o.value))), o.mode)
	if how != openExisting && errors.Is(err, fs.ErrNotExist) {
		err = because(ErrUnsupported, "this system has no %s, where glibc keeps semaphores; WithEngine(EngineFlock) can do without", names.GlibcDir)
	}
	if err != nil {
		return nil, err
	}
	return mapNative(f, o)
}

// glibcFile is a file's content, aligned for its words.
type glibcFile struct {
	words glibcWords
	_     [glibcSize - unsafe.Sizeof(glibcWords{})]byte
}

func (g *glibcFile) bytes() []byte { return unsafe.Slice((*byte)(unsafe.Pointer(g)), glibcSize) }

// checkGlibcFile refuses what is no semaphore of this word size. libc does not
// look, and dies of SIGBUS later.
func checkGlibcFile(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := checkGlibcSize(f.Name(), info.Size()); err != nil {
		return err
	}
	var content glibcFile
	b := content.bytes()
	if _, err := f.ReadAt(b, 0); err != nil {
		return err
	}
	if value := content.words.value(); value > MaxValue {
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
	content := new(glibcFile)
	content.words.init(value)
	binary.NativeEndian.PutUint32(content.bytes()[glibcPrivateAt:], glibcShared)
	return content.bytes()
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
// A process that ends in here, by a crash or without having closed the handle,
// leaves the number of waiters one too high: each Post then costs a system call
// that wakes nobody. If it had been woken, it takes that along; see safetyNet.
func (s *nativeSemaphore) serve(t *turn) {
	defer runtime.KeepAlive(s.mem)
	if !testhook.NoSafetyNet.Load() {
		defer watch(&s.looks, func() bool { return s.mem.words.value() > 0 }, s.stop.Fire)()
	}
	s.mem.words.addWaiter()
	for {
		s.looks.Add(1)
		moment := s.stop.Now()
		if t.look() {
			break
		}
		word, none := s.mem.words.sleepOn()
		switch err := s.stop.Wait(word, none, moment); {
		case err == syscall.EINTR && !s.opts.retryEINTR:
			t.fail(ErrInterrupted)
		case err == syscall.EINTR:
			s.opts.debug("retried", "after", "EINTR")
		case err != nil:
			t.fail(os.NewSyscallError("futex", err))
		}
	}
	s.mem.words.removeWaiter()
}

// watch is the safety net: while a server sleeps it looks for permits in its stead,
// so that the server need not give up its place in the kernel's queue. looks counts
// the server's own, and fire makes it look again.
func watch(looks *atomic.Uint64, permit func() bool, fire func()) (stop func()) {
	var mu sync.Mutex // for timer and stopped
	var timer *time.Timer
	var stopped, doubt bool
	var seen uint64
	look := func() {
		mu.Lock()
		defer mu.Unlock()
		if stopped {
			return
		}
		pause := safetyNet - netDoubt
		switch now := looks.Load(); {
		case !permit():
			doubt = false
		case doubt && seen == now:
			doubt = false
			testhook.Rescued.Add(1)
			fire()
		default:
			doubt, seen = true, now
			pause = netDoubt
		}
		timer.Reset(pause)
	}
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(safetyNet-netDoubt, look)
	return func() {
		mu.Lock()
		defer mu.Unlock()
		stopped = true
		timer.Stop()
	}
}

func (s *nativeSemaphore) interrupt() { s.stop.Fire() }

func (s *nativeSemaphore) close() error {
	leaveToCollector()
	return nil
}
