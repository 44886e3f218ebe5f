//go:build cgo && unix

package semaphore

/*
#cgo !darwin,!android LDFLAGS: -pthread
#cgo solaris LDFLAGS: -lrt
#cgo nocallback semaphore_trywait
#cgo noescape semaphore_trywait
#cgo nocallback semaphore_post
#cgo noescape semaphore_post
#cgo nocallback semaphore_getvalue
#cgo noescape semaphore_getvalue
#include <stdlib.h>
#include "sem_posix.h"
*/
import "C"

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/glibc"
	"github.com/procsem/semaphore/internal/store"
	"github.com/procsem/semaphore/internal/testhook"
)

func init() {
	if runtime.GOOS == "android" {
		return // bionic has no named semaphores
	}
	engine.Register(&engine.Engine{
		Name:   EngineLibc.String(),
		Store:  libcStore,
		Open:   openLibc,
		Exists: libcExists,
		Unlink: func(name string) error {
			cname := C.CString("/" + name)
			defer C.free(unsafe.Pointer(cname))
			errno := C.semaphore_unlink(cname)
			if syscall.Errno(errno) == syscall.EPERM { // musl's; see store.Remove
				errno = C.int(syscall.EACCES)
			}
			return libcError("sem_unlink", errno)
		},
	})
}

// layoutIsKnown watches libc operate on a semaphore, once, and reports whether
// its words are what internal/glibc works on, in both directions.
var layoutIsKnown = sync.OnceValue(func() bool {
	memory := C.calloc(1, C.sizeof_sem_t)
	defer C.free(memory)
	sem := C.semaphore_handle(uintptr(memory))
	return C.sizeof_sem_t == glibc.Size && C.semaphore_init(sem, 2) == 0 && glibc.Probe(memory, glibc.Probed{
		TryWait: func() bool { return C.semaphore_trywait(sem) == 0 },
		Post:    func() bool { return C.semaphore_post(sem) == 0 },
		Wait: func(patience time.Duration) bool {
			for end := time.Now().Add(patience); ; {
				errno := C.semaphore_wait_for(sem, C.longlong(max(0, time.Until(end))))
				if syscall.Errno(errno) != syscall.EINTR {
					return errno == 0
				}
			}
		},
	})
})

func init() {
	if strconv.IntSize == 32 {
		maxServers = 250 // with cgo each thread takes 8 MB of address space
	}
	testhook.Libc.Glibc, testhook.Libc.Musl, testhook.Libc.Polls = isGlibc, isMusl, libcPolls
	testhook.Libc.Calls = func() int { return int(C.semaphore_calls()) }
}

// libcError makes an errno this package's error. Post's EOVERFLOW and
// TryWait's EAGAIN are ErrOverflow and ErrWouldBlock.
func libcError(call string, errno C.int) error {
	switch e := syscall.Errno(errno); e {
	case 0:
		return nil
	case syscall.EAGAIN:
		return ErrWouldBlock
	case syscall.EOVERFLOW:
		return ErrOverflow
	case syscall.EINTR:
		return ErrInterrupted
	case syscall.ENOENT:
		return engine.ErrNoSuch
	case syscall.EEXIST:
		return engine.ErrExists
	case syscall.ENOSYS:
		return engine.Because(ErrUnsupported, "%s: %w", call, e)
	default:
		return os.NewSyscallError(call, e)
	}
}

// Most libcs return one pointer for one semaphore however often a process opens
// it. Some count: glibc, musl, FreeBSD, DragonFly. Some don't: illumos, whose
// first sem_close unmaps and whose later ones fail, and musl before 1.2.3, whose
// first one unmaps all the same. So sem_close is called only when no handle of this
// process uses the pointer any more; and then as often as sem_open was, or until
// libc knows the pointer no more. Others (macOS, OpenBSD, NetBSD) return a new
// one for each open.
var libcOpen = struct {
	sync.Mutex
	uses map[C.semaphore_handle]*libcUses
}{uses: make(map[C.semaphore_handle]*libcUses)}

