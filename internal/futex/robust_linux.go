package futex

import (
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore/internal/testhook"
)

// A RobustEntry makes the kernel tell of the end of this process, however it ends,
// in a word of shared memory: it sets OwnerDied and wakes one who sleeps on the word.
// (set_robust_list(2); linux/Documentation/locking/robust-futexes.rst.)
//
// The kernel walks a list that a thread has registered, when that thread ends. Ours
// lives as long as the process does: see startRobustThread. The list's nodes hold addresses, so
// they are not in the shared memory, where others could bend them, but in private
// memory, Distance before their words.
type RobustEntry struct {
	word *atomic.Uint32
	node *uintptr
	prev *RobustEntry
	next *RobustEntry
}

// Distance is how far before its word a RobustEntry's node has to be.
const Distance = 320 << 10 // a multiple of all sizes that pages have

// maxRobustEntries is less than the kernel walks, 2048 (ROBUST_LIST_LIMIT).
const maxRobustEntries = 2000

// robust is the list. Every change of it is one store of one word, so that the
// kernel can walk it at any moment.
var robust struct {
	sync.Mutex
	head    struct{ next, offset, pending uintptr } // struct robust_list_head
	started bool
	thread  uint32 // 0: there will be no news
	last    *RobustEntry
	n       int
}

// Add writes the word, which must be 0 and at node+Distance. False: there will
// be no news of this one.
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
	// The word last: one that is on the list without the thread's number the kernel
	// passes by; but of one that says that news is due, and is not on the list, nobody
	// would ever hear.
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

// Remove takes the word off the list, if it is on it.
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

// link is the word that leads to o's node.
func (e *RobustEntry) link() *uintptr {
	if e.prev == nil {
		return &robust.head.next
	}
	return e.prev.node
}

func listEnd() uintptr { return uintptr(unsafe.Pointer(&robust.head.next)) }

// mainThread is the number of the main thread if it has our list, else 0. Init runs
// on it, and it never ends before the process does. With cgo it has glibc's list; in
// a shared library init runs on some other thread.
var mainThread uint32

func init() {
	var head, size uintptr
	_, _, errno := syscall.RawSyscall(unix.SYS_GET_ROBUST_LIST, 0, uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&size)))
	if errno == 0 && head == 0 && unix.Gettid() == unix.Getpid() && register() {
		mainThread = uint32(unix.Gettid())
	}
}

// register makes the list the calling thread's.
func register() bool {
	robust.head.next = listEnd()
	robust.head.offset = Distance
	_, _, errno := syscall.RawSyscall(unix.SYS_SET_ROBUST_LIST, uintptr(unsafe.Pointer(&robust.head)), unsafe.Sizeof(robust.head), 0)
	return errno == 0
}

// startRobustThread returns the number of a thread with our list that lives as long as the
// process, 0 if there can be none.
func startRobustThread() (thread uint32) {
	if mainThread != 0 {
		return mainThread
	}
	registered := make(chan uint32, 1)
	go func() {
		// The thread sleeps in this call until the process ends. It is not
		// locked to the goroutine, for which the runtime would start yet
		// another thread: each one makes the process die slower. Should the
		// goroutine move to another thread in between, its first one has
		// the list, and ends only in a program that lets threads end
		// (runtime.LockOSThread): then we would be thought to be dying, until
		// our locks are looked at.
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
			syscall.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&word)), futexWaitBitset|futexPrivate, 0, 0, 0, matchAny)
		}
	}()
	return <-registered
}
