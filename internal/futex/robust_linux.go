package futex

import (
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore/internal/testhook"
)

// A RobustEntry is an entry of the robust list: the kernel reports the exit of this
// process, however it ends, in the entry's word of shared memory. It sets OwnerDied and
// wakes one thread that waits on the word. (set_robust_list(2);
// linux/Documentation/locking/robust-futexes.rst.)
//
// When a thread exits, the kernel walks the list that the thread has registered. Our
// thread lives as long as the process does: see startRobustThread. The list's nodes
// hold addresses, so they are not in the shared memory, where another process could
// change them, but in private memory, Distance before their words.
type RobustEntry struct {
	word *atomic.Uint32
	node *uintptr
	prev *RobustEntry
	next *RobustEntry
}

// Distance is how far before its word an entry's node has to be.
const Distance = 320 << 10 // a multiple of all sizes that pages have

// maxRobustEntries is less than the 2048 entries that the kernel walks
// (ROBUST_LIST_LIMIT).
const maxRobustEntries = 2000

// robust is the list. Every change of it is one store of one word, so the kernel can
// walk it at any moment.
var robust struct {
	sync.Mutex
	head    struct{ next, offset, pending uintptr } // struct robust_list_head
	started bool
	thread  uint32 // 0: exits will not be reported
	last    *RobustEntry
	n       int
}

// Add puts the entry on the list and writes its word, which must be 0 and at
// node+Distance. It reports false if the exit will not be reported there: then the word
// stays 0.
func (e *RobustEntry) Add(word *atomic.Uint32, node *uintptr) bool {
	robust.Lock()
	defer robust.Unlock()
	if !robust.started {
		robust.started = true
		robust.thread = startRobustThread()
	}
	if robust.thread == 0 || robust.n >= maxRobustEntries || testhook.NoRobustList.Load() {
		return false
	}
	e.word, e.node, e.prev = word, node, robust.last
	// The word is written last. If the process dies before that, the kernel passes by
	// an entry on the list whose word has not the thread's number. But if a word said
	// that the exit will be reported, and were not on the list, nobody would ever hear
	// of the exit.
	atomic.StoreUintptr(node, listEnd())
	atomic.StoreUintptr(e.link(), uintptr(unsafe.Pointer(node)))
	word.Store(robust.thread | Waiters)
	if e.prev != nil {
		e.prev.next = e
	}
	robust.last = e
	robust.n++
	return true
}

// Remove takes the entry off the list, if it is on it.
func (e *RobustEntry) Remove() {
	robust.Lock()
	defer robust.Unlock()
	if e.word == nil {
		return
	}
	atomic.StoreUintptr(e.link(), atomic.LoadUintptr(e.node))
	if e.prev != nil {
		e.prev.next = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		robust.last = e.prev
	}
	robust.n--
	*e = RobustEntry{}
}

// link returns the pointer to e's node: the list's head, or in the node before.
func (e *RobustEntry) link() *uintptr {
	if e.prev == nil {
		return &robust.head.next
	}
	return e.prev.node
}

func listEnd() uintptr { return uintptr(unsafe.Pointer(&robust.head.next)) }

// registerMain registers our list for the main thread, if that is the calling one and has
// no list, and returns its number, else 0. The main thread of a Go program never exits before
// the process does; with cgo it has glibc's list already.
func registerMain() (thread uint32) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if unix.Gettid() != unix.Getpid() {
		return 0
	}
	var head, size uintptr
	_, _, errno := syscall.RawSyscall(unix.SYS_GET_ROBUST_LIST, 0, uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&size)))
	if errno != 0 || head != 0 || !register() {
		return 0
	}
	return uint32(unix.Gettid())
}

// register registers the list for the calling thread.
func register() bool {
	robust.head.next = listEnd()
	robust.head.offset = Distance
	_, _, errno := syscall.RawSyscall(unix.SYS_SET_ROBUST_LIST, uintptr(unsafe.Pointer(&robust.head)), unsafe.Sizeof(robust.head), 0)
	return errno == 0
}

// startRobustThread returns the number of a thread that has registered our list and
// lives as long as the process, 0 if there can be none.
func startRobustThread() (thread uint32) {
	if runtime.GOOS == "android" {
		return 0 // its seccomp filter ends programs that ask for such a list
	}
	if thread = registerMain(); thread != 0 {
		return thread // saves a thread, and the process time to die
	}
	registered := make(chan uint32, 1)
	go func() {
		// The thread sleeps in the last system call until the process ends. The
		// goroutine is not locked to it: for that the runtime would start yet
		// another thread, and each one makes the process die more slowly. Should
		// the goroutine move to another thread after it has registered, its first
		// thread has the list, and exits only in a program that lets threads exit
		// (runtime.LockOSThread). Then others see OwnerDied, and find from our
		// lock that we are alive.
		thread := 0
		for thread == 0 || thread != unix.Gettid() { // moved while it registered
			thread = unix.Gettid()
			if !register() {
				registered <- 0
				return
			}
		}
		registered <- uint32(thread)
		var word uint32
		for {
			_, _, errno := syscall.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&word)), futexWaitBitset|futexPrivate, 0, 0, 0, matchAny)
			if errno != 0 && errno != syscall.EINTR {
				// A seccomp filter refuses the call. The runtime can put a thread to
				// sleep without it, if the thread has to wait for its goroutine.
				runtime.LockOSThread()
				select {}
			}
		}
	}()
	return <-registered
}
