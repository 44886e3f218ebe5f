package futex

import (
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore/internal/testhook"
)

// linux/futex.h
const (
	futexWake       = 1
	futexWaitBitset = 9
	futexPrivate    = 128
	matchAny        = 0xffffffff

	futex2Size32 = 2 // and so shared; futexPrivate is the same flag
)

// waiter is struct futex_waitv.
type waiter struct {
	value   uint64
	address uint64
	flags   uint32
	_       uint32
}

// noWaitv says that there is no futex_waitv: the kernel is older than 5.16, or a
// seccomp filter older than that forbids it. Then waits use FUTEX_WAIT_BITSET.
var noWaitv atomic.Bool

// Wake wakes up to n of those who wait on a word of shared memory, in whatever
// process, and returns how many there were. It does not access the word.
func Wake(word *uint32, n int) (woken int) { return wake(word, n, 0) }

func wake(word *uint32, n int, flag uintptr) (woken int) {
	r, _, errno := syscall.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWake|flag, uintptr(n), 0, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(r)
}

// A Word is slept on while it has that value.
type Word struct {
	Addr  *uint32
	Value uint32
}

// MaxWords is how many words one Wait can sleep on: futex_waitv takes 128, of
// which one is the Stop's.
const MaxWords = 127

// A Stop ends Waits from another goroutine. Its zero value is ready; one Wait
// at a time may use it.
type Stop struct {
	fired atomic.Uint32 // grows with each Fire; what futex_waitv waits on beside the word
	// Without futex_waitv: the Moment of the Wait in progress, and its word.
	moment  atomic.Uint32
	waiting atomic.Pointer[uint32]
}

// A Moment is a state of a Stop.
type Moment uint32

// Now must be called before the caller looks whether it should wait: a Fire
// after that ends the Wait that gets the result, even before it began.
func (s *Stop) Now() Moment { return Moment(s.fired.Load()) }

// Fire ends the Wait in progress, and one that is about to begin with a Moment
// of before.
func (s *Stop) Fire() {
	now := s.fired.Add(1)
	wake((*uint32)(unsafe.Pointer(&s.fired)), 1, futexPrivate)
	// Without futex_waitv there is only the word itself to wake. The waiter
	// stores it in waiting before it loads fired, we load waiting after we
	// have added to fired: one of us sees the other. But it may not sleep yet
	// when we wake it, so repeat that until it is gone, or has come back with
	// a Moment that knows of us. Others who wait on the word wake for nothing
	// and sleep again.
	for i := 0; ; i++ {
		word := s.waiting.Load()
		if word == nil || int32(s.moment.Load()-now) >= 0 {
			return
		}
		Wake(word, 1<<30)
		if i < 10 {
			runtime.Gosched()
		} else {
			time.Sleep(20 * time.Microsecond)
		}
	}
}

// Wait sleeps while *word == value, unless s was fired since m. It returns nil
// when it was woken, for whatever reason, or did not sleep, or EINTR after a
// signal handler without SA_RESTART (all of Go's have it).
//
// It has no timeout: who wakes up to look at a clock loses the place in the
// kernel's queue, and those who never do are always ahead.
func (s *Stop) Wait(word *uint32, value uint32, m Moment) error {
	err := s.WaitAny([]Word{{word, value}}, m, 0)
	if err == syscall.EAGAIN {
		return nil
	}
	return err
}

// WaitAny is Wait on several words, as long as all have their values, and for no
// longer than timeout, if that is not 0: then ETIMEDOUT. EAGAIN says that it did not
// sleep, because a word had another value. Without futex_waitv it waits on the first
// word alone.
func (s *Stop) WaitAny(words []Word, m Moment, timeout time.Duration) error {
	var end *unix.Timespec
	if timeout > 0 {
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
			return err
		}
		at := unix.NsecToTimespec(now.Nano() + timeout.Nanoseconds())
		end = &at
	}
	if !noWaitv.Load() && !testhook.NoFutexWaitv.Load() {
		errno := s.waitv(words, m, end)
		if errno != syscall.ENOSYS && errno != syscall.EPERM {
			return outcome(errno)
		}
		noWaitv.Store(true)
	}
	word, value := words[0].Addr, words[0].Value
	s.moment.Store(uint32(m))
	s.waiting.Store(word)
	defer s.waiting.Store(nil)
	if s.Now() != m {
		return nil
	}
	_, _, errno := syscall.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWaitBitset,
		uintptr(value), uintptr(unsafe.Pointer(end)), 0, matchAny)
	return outcome(errno)
}

func (s *Stop) waitv(words []Word, m Moment, end *unix.Timespec) syscall.Errno {
	var waiters [MaxWords + 1]waiter
	waiters[0] = waiter{value: uint64(m), address: uint64(uintptr(unsafe.Pointer(&s.fired))), flags: futex2Size32 | futexPrivate}
	for i, w := range words {
		waiters[i+1] = waiter{value: uint64(w.Value), address: uint64(uintptr(unsafe.Pointer(w.Addr))), flags: futex2Size32}
	}
	// The kernel wants 64 bits of time here on every machine.
	var at *[2]int64
	if end != nil {
		at = &[2]int64{int64(end.Sec), int64(end.Nsec)}
	}
	_, _, errno := syscall.Syscall6(unix.SYS_FUTEX_WAITV, uintptr(unsafe.Pointer(&waiters)), uintptr(len(words)+1), 0,
		uintptr(unsafe.Pointer(at)), unix.CLOCK_MONOTONIC, 0)
	runtime.KeepAlive(s) // the kernel's view of it is an integer
	return errno
}

// outcome makes an error of an errno.
func outcome(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}
