//go:build !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package semaphore

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore/internal/futex"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/testhook"
)

// What the recoverable engine has on Linux: futexes to sleep on, and robust ones
// by which the kernel tells of deaths.

type sleeper struct {
	stop        futex.Stop // ends the server's sleep
	memory      unsafe.Pointer
	robustEntry futex.RobustEntry
	deaths      deaths // the server's
}

// mapFile maps the file, with private memory for the robust list's nodes before
// it: they hold addresses, which nobody else may write.
func (s *sleeper) mapFile(f *os.File, _ *permits.Head) (unsafe.Pointer, error) {
	const private = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_NORESERVE
	base, err := unix.MmapPtr(-1, 0, nil, futex.Distance+permits.Size, unix.PROT_READ|unix.PROT_WRITE, private)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	memory := unsafe.Add(base, futex.Distance)
	if _, err := unix.MmapPtr(int(f.Fd()), 0, memory, permits.Size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_FIXED); err != nil {
		unix.MunmapPtr(base, futex.Distance+permits.Size)
		return nil, os.NewSyscallError("mmap", err)
	}
	s.memory = memory
	return memory, nil
}

// freeWith unmaps the memory when nothing refers to the table any more.
// now does that at once, when nothing uses it.
func (*sleeper) freeWith(t *permits.Table, memory unsafe.Pointer) (now func()) {
	base := unsafe.Add(memory, -futex.Distance)
	free := func(base unsafe.Pointer) { unix.MunmapPtr(base, futex.Distance+permits.Size) }
	cleanup := runtime.AddCleanup(t, free, base)
	return func() {
		cleanup.Stop()
		free(base)
	}
}

// publish has the kernel tell of our death in our slot's liveness word.
func (r *recoverable) publish() {
	word := r.own.Live()
	r.robustEntry.Add(word, (*uintptr)(unsafe.Add(unsafe.Pointer(word), -futex.Distance)))
}

func (r *recoverable) withdraw() { r.robustEntry.Remove() }

func (r *recoverable) Wake(word *uint32, n int) int { return futex.Wake(word, n) }

func (r *recoverable) polls() bool { return testhook.Polling.Load() }

func (r *recoverable) interrupt() {
	r.stop.Fire()
	r.nudge()
}

// serve sleeps on the table's event, and on the liveness words of those who hold
// and of those next in line.
//
// From time to time it wakes up by itself: that is the safety net, for deaths that
// the kernel does not announce (it has told before, or never could), for permits that
// lie beside us because whoever was woken for them has died, and for names that
// vanish. Those who wait here all do so, so nobody loses more of its place in the
// kernel's queue by it than others.
func (r *recoverable) serve(t *turn) {
	if r.polls() {
		r.servePolling(t)
		return
	}
	defer runtime.KeepAlive(r.table)
	r.own.Join()
	var (
		room        [futex.MaxWords]futex.Word
		watched     [futex.MaxWords - 2]permits.Word
		found       permits.Findings
		net         = time.Now().Add(netPause(r.table.Waiters())) // when to look by itself
		timedOut    bool                                          // it is time
		ticketValid bool                                          // our place in line is still good
		woken       bool                                          // there was an event, and nobody here has used it yet
	)
	for {
		moment := r.stop.Now()
		event := atomic.LoadUint32(r.table.Event())
		served := t.served
		done := t.look()
		woken = woken && t.served == served
		if done {
			break
		}
		if !ticketValid {
			r.own.TakeTicket()
		}
		tickets := atomic.LoadUint32(r.table.Tickets())
		counted := r.table.Counted()
		found = r.own.Scan(timedOut, watched[:0])
		if timedOut {
			r.own.Heal(counted)
			net = time.Now().Add(netPause(r.table.Waiters()))
		}
		if found.Freed > 0 {
			if timedOut {
				testhook.Rescued.Add(1)
			}
			r.own.Notify(found.Freed - 1) // one is for us
			woken = true
		}
		if found.Freed > 0 || found.Free || found.Again {
			timedOut = false
			continue
		}
		if found.Err != nil {
			r.opts.warn("failed", "op", "looking who is alive", "error", found.Err)
		}
		words := append(room[:0], futex.Word{Addr: r.table.Event(), Value: event}, futex.Word{Addr: r.table.Tickets(), Value: tickets})
		for _, w := range found.Watch {
			words = append(words, futex.Word(w))
		}
		r.own.Do(permits.Waiting)
		err := r.sleep(words, moment, r.deaths.pause(found.Dying), net)
		r.own.Do(permits.Waking)
		timedOut = err == syscall.ETIMEDOUT
		notified := atomic.LoadUint32(r.table.Event()) != event
		// One of before counts until somebody here has taken a permit: whoever took
		// that one's is known to us, and maybe to nobody who sleeps.
		woken = woken || notified
		// Who was too late to fall asleep behind those whom it saw keeps its
		// place: if it took another one each time, two could keep each other
		// awake. Who has slept is behind all others.
		ticketValid = err == syscall.EAGAIN && !notified
		switch {
		case err == syscall.EINTR && !r.opts.retryEINTR:
			t.fail(ErrInterrupted)
		case err == syscall.EINTR:
			r.opts.debug("retried", "after", "EINTR")
		case err != nil && err != syscall.EAGAIN && !timedOut:
			t.fail(os.NewSyscallError("futex", err))
		}
	}
	runtime.Gosched() // whom we have just served goes first
	if r.own.Leave() {
		r.own.PassOn(found.Watch, woken || r.deaths.recent(found.Dying), r.deaths.recent)
	}
}

