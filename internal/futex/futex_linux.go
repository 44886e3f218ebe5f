package futex

import (
	"os"
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

	futex2Size32 = 2 // a shared word; with futexPrivate, the same flag here, a private one
)

// waiter is struct futex_waitv.
type waiter struct {
	value   uint64
	address uint64
	flags   uint32
	_       uint32
}

// noWaitv says that there is no futex_waitv, because the kernel is older than 5.16 or a
// seccomp filter that does not know it refuses it. Then waits use FUTEX_WAIT_BITSET.
// hasWaitv says that there was one, which has worked.
var noWaitv, hasWaitv atomic.Bool

// refused reports whether an error of futex_waitv means that there is none. Filters
// choose errors of their own, so until it has worked once all errors do that it does
// not have for a reason of the wait.
func refused(errno syscall.Errno) bool {
	switch errno {
	case 0, syscall.EAGAIN, syscall.EINTR, syscall.ETIMEDOUT:
		if !hasWaitv.Load() {
			hasWaitv.Store(true)
		}
		return false
	case syscall.ENOSYS, syscall.EPERM:
		return true // also of a filter that came later
	}
	return !hasWaitv.Load()
}

// SleepsOnAll reports whether WaitAny is known to wait on all of its words. It is not
// known before the first call.
func SleepsOnAll() bool {
	return hasWaitv.Load() && !noWaitv.Load() && !testhook.NoFutexWaitv.Load()
}

// Wake wakes up to n threads that wait on a word of shared memory, in any process, and
// returns how many it has woken. It does not access the word.
func Wake(word *uint32, n int) (woken int) { return wake(word, n, 0) }

func wake(word *uint32, n int, flag uintptr) (woken int) {
	r, _, errno := syscall.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWake|flag, uintptr(n), 0, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(r)
}

// Check returns an error if a seccomp filter refuses the calls without which nobody could
// sleep or be woken: waits would hang or fail later, one by one.
func Check() error {
	var word uint32
	_, _, errno := syscall.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&word)), futexWake, 1, 0, 0, 0)
	if errno == 0 {
		// The word has another value than the wait wants, so it does not sleep.
		err := new(Stop).WaitAny([]Word{{&word, 1}}, 0, 0)
		if err == syscall.EAGAIN {
			return nil
		}
		errno, _ = err.(syscall.Errno)
	}
	return os.NewSyscallError("futex", outcome(errno))
}

// A Word is a word to sleep on as long as it has that value.
type Word struct {
	Addr  *uint32
	Value uint32
}

// MaxWords is how many words one WaitAny can sleep on: futex_waitv takes 128, one of
// which is the Stop's.
const MaxWords = 127

// A Stop ends Waits from another goroutine. Its zero value is ready for use. Only one
// Wait may use it at a time.
type Stop struct {
	fired atomic.Uint32 // grows with each Fire; futex_waitv waits on it too
	// Without futex_waitv: the Moment of the Wait in progress, and its word.
	moment  atomic.Uint32
	waiting atomic.Pointer[uint32]
}

// A Moment is a state of a Stop.
type Moment uint32

// Now returns the present Moment. It must be called before the caller looks whether it
// should wait: a Fire after Now ends the Wait that gets Now's result, even if that has
// not begun yet.
func (s *Stop) Now() Moment { return Moment(s.fired.Load()) }

// Fire ends the Wait in progress, and a Wait that begins later with a Moment from
// before the Fire.
func (s *Stop) Fire() {
	now := s.fired.Add(1)
	wake((*uint32)(unsafe.Pointer(&s.fired)), 1, futexPrivate)
	// Without futex_waitv we can only wake the word that the Wait sleeps on. The
	// Wait stores it in waiting before it loads fired, and we load waiting after
	// we have added to fired: one of us sees the other. But the Wait may not
	// sleep yet when we wake it, so repeat that until it has ended, or another one
	// has begun with a later Moment. Other threads that wait on the word wake up
	// for nothing and sleep again.
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

// Wait sleeps while *word == value, unless s was fired since m. It returns nil if it was
// woken, for whatever reason, or did not sleep, and EINTR after a signal handler
// without SA_RESTART (all of Go's have it).
//
// It has no timeout: a waiter that wakes up to look at a clock loses its place in the
// kernel's queue, and waiters that never do are always ahead of it.
func (s *Stop) Wait(word *uint32, value uint32, m Moment) error {
	err := s.WaitAny([]Word{{word, value}}, m, 0)
	if err == syscall.EAGAIN {
		return nil
	}
	return err
}

// WaitAny is Wait on several words: it sleeps while all of them have their values. If
// timeout is not 0 it sleeps no longer than that, and then returns ETIMEDOUT. It returns
// EAGAIN if it did not sleep because a word had another value. Without futex_waitv it
// waits only on the first word.
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
		if !refused(errno) {
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
	// The kernel takes a timespec of 64-bit fields here on every machine.
	var at *[2]int64
	if end != nil {
		at = &[2]int64{int64(end.Sec), int64(end.Nsec)}
	}
	_, _, errno := syscall.Syscall6(unix.SYS_FUTEX_WAITV, uintptr(unsafe.Pointer(&waiters)), uintptr(len(words)+1), 0,
		uintptr(unsafe.Pointer(at)), unix.CLOCK_MONOTONIC, 0)
	runtime.KeepAlive(s) // the kernel got its address as an integer
	return errno
}

// outcome returns an errno as an error, nil for 0.
func outcome(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}
