//go:build linux

// Package glibc is glibc's named semaphores without glibc: their format, the operations
// on their words, and the engine "native". The file's layout and what its words mean are
// glibc's since 2.21 (sysdeps/nptl/internaltypes.h, struct new_sem;
// nptl/sem_open.c, sem_waitcommon.c, sem_post.c).
package glibc

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/futex"
	"github.com/procsem/semaphore/internal/names"
	"github.com/procsem/semaphore/internal/store"
	"github.com/procsem/semaphore/internal/testhook"
)

const (
	// Store names where they are, which EngineLibc shares where libc is glibc.
	Store = "glibc"
	// shared is what sem_open writes into the word "private":
	// FUTEX_PRIVATE_FLAG, to be taken off the operations, so: shared.
	shared = 128
)

func init() {
	if runtime.GOOS != "linux" {
		return // Android has no /dev/shm
	}
	engine.Register(&engine.Engine{
		Name:  "native",
		Store: Store,
		Open:  open,
		Exists: func(_, name string, counts func(fs.FileInfo) bool) (bool, error) {
			return store.Exists(Path(name), counts)
		},
		Unlink:  func(_, name string) error { return store.Remove(Path(name)) },
		Observe: observe,
	})
}

// Path is glibc's file of a name.
func Path(name string) string { return names.GlibcDir + "/" + names.Glibc + name }

// A Semaphore is a backend that works on glibc's words in shared memory.
type Semaphore struct {
	mem     *mapping
	use     engine.Use
	opts    *engine.Options
	stop    futex.Stop    // ends the server's sleep
	looks   atomic.Uint64 // how often the server has looked
	counted atomic.Bool   // the server is among the waiters that the words count
}

// A mapping is memory that is freed when nothing refers to it any more. Calls
// in progress do, so Close need not know of them, and they need not count
// themselves. The handles of one file share it.
type mapping struct{ words *Words }

// mappings are those of this process, by their file or by libc's address.
var mappings engine.Mappings[any, mapping]

