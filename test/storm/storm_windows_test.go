package storm_test

import (
	"os"
	"reflect"
	"time"

	"golang.org/x/sys/windows"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/testhook"
	. "github.com/procsem/semaphore/internal/testkit"
)

// Starting and ending a process takes long on Windows, and above all under Wine.
const (
	burstWaiters   = 10
	stormWorkers   = 8
	stormKillsHere = 200
	stormRareStep  = 50 * time.Millisecond // a strike takes longer too
)

var stormEnds []string

// fileOf returns the file of a recoverable semaphore, with its slot's lock.
func fileOf(s *semaphore.Semaphore) *os.File {
	return (*os.File)(reflect.ValueOf(testhook.Inspect(s).Backend).Elem().FieldByName("f").UnsafePointer())
}

var (
	ntdll          = windows.NewLazySystemDLL("ntdll.dll")
	suspendProcess = ntdll.NewProc("NtSuspendProcess")
	resumeProcess  = ntdll.NewProc("NtResumeProcess")
)

// Witnesses are locks of bytes of the semaphore's file, behind those of the slots,
// through the handle that has the permit: when a process dies, the kernel drops them
// together with the slot's lock. (With locks of another file the order of the handles
// would decide which lock is dropped first, and the test could report a violation where
// there is none.)
type witnesses struct {
	gate  *os.File
	bytes *os.File // the semaphore's file, through a handle without any of these locks
	first int64    // of our bytes
}

const (
	firstWitness  = permits.SlotByte + permits.MaxSlots
	mostWitnesses = (stormWorkers + 1) * stormHands
)

func newWitnesses(f *os.File, name string, worker int) witnesses {
	path, err := windows.UTF16PtrFromString(StoreFile(Recoverable, name))
	if err != nil {
		panic(err)
	}
	const all = windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE
	h, err := windows.CreateFile(path, windows.GENERIC_READ|windows.GENERIC_WRITE, all, nil, windows.OPEN_EXISTING, 0, 0)
	if err != nil {
		panic(err)
	}
	return witnesses{f, os.NewFile(uintptr(h), name), firstWitness + int64(worker)*stormHands}
}

func (w *witnesses) close() {
	w.gate.Close()
	w.bytes.Close()
}

// wait locks a byte as soon as it is free.
func (w *witnesses) wait(f *os.File, at int64) {
	err := filelock.Control(f, func(h windows.Handle) error {
		return windows.LockFileEx(h, windows.LOCKFILE_EXCLUSIVE_LOCK, 0, 1, 0, &windows.Overlapped{Offset: uint32(at)})
	})
	if err != nil {
		panic(err)
	}
}

func (w *witnesses) drop(f *os.File, at int64) {
	if err := filelock.UnlockByte(f, at); err != nil {
		panic(err)
	}
}

func (w *witnesses) lockGate() { w.wait(w.gate, gateByte) }

func (w *witnesses) unlockGate() { w.drop(w.gate, gateByte) }

// testify locks the byte of a hand. It may have to wait: the worker that had our number
// before may still be dying.
func (w *witnesses) testify(s *semaphore.Semaphore, hand int) {
	w.wait(fileOf(s), w.first+int64(hand))
}

func (w *witnesses) retract(s *semaphore.Semaphore, hand int) {
	w.drop(fileOf(s), w.first+int64(hand))
}

// firstNumber is the byte of number 0, behind the others.
const firstNumber = firstWitness + mostWitnesses

// claim locks the byte of a number, and reports whether nobody had it locked.
func (w *witnesses) claim(s *semaphore.Semaphore, number int) bool {
	locked, err := filelock.TryLockByte(fileOf(s), firstNumber+int64(number))
	if err != nil {
		panic(err)
	}
	return locked
}

func (w *witnesses) disclaim(s *semaphore.Semaphore, number int) {
	w.drop(fileOf(s), firstNumber+int64(number))
}

func (w *witnesses) count() int { return w.countIn(firstWitness, mostWitnesses) }

// countIn counts the locked bytes among n.
func (w *witnesses) countIn(at, n int64) int {
	locked, err := filelock.ByteLocked(w.bytes, at, n)
	switch {
	case err != nil:
		panic(err)
	case !locked:
		return 0
	case n == 1:
		return 1
	}
	return w.countIn(at, n/2) + w.countIn(at+n/2, n-n/2)
}

func (w *stormWorker) perhapsExec(int, []int) {}

// stop makes a worker stand still, if it has not ended.
func (st *storm) stop(v *victim) (code int, ended bool) {
	h, err := windows.OpenProcess(windows.PROCESS_SUSPEND_RESUME|windows.SYNCHRONIZE, false, uint32(v.cmd.Process.Pid))
	Must(st.t, err)
	defer windows.CloseHandle(h)
	suspendProcess.Call(uintptr(h)) // fails if it is ending
	event, err := windows.WaitForSingleObject(h, 0)
	Must(st.t, err)
	if event != windows.WAIT_OBJECT_0 {
		return 0, false
	}
	state, err := v.cmd.Process.Wait() // and not v.cmd.Wait: that closes the pipe that hear reads
	Must(st.t, err)
	return state.ExitCode(), true
}

func (st *storm) kill(v *victim) {
	Must(st.t, v.cmd.Process.Kill())
	go v.cmd.Process.Wait()
}

func (st *storm) goOn(v *victim) {
	h, err := windows.OpenProcess(windows.PROCESS_SUSPEND_RESUME, false, uint32(v.cmd.Process.Pid))
	Must(st.t, err)
	defer windows.CloseHandle(h)
	resumeProcess.Call(uintptr(h))
}
