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
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
		Name:    EngineLibc.String(),
		Store:   libcStore,
		Prepare: func() { layoutIsKnown() },
		Open:    openLibc,
		Exists:  libcExists,
		Unlink: func(_, name string) error {
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

// layoutIsKnown watches glibc operate on a semaphore, once, and reports whether
// its words are what internal/glibc works on, in both directions.
var layoutIsKnown = sync.OnceValue(func() bool {
	if !isGlibc {
		return false
	}
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

// closeAgain closes what this process has opened more than once, with glibc, which counts: the
// handles share what was opened first.
func closeAgain(sem C.semaphore_handle) {
	libcOpen.Lock()
	defer libcOpen.Unlock()
	uses := libcOpen.uses[sem]
	uses.now--
	uses.opens--
	C.semaphore_close(sem)
}

// mostOpens bounds how often sem_open is repeated after an error that goes away.
const mostOpens = 1000

func openLibc(name string, how engine.How, o *engine.Options) (engine.Backend, error) {
	flags := os.O_CREATE | os.O_EXCL
	var ours fs.FileInfo
	if how != engine.CreateNew {
		flags &^= os.O_EXCL
		// glibc and musl would map what stands there without a look, and die of
		// SIGBUS at its first use.
		if libcPath != nil {
			f, info, err := store.OpenChecked(libcPath(name), libcFile)
			if err == nil {
				ours, err = info, f.Close()
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
		}
	}
	if most := uint64(C.semaphore_max_value()); how != engine.OpenExisting && uint64(o.Value) > most {
		return nil, engine.Because(ErrInvalidValue, "a value of %d; this system's libc allows %d at most", o.Value, most)
	}
	if how == engine.OpenExisting {
		flags = 0
		if libcPath != nil && ours == nil {
			return nil, engine.ErrNoSuch
		}
		if err := o.CheckAlone(ours); err != nil {
			return nil, err
		}
	}
	cname := C.CString("/" + name) // POSIX leaves open what a name without the slash means
	defer C.free(unsafe.Pointer(cname))

	var sem C.semaphore_handle
	var err error
	asked := *o
	if how != engine.OpenExisting && libcContent != nil && (isMusl || layoutIsKnown()) {
		sem, err = createLibc(cname, name, how, &asked)
	} else {
		err = errors.ErrUnsupported
	}
	if errors.Is(err, errors.ErrUnsupported) {
		sem, err = callOpen(cname, flags, how, &asked)
	}
	if errors.Is(err, fs.ErrNotExist) && how != engine.OpenExisting {
		err = engine.Because(ErrUnsupported, "this system's libc finds no directory for its semaphores (glibc, musl: /dev/shm); WithEngine(EngineFlock) can do without")
	}
	if err != nil {
		return nil, err
	}
	if !o.Exact && layoutIsKnown() {
		mapped := false
		s, err := glibc.New(sem, func() (unsafe.Pointer, func(), error) {
			mapped = true
			return C.semaphore_address(sem), func() { libcClose(sem) }, nil
		}, o)
		if err != nil {
			return nil, err
		}
		if !mapped {
			closeAgain(sem)
		}
		return s, nil
	}
	return &libcSemaphore{sem: sem, opts: o, kick: engine.NewKick()}, nil
}

// callOpen calls sem_open, and counts what it returns.
func callOpen(cname *C.char, flags int, how engine.How, o *engine.Options) (C.semaphore_handle, error) {
	libcOpen.Lock()
	defer libcOpen.Unlock()
	var sem C.semaphore_handle
	var errno C.int
	if libcPath != nil {
		flags |= syscall.O_CLOEXEC // glibc passes it on to open(2); musl has it anyway
	}
	// EEXIST without O_EXCL is glibc 2.37's bug with concurrent creation;
	// EINTR comes from the open(2) inside.
	for range mostOpens {
		errno = C.semaphore_open(&sem, cname, C.int(flags), C.uint(o.Mode), C.uint(o.Value))
		if e := syscall.Errno(errno); e != syscall.EINTR && (e != syscall.EEXIST || how != engine.OpenOrCreate) {
			break
		}
	}
	if errno != 0 {
		return sem, libcError("sem_open", errno)
	}
	uses := libcOpen.uses[sem]
	if uses == nil {
		uses = new(libcUses)
		libcOpen.uses[sem] = uses
	}
	uses.now++
	uses.opens++
	return sem, nil
}

// errUnreadable: the mode, or the umask, lets the creator of a file not open it.
var errUnreadable = engine.Because(ErrUnsupported, "the owner may not read and write")

// createLibc makes the file as libc would, and has libc open it: while glibc's sem_open
// creates, a child that is started inherits the descriptor of its temporary file, and a
// process that is killed leaves that file behind, as with musl.
//
// errors.ErrUnsupported, and nothing made, if only the creation itself may open the file.
// Then o.Mode becomes what the umask leaves of it, for libc to create the file with: of that
// the umask takes nothing more, so that nobody gets the right to read alone.
func createLibc(cname *C.char, name string, how engine.How, o *engine.Options) (sem C.semaphore_handle, err error) {
	ours := *o
	if isMusl {
		ours.Mode &= 0o666 // src/thread/sem_open.c
	}
	path := libcPath(name)
	fill := func(f *os.File) error {
		info, err := f.Stat()
		if err == nil && info.Mode()&0o600 != 0o600 {
			o.Mode = info.Mode().Perm()
			err = errUnreadable
		}
		if err != nil {
			return err
		}
		return store.Filled(libcContent(uint32(o.Value)))(f)
	}
	for range mostOpens {
		f, created, err := store.OpenOrPublish(filepath.Dir(path), filepath.Base(path), how, libcFile, fill, &ours)
		if err != nil {
			return sem, err
		}
		sem, err = callOpen(cname, 0, engine.OpenExisting, o)
		gone := false
		if err == nil && created && how == engine.CreateNew {
			// Our file exists as long as f is open, and nobody gives it its name again: if
			// it has the name now it had it when libc opened the name. If not, libc may
			// have opened one that another process has made since, exclusively too.
			if gone, err = store.NameGone(f, path); gone || err != nil {
				libcClose(sem)
			}
		}
		f.Close()
		if !gone && !errors.Is(err, fs.ErrNotExist) {
			return sem, err
		}
		// The name was removed after we had made or found it.
	}
	return sem, fmt.Errorf("%s was removed %d times while it was opened", path, mostOpens)
}

// Where we know a libc's files, sem_posix_linux.go sets libcPath, which returns the file
// of a name, libcFile, which refuses what is no semaphore of that libc's, and libcContent,
// which returns the content of a new file.
var (
	libcPath    func(name string) string
	libcFile    store.Check
	libcContent func(value uint32) []byte
)

// isGlibc and isMusl name the libcs whose files we know.
const (
	isGlibc = C.semaphore_is_glibc == 1
	isMusl  = C.semaphore_is_musl == 1
)

// libcStore is a name of its own for a libc other than glibc.
var libcStore = map[bool]string{true: glibc.Store, false: "libc"}[isGlibc]

func libcExists(_, name string, counts func(fs.FileInfo) bool) (bool, error) {
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

// Post calls sem_post for one permit after the other: libc has no call for several. It
// begins only if the value has room for all, where libc tells the value; others may post meanwhile.
func (s *libcSemaphore) Post(n int) error {
	if n > 1 {
		value, err := s.Value()
		if err != nil {
			value = 0
		}
		if err := engine.MayPost(uint32(value), n); err != nil {
			return err
		}
	}
	if libcPolls {
		defer s.Interrupt() // our own waiters need not wait for the next try
	}
	for posted := range n {
		err := libcError("sem_post", C.semaphore_post(s.sem))
		if err != nil && posted > 0 {
			err = &engine.PartlyPosted{Posted: posted, Of: n, Err: err}
		}
		if err != nil {
			return err
		}
	}
	return nil
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
