//go:build unix && !aix && !filelock_fcntl

package storm_test

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore"
	. "github.com/procsem/semaphore/internal/testkit"
)

const (
	burstWaiters   = 60
	stormWorkers   = 24
	stormKillsHere = 500
	stormRareStep  = 5 * time.Millisecond
)

// stormEnds are ways of ending that other systems don't have.
var stormEnds = []string{"exec"}

// Witnesses are POSIX record locks: when a process dies, the kernel drops them before
// open-file-description locks and flocks.
type witnesses struct {
	f     *os.File
	first int64 // of our bytes
	own   int

	// numbers are those of this process, whose locks do not exclude each other.
	numbers map[int]bool
}

func newWitnesses(f *os.File, _ string, worker int) witnesses {
	return witnesses{f: f, first: int64(worker) * stormHands, numbers: make(map[int]bool)}
}

func (w *witnesses) close() { w.f.Close() }

func (w *witnesses) lock(command int, kind int16, at, n int64) unix.Flock_t {
	lock, err := w.fcntl(command, kind, at, n)
	if err != nil {
		panic(err)
	}
	return lock
}

// tryLock locks a byte unless another process has it locked.
func (w *witnesses) tryLock(at int64) bool {
	switch _, err := w.fcntl(unix.F_SETLK, unix.F_WRLCK, at, 1); err {
	case nil:
		return true
	case unix.EAGAIN, unix.EACCES:
		return false
	default:
		panic(err)
	}
}

func (w *witnesses) fcntl(command int, kind int16, at, n int64) (lock unix.Flock_t, err error) {
	lock = unix.Flock_t{Type: kind, Start: at, Len: n}
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.FcntlFlock(w.f.Fd(), command, &lock)
	}
	return lock, err
}

func (w *witnesses) lockGate() { w.lock(unix.F_SETLKW, unix.F_WRLCK, gateByte, 1) }

func (w *witnesses) unlockGate() { w.lock(unix.F_SETLK, unix.F_UNLCK, gateByte, 1) }

// testify locks the byte of a hand. It may have to wait: the worker that had our number
// before may still be dying.
func (w *witnesses) testify(_ *semaphore.Semaphore, hand int) {
	w.lock(unix.F_SETLKW, unix.F_WRLCK, w.first+int64(hand), 1)
	w.own++
}

func (w *witnesses) retract(_ *semaphore.Semaphore, hand int) {
	w.lock(unix.F_SETLK, unix.F_UNLCK, w.first+int64(hand), 1)
	w.own--
}

// firstNumber is the byte of number 0, behind the gate's.
const firstNumber = gateByte + 1

// claim locks the byte of a number, and reports whether nobody had it locked.
func (w *witnesses) claim(_ *semaphore.Semaphore, number int) bool {
	if w.numbers[number] || !w.tryLock(firstNumber+int64(number)) {
		return false
	}
	w.numbers[number] = true
	return true
}

func (w *witnesses) disclaim(_ *semaphore.Semaphore, number int) {
	w.lock(unix.F_SETLK, unix.F_UNLCK, firstNumber+int64(number), 1)
	delete(w.numbers, number)
}

func (w *witnesses) count() int {
	return w.own + w.countIn(0, gateByte) // F_GETLK does not find our own locks
}

// countIn counts the bytes from at to end that other processes have locked. Of the locks there the kernel shows the
// one that is first in its list, which is sorted by owner: others may be before it and behind it.
func (w *witnesses) countIn(at, end int64) int {
	if at >= end {
		return 0
	}
	found := w.lock(unix.F_GETLK, unix.F_WRLCK, at, end-at)
	if found.Type == unix.F_UNLCK {
		return 0
	}
	behind := found.Start + found.Len // neighbouring bytes of one process are one lock
	return w.countIn(at, found.Start) + int(found.Len) + w.countIn(behind, end)
}

func (w *stormWorker) perhapsExec(hand int, numbers []int) {
	// exec closes descriptors in their order, which may let another worker in before
	// the count is down.
	w.count.leave(w.s, hand, numbers)
	fmt.Println("exec")
	self, _ := os.Executable()
	panic(syscall.Exec(self, append([]string{self}, w.args...), os.Environ()))
}

// stop makes a worker stand still, if it has not ended.
func (st *storm) stop(v *victim) (code int, ended bool) {
	Must(st.t, v.cmd.Process.Signal(syscall.SIGSTOP))
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(v.cmd.Process.Pid, &status, unix.WUNTRACED, nil)
		if err == nil {
			return status.ExitStatus(), !status.Stopped()
		}
		if err != unix.EINTR {
			st.t.Fatal(err)
		}
	}
}

func (st *storm) kill(v *victim) {
	pid := v.cmd.Process.Pid
	Must(st.t, unix.Kill(pid, unix.SIGKILL))
	go func() { unix.Wait4(pid, nil, 0, nil) }()
}

func (st *storm) goOn(v *victim) { Must(st.t, unix.Kill(v.cmd.Process.Pid, unix.SIGCONT)) }