// New returns a backend that works on the words of a file, which handles share: what is
// mapped already, or else the memory that mapped returns, with a function that frees it when
// nothing refers to it any more.
func New(file any, mapped func() (words unsafe.Pointer, free func(), err error), o *engine.Options) (*Semaphore, error) {
	s := &Semaphore{opts: o}
	var err error
	s.mem, s.use, err = mappings.Open(file, func() (*mapping, func(), error) {
		if err := futex.Check(); err != nil {
			return nil, nil, err
		}
		words, free, err := mapped()
		if err != nil {
			return nil, nil, err
		}
		return &mapping{(*Words)(words)}, free, nil
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func open(name string, how engine.How, o *engine.Options) (engine.Backend, error) {
	if err := local(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var opened fs.FileInfo
	check := func(f *os.File, info fs.FileInfo) error {
		opened = info
		return CheckFile(f, info)
	}
	f, created, err := store.OpenOrPublish(names.GlibcDir, names.Glibc+name, how, check, store.Filled(NewFile(uint32(o.Value))), o)
	if err == nil && created {
		opened, err = f.Stat()
	}
	if how != engine.OpenExisting && errors.Is(err, fs.ErrNotExist) {
		err = engine.Because(engine.ErrUnsupported, "this system has no %s, where glibc keeps semaphores; WithEngine(EngineFlock) can do without", names.GlibcDir)
	}
	if err != nil {
		return nil, err
	}
	return mapFile(f, opened, name, o)
}

// observe reads a semaphore's file, and does not map it.
func observe(_, name string) (o engine.Observation, err error) {
	if err := local(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return o, err
	}
	o.Path = Path(name)
	f, info, err := store.ReadRegular(o.Path)
	if err != nil {
		return o, err
	}
	defer f.Close()
	o.File = info
	content, err := read(f, info)
	o.Value = int(content.words.Value())
	return o, err
}

// local refuses a directory on a filesystem that others see without its memory. Unlike
// SEMAPHORE_DIR the directory is always the same, so one look that finds it local will do.
func local() error {
	if isLocal.Load() {
		return nil
	}
	err := store.CheckLocal(names.GlibcDir)
	isLocal.Store(err == nil)
	return err
}

var isLocal atomic.Bool

// file is a file's content, aligned for its words.
type file struct {
	words Words
	_     [Size - unsafe.Sizeof(Words{})]byte
}

func (g *file) bytes() []byte { return unsafe.Slice((*byte)(unsafe.Pointer(g)), Size) }

// CheckFile refuses what is no semaphore of this word size. libc does not
// look, and dies of SIGBUS later.
func CheckFile(f *os.File, info fs.FileInfo) error {
	_, err := read(f, info)
	return err
}

// read returns the content of a file that is a semaphore.
func read(f *os.File, info fs.FileInfo) (*file, error) {
	content := new(file)
	if err := CheckSize(f.Name(), info.Size()); err != nil {
		return content, err
	}
	b := content.bytes()
	if _, err := f.ReadAt(b, 0); err != nil {
		return content, err
	}
	if value := content.words.Value(); value > engine.MaxValue {
		return content, engine.Because(engine.ErrCorrupt, "%s has the value %d; at most %d is possible", f.Name(), value, engine.MaxValue)
	}
	if private := binary.NativeEndian.Uint32(b[privateAt:]); private != shared {
		return content, engine.Because(engine.ErrCorrupt, "%s is not shared as glibc's sem_open would have it (%d in place of %d)", f.Name(), private, shared)
	}
	return content, nil
}

// CheckSize tells a semaphore of another word size from what is none.
func CheckSize(path string, size int64) error {
	const bits = 8 * unsafe.Sizeof(uintptr(0))
	switch size {
	case Size:
		return nil
	case otherSize:
		return engine.Because(engine.ErrCorrupt, "%s has %d bytes: it belongs to programs of %d bits; this one has %d, and its semaphores %d bytes",
			path, size, 96-bits, bits, Size)
	}
	return engine.Because(engine.ErrCorrupt, "%s has %d bytes; a semaphore of this word size (%d bits) has %d", path, size, bits, Size)
}

// NewFile returns the content of a new file.
func NewFile(value uint32) []byte {
	content := new(file)
	content.words.Init(value)
	binary.NativeEndian.PutUint32(content.bytes()[privateAt:], shared)
	return content.bytes()
}

// A fileID tells files apart. Beside the inode there is the semaphore's name, for a tmpfs on
// which the inode numbers of 32 bits have begun again.
type fileID struct {
	name  string
	inode filelock.Inode
}

// mapFile maps a file that was checked, and closes it.
func mapFile(f *os.File, info fs.FileInfo, name string, o *engine.Options) (engine.Backend, error) {
	defer f.Close()
	s, err := New(fileID{name, filelock.InodeIn(info)}, func() (unsafe.Pointer, func(), error) {
		memory, err := unix.MmapPtr(int(f.Fd()), 0, nil, Size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return nil, nil, os.NewSyscallError("mmap", err)
		}
		return memory, func() { unix.MunmapPtr(memory, Size) }, nil
	}, o)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Words returns the words that most calls need nothing but.
func (s *Semaphore) Words() *Words { return s.mem.words }

func (s *Semaphore) Traits() engine.Traits { return engine.Traits{OthersWait: s.othersWait} }

// othersWait asks for more waiters than the handle's own server. It may be wrong for a moment while that
// comes or goes.
func (s *Semaphore) othersWait() bool {
	own := uint32(0)
	if s.counted.Load() {
		own = 1
	}
	others := s.mem.words.Counted() > own
	runtime.KeepAlive(s.mem)
	return others
}

func (s *Semaphore) TryWait(bool) error {
	taken := s.mem.words.Take()
	runtime.KeepAlive(s.mem)
	if !taken {
		return engine.ErrWouldBlock
	}
	return nil
}

func (s *Semaphore) Post(n int) error {
	err := s.mem.words.Post(n)
	runtime.KeepAlive(s.mem)
	return err
}

func (s *Semaphore) Value() (int, error) {
	value := int(s.mem.words.Value())
	runtime.KeepAlive(s.mem)
	return value, nil
}

// Serve sleeps on the semaphore's word.
//
// No wake-up is lost: the server counts itself as a waiter, then looks for a
// permit, then sleeps if the word still says that there is none; Post adds the
// permit, then reads the number of waiters (64-bit: both in one operation on one
// word; 32-bit: the word has a bit for it), and wakes one. Either the look finds
// the permit, or the word has changed before the sleep, or Post finds a waiter.
// A Post of n permits adds all of them in that operation, and wakes n, or all if fewer sleep: so nobody
// sleeps on for whom there is one. If a woken one finds none, newcomers have taken it, or a server that serves
// several waiters; then it sleeps again, and none is left beside it.
//
// A process that ends in here, by a crash or without having closed the handle,
// leaves the number of waiters one too high: each Post then costs a system call
// that wakes no waiter. If it had been woken, the wake-up is lost; see engine.SafetyNet.
func (s *Semaphore) Serve(t engine.Turn) {
	defer runtime.KeepAlive(s.mem)
	if !testhook.NoSafetyNet.Load() {
		defer startNet(&s.looks, func() bool { return s.mem.words.Value() > 0 }, s.stop.Fire)()
	}
	s.mem.words.AddWaiter()
	s.counted.Store(true)
	for {
		s.looks.Add(1)
		moment := s.stop.Now()
		if t.Look() {
			break
		}
		word, none := s.mem.words.SleepOn()
		engine.Woken(t, s.opts, "futex", s.stop.Wait(word, none, moment))
	}
	s.counted.Store(false)
	s.mem.words.RemoveWaiter()
}

// startNet is the safety net: while a server sleeps it looks for permits in its stead,
// so that the server need not give up its place in the kernel's queue. looks counts
// the server's own, and fire makes it look again.
func startNet(looks *atomic.Uint64, permit func() bool, fire func()) (stop func()) {
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
		pause := engine.SafetyNet - engine.NetDoubt
		switch now := looks.Load(); {
		case !permit():
			doubt = false
		case doubt && seen == now:
			doubt = false
			testhook.Rescued.Add(1)
			fire()
		default:
			doubt, seen = true, now
			pause = engine.NetDoubt
		}
		timer.Reset(pause)
	}
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(engine.SafetyNet-engine.NetDoubt, look)
	return func() {
		mu.Lock()
		defer mu.Unlock()
		stopped = true
		timer.Stop()
	}
}

func (s *Semaphore) Interrupt() { s.stop.Fire() }

func (s *Semaphore) Close() error {
	s.use.Close()
	return nil
}
