package futex

import (
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore/internal/testhook"
)

// An Obituary makes the kernel tell of the end of this process, however it ends,
// in a word of shared memory: it sets Died and wakes one who sleeps on the word.
// (set_robust_list(2); linux/Documentation/locking/robust-futexes.rst.)
//
// The kernel walks a list that a thread has registered, when that thread ends. Ours
// lives as long as the process does: see mourn. The list's nodes hold addresses, so
// they are not in the shared memory, where others could bend them, but in private
// memory, Distance before their words.
type Obituary struct {
	word *atomic.Uint32
	node *uintptr
	prev *Obituary
	next *Obituary
}

// Distance is how far before its word an Obituary's node has to be.
const Distance = 320 << 10 // a multiple of all sizes that pages have

// The bits of the word (linux/futex.h). The kernel wakes nobody if there is no
// newsDue.
const (
	newsDue = 0x80000000 // FUTEX_WAITERS
	died    = 0x40000000 // FUTEX_OWNER_DIED
)

// maxObituaries is less than the kernel walks, 2048 (ROBUST_LIST_LIMIT).
const maxObituaries = 2000

// robust is the list. Every change of it is one store of one word, so that the
// kernel can walk it at any moment.
var robust struct {
	sync.Mutex
	head    struct{ next, offset, pending uintptr } // struct robust_list_head
	started bool
	thread  uint32 // 0: there will be no news
	last    *Obituary
	n       int
}

// Publish writes the word, which must be 0 and at node+Distance. False: there will
// be no news of this one.
func (o *Obituary) Publish(word *atomic.Uint32, node *uintptr) bool {
	robust.Lock()
	defer robust.Unlock()
	if !robust.started {
		robust.started = true
		robust.thread = mourn()
	}
	if robust.thread == 0 || robust.n >= maxObituaries || testhook.NoRobustList.Load() {
		return false
	}
	o.word, o.node, o.prev = word, node, robust.last
	// The word last: one that is on the list without the thread's number the kernel
	// passes by; but of one that says that news is due, and is not on the list, nobody
	// would ever hear.
	atomic.StoreUintptr(node, listEnd())
	atomic.StoreUintptr(o.link(), uintptr(unsafe.Pointer(node)))
	word.Store(robust.thread | newsDue)
	if o.prev != nil {
		o.prev.next = o
	}
	robust.last = o
	robust.n++
	return true
}

// Withdraw takes the word off the list, if it is on it.
func (o *Obituary) Withdraw() {
	robust.Lock()
	defer robust.Unlock()
	if o.word == nil {
		return
	}
	atomic.StoreUintptr(o.link(), atomic.LoadUintptr(o.node))
	if o.prev != nil {
		o.prev.next = o.next
	}
	if o.next != nil {
		o.next.prev = o.prev
	} else {
		robust.last = o.prev
	}
	robust.n--
	*o = Obituary{}
}

// link is the word that leads to o's node.
func (o *Obituary) link() *uintptr {
	if o.prev == nil {
		return &robust.head.next
	}
	return o.prev.node
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

// mourn returns the number of a thread with our list that lives as long as the
// process, 0 if there can be none.
func mourn() (thread uint32) {
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
