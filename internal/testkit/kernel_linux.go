package testkit

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/testhook"
)

// WithoutWaitv makes the kernel look older than 5.16.
func WithoutWaitv() (restore func()) {
	before := testhook.NoFutexWaitv.Swap(true)
	return func() { testhook.NoFutexWaitv.Store(before) }
}

// HasWaitv reports whether the kernel, or the emulator in its place, has futex_waitv.
func HasWaitv() bool {
	_, _, errno := unix.RawSyscall6(unix.SYS_FUTEX_WAITV, 0, 0, 0, 0, 0, 0)
	return errno == syscall.EINVAL && !testhook.NoFutexWaitv.Load()
}

// hasRobustList reports whether the kernel has robust lists.
func hasRobustList() bool {
	var head, size uintptr
	_, _, errno := unix.RawSyscall(unix.SYS_GET_ROBUST_LIST, 0, uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&size)))
	return errno == 0 && !testhook.NoRobustList.Load()
}

// HasByteLocks reports whether the kernel has open-file-description locks.
func HasByteLocks() bool {
	f, err := os.CreateTemp("", "semaphore-test-")
	if err != nil {
		panic(err)
	}
	defer f.Close()
	os.Remove(f.Name())
	_, err = filelock.ByteLocked(f, 0, 1)
	return err == nil
}

// KernelReports reports whether the kernel reports exits of processes to waiters.
//
// If it does not, the safety net finds dead owners, and is on in all tests.
func KernelReports() bool { return HasWaitv() && hasRobustList() }

// paths names the mechanisms of the kernel that the engines use.
func paths() string {
	no := map[bool]string{false: "no "}
	return no[HasWaitv()] + "futex_waitv, " + no[hasRobustList()] + "robust list, " + no[HasByteLocks()] + "OFD locks"
}

// Emulated reports whether the tests run on an emulator of another processor.
func Emulated() bool {
	// /proc then shows the system calls of the emulator's machine. It shows ours only
	// as long as we stay on the thread whose file we have opened.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	call, err := os.ReadFile("/proc/thread-self/syscall")
	return err == nil && !strings.HasPrefix(string(call), fmt.Sprint(unix.SYS_READ, " "))
}

// NeedCallNumbers skips a test where /proc does not show the system calls that threads
// are in.
func NeedCallNumbers(t testing.TB) {
	t.Helper()
	NeedSleeping(t)
	if Emulated() {
		t.Skip("on an emulator: its system calls are in /proc, not ours")
	}
}

// Sleeper returns a thread of a process that sleeps on a futex in that file, or on
// several futexes, whose addresses the kernel does not show; 0 if there is none.
func Sleeper(pid int, file string) (tid int) {
	proc := fmt.Sprintf("/proc/%d/", pid)
	maps, _ := os.ReadFile(proc + "maps")
	var from, to uint64
	for line := range strings.Lines(string(maps)) {
		if strings.HasSuffix(strings.TrimSpace(line), "/"+filepath.Base(file)) {
			fmt.Sscanf(line, "%x-%x", &from, &to)
		}
	}
	tasks, _ := filepath.Glob(proc + "task/*")
	for _, task := range tasks {
		call, _ := os.ReadFile(filepath.Join(task, "syscall"))
		var number int
		var at uint64
		if n, _ := fmt.Sscanf(string(call), "%d 0x%x", &number, &at); n == 2 && (number == unix.SYS_FUTEX && from <= at && at < to || number == unix.SYS_FUTEX_WAITV) {
			fmt.Sscan(filepath.Base(task), &tid)
		}
	}
	return tid
}

// stopHere stops this process, by a signal to this thread. One to the process may stop another thread first, and this
// one goes on until that has run.
func stopHere() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGSTOP)
}