type libcUses struct{ now, opens int }

func libcClose(sem C.semaphore_handle) error {
	libcOpen.Lock()
	defer libcOpen.Unlock()
	uses := libcOpen.uses[sem]
	uses.now--
	if uses.now > 0 {
		return nil
	}
	delete(libcOpen.uses, sem)
	var err error
	for i := range uses.opens {
		errno := C.semaphore_close(sem)
		if i > 0 && syscall.Errno(errno) == syscall.EINVAL {
			break
		}
		err = errors.Join(err, libcError("sem_close", errno))
	}
	return err
}

// mostOpens bounds how often sem_open is repeated after an error that goes away.
const mostOpens = 1000

func openLibc(name string, how engine.How, o *engine.Options) (engine.Backend, error) {
	flags := os.O_CREATE | os.O_EXCL
	if how != engine.CreateNew {
		flags &^= os.O_EXCL
		// glibc and musl would map what stands there without a look, and die of
		// SIGBUS at its first use.
		if libcPath != nil {
			if err := checkLibc(libcPath(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
		}
	}
	if most := uint64(C.semaphore_max_value()); how != engine.OpenExisting && uint64(o.Value) > most {
		return nil, engine.Because(ErrInvalidValue, "a value of %d; this system's libc allows %d at most", o.Value, most)
	}
	if how == engine.OpenExisting {
		flags = 0
		var ours fs.FileInfo
		if libcPath != nil {
			var err error
			if ours, err = os.Lstat(libcPath(name)); errors.Is(err, fs.ErrNotExist) {
				return nil, engine.ErrNoSuch
			} else if err != nil {
				return nil, err
			}
		}
		if err := o.CheckAlone(ours); err != nil {
			return nil, err
		}
	}
	cname := C.CString("/" + name) // POSIX leaves open what a name without the slash means
	defer C.free(unsafe.Pointer(cname))

	libcOpen.Lock()
	defer libcOpen.Unlock()
	var sem C.semaphore_handle
	var errno C.int
	// EEXIST without O_EXCL is glibc 2.37's bug with concurrent creation;
	// EINTR comes from the open(2) inside.
	for range mostOpens {
		errno = C.semaphore_open(&sem, cname, C.int(flags), C.uint(o.Mode), C.uint(o.Value))
		if e := syscall.Errno(errno); e != syscall.EINTR && (e != syscall.EEXIST || how != engine.OpenOrCreate) {
			break
		}
	}
	switch {
	case syscall.Errno(errno) == syscall.ENOENT && how != engine.OpenExisting:
		return nil, engine.Because(ErrUnsupported, "this system's libc finds no directory for its semaphores (glibc, musl: /dev/shm); WithEngine(EngineFlock) can do without")
	case errno != 0:
		return nil, libcError("sem_open", errno)
	}
	uses := libcOpen.uses[sem]
	if uses == nil {
		uses = new(libcUses)
		libcOpen.uses[sem] = uses
	}
	if !o.Exact && isGlibc && layoutIsKnown() {
		mapped := false
		s, err := glibc.New(sem, func() (unsafe.Pointer, func(), error) {
			mapped = true
			uses.now++
			uses.opens++
			return C.semaphore_address(sem), func() { libcClose(sem) }, nil
		}, o)
		if err != nil {
			return nil, err
		}
		if !mapped {
			C.semaphore_close(sem) // glibc counts, and the handles share what was opened first
		}
		return s, nil
	}
	uses.now++
	uses.opens++
	return &libcSemaphore{sem: sem, opts: o, kick: engine.NewKick()}, nil
}

// Where we know a libc's files, sem_posix_linux.go sets libcPath, which returns the file
// of a name, and checkLibc, which refuses what is no semaphore of that libc's.
var (
	libcPath  func(name string) string
	checkLibc func(path string) error
)

// isGlibc and isMusl name the libcs whose files we know.
const (
	isGlibc = C.semaphore_is_glibc == 1
	isMusl  = C.semaphore_is_musl == 1
)

// libcStore is a name of its own for a libc other than glibc.
var libcStore = map[bool]string{true: glibc.Store, false: "libc"}[isGlibc]

func libcExists(name string, counts func(fs.FileInfo) bool) (bool, error) {
	if libcPath != nil {
		return store.Exists(libcPath(name), counts)
	}
	b, err := openLibc(name, engine.OpenExisting, &engine.Options{Exact: true})
	switch {
	case err == nil:
		b.Close()
		return true, nil
	case errors.Is(err, fs.ErrPermission):
		return true, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, ErrUnsupported):
		return false, nil
	case errors.Is(err, syscall.ENAMETOOLONG):
		return false, nil // NetBSD's names have 13 bytes at the most
	}
	return false, err
}

// libcPolls says that this libc has no timed wait.
var libcPolls = C.semaphore_has_timed_wait == 0

// libcSlice is how long a thread stays in libc at a time. It bounds how long one
// does that could not be called back: only glibc is known to return at our
// signal, musl waits on.
var libcSlice = map[bool]time.Duration{true: time.Second, false: 20 * time.Millisecond}[isGlibc]

type libcSemaphore struct {
	sem  C.semaphore_handle
	opts *engine.Options

	mu     sync.Mutex
	inside bool // Serve is running, on thread
	thread C.pthread_t
	kicked bool // the thread's next EINTR is of our making

	kick engine.Kick // where libc is polled
}

func (s *libcSemaphore) Traits() engine.Traits {
	return engine.Traits{Polls: libcPolls, TakesUnasked: true}
}

func (s *libcSemaphore) TryWait(bool) error {
	return libcError("sem_trywait", C.semaphore_trywait(s.sem))
}

func (s *libcSemaphore) Post() error {
	err := libcError("sem_post", C.semaphore_post(s.sem))
	if libcPolls {
		s.Interrupt() // our own waiters need not wait for the next try
	}
	return err
}

func (s *libcSemaphore) Value() (int, error) {
	var value C.int
	if err := libcError("sem_getvalue", C.semaphore_getvalue(s.sem, &value)); err != nil {
		return 0, err
	}
	return max(int(value), 0), nil // POSIX allows the number of waiters, negative
}

func (s *libcSemaphore) Close() error { return libcClose(s.sem) }

// Serve waits in libc, from where it cannot be called back: so it may be given a
// permit when no goroutine waits any more (Took then posts it).
func (s *libcSemaphore) Serve(t engine.Turn) {
	if libcPolls {
		t.Poll(s.kick, func() {})
		return
	}
	// The thread must stay ours while others may send it signals.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s.mu.Lock()
	s.inside, s.thread = true, C.pthread_self()
	s.mu.Unlock()
	for !t.Look() {
		err := libcError("sem_wait", C.semaphore_wait_for(s.sem, C.longlong(libcSlice)))
		s.mu.Lock()
		kicked := s.kicked
		s.kicked = false
		s.mu.Unlock()
		switch {
		case err == nil:
			t.Took()
		case errors.Is(err, syscall.ETIMEDOUT):
		case err != ErrInterrupted:
			t.Fail(err)
		case kicked:
		case s.opts.RetryEINTR:
			s.opts.Debug("retried", "after", "EINTR")
		default:
			t.Fail(err)
		}
	}
	s.mu.Lock()
	s.inside = false
	s.mu.Unlock()
}

// Interrupt makes Serve return from libc. If its thread is not there yet it
// does not notice; a caller that needs to be sure repeats it (awaitRetired).
func (s *libcSemaphore) Interrupt() {
	if libcPolls {
		s.kick.Send()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inside {
		s.kicked = true
		C.semaphore_kick(s.thread)
	}
}