// sleep sleeps until a word changes, for pause if that is not 0, or until the
// safety net's next look: then ETIMEDOUT.
func (r *recoverable) sleep(words []futex.Word, moment futex.Moment, pause time.Duration, net time.Time) error {
	if testhook.NoSafetyNet.Load() {
		err := r.stop.WaitAny(words, moment, pause)
		if err == syscall.ETIMEDOUT {
			err = nil // a dead one was to be looked at
		}
		return err
	}
	left := max(time.Until(net)-netDoubt, 1)
	if pause != 0 && pause < left {
		err := r.stop.WaitAny(words, moment, pause)
		if err == syscall.ETIMEDOUT {
			err = nil
		}
		return err
	}
	err := r.stop.WaitAny(words, moment, left)
	if err != syscall.ETIMEDOUT {
		return err
	}
	r.warnIfVanished()
	if r.own.Free() {
		// Somebody may be just about to tell us.
		switch err = r.stop.WaitAny(words, moment, netDoubt); {
		case err == syscall.EAGAIN:
			err = nil // it has slept before
		case err == syscall.ETIMEDOUT && r.own.Free():
			testhook.Rescued.Add(1)
		}
	}
	return err
}

// allocate gives a part of the file storage, without changing what is there.
// fresh says that nothing is.
func allocate(f *os.File, from, to int64, fresh bool) error {
	if from == to {
		return nil
	}
	for {
		err := unix.Fallocate(int(f.Fd()), 0, from, to-from)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EOPNOTSUPP && fresh:
			return writeZeros(f, from, to)
		case err == unix.EOPNOTSUPP:
			return nil
		case err != nil:
			return &os.PathError{Op: "fallocate", Path: f.Name(), Err: err}
		}
		return nil
	}
}

// reopenUnnamed opens a file again whose name is gone.
func reopenUnnamed(f *os.File) (*os.File, error) {
	return os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_RDWR, 0)
}

// ownStart returns when this process started, in clock ticks since the boot, as
// /proc has it, or 0.
var ownStart = sync.OnceValue(func() int64 {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0
	}
	// proc_pid_stat(5): field 22; the second one, in parentheses, may contain
	// anything.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 20 {
		return 0
	}
	ticks, _ := strconv.ParseInt(fields[19], 10, 64)
	return ticks
})

// bootTime returns when the system was started, in seconds, or 0.
var bootTime = sync.OnceValue(func() int64 {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(stat), "\nbtime ")
	line, _, _ := strings.Cut(after, "\n")
	seconds, _ := strconv.ParseInt(line, 10, 64)
	return seconds
})

// ticksPerSecond is USER_HZ, the same on all of Go's Linux systems.
const ticksPerSecond = 100

// startTime makes a time of what ownStart returns.
func startTime(ticks int64) time.Time {
	if ticks == 0 || bootTime() == 0 {
		return time.Time{}
	}
	return time.Unix(bootTime(), 0).Add(time.Duration(ticks) * time.Second / ticksPerSecond)
}
