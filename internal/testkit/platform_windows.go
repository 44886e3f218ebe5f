// What tests need, and Unix provides in another way: see platform_unix.go.

package testkit

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/testhook"
)

// Rows are those of the conformance table.
var Rows = []Row{
	{"auto", semaphore.EngineAuto, nil},
	{"windows", semaphore.EngineWindows, nil},
	{"recoverable", semaphore.EngineRecoverable, nil},
	{"recoverable without watching processes", semaphore.EngineRecoverable, WithoutReports},
}

// storeDirs are where semaphores' files may be.
var storeDirs = []string{filepath.Join(os.Getenv("ProgramData"), "semaphore")}

// StoreFile returns the path at which an engine keeps a name that is written as it is.
func StoreFile(_ semaphore.Engine, name string) string {
	dir := os.Getenv("SEMAPHORE_DIR")
	if dir == "" {
		dir = storeDirs[0]
	}
	return filepath.Join(dir, "rec."+name)
}

// UnlinkFrees reports whether the name of an open semaphore can be removed.
func UnlinkFrees(e semaphore.Engine) bool {
	return e != semaphore.EngineAuto && e != semaphore.EngineWindows
}

// KeepAlive keeps a semaphore that no other process has open from ending.
func KeepAlive(t testing.TB, name string, e semaphore.Engine) {
	t.Helper()
	StartActor(t, e.String()).OK("open %s", name)
}

// Portable keeps the waiters of a helper process from watching processes, as
// WithoutReports does.
func Portable() (restore func()) {
	testhook.Unwatched.Store(true)
	return func() { testhook.Unwatched.Store(false) }
}

// WithoutReports keeps waiters from watching processes: only the safety net finds out
// that a process has ended.
func WithoutReports() (restore func()) {
	watching, net := Portable(), Rescuing()
	os.Setenv(portableVariable, "1")
	os.Setenv(NetVariable, "on")
	return func() {
		os.Unsetenv(NetVariable)
		os.Unsetenv(portableVariable)
		net()
		watching()
	}
}

// NeedSleeping does nothing: see Sleeping.
func NeedSleeping(testing.TB) {}

// Sleeping should report whether the actor waits for a semaphore. Windows does not
// show that; the tests also pass if the wait has not begun yet when the permit comes.
func (a *Actor) Sleeping() bool { return true }

// Threads returns how many threads this process has.
func Threads(t testing.TB) int {
	t.Helper()
	return ThreadsOf(t, windows.GetCurrentProcessId())
}

// ThreadsOf returns how many threads a process has.
func ThreadsOf(t testing.TB, pid uint32) int {
	t.Helper()
	all, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPTHREAD, 0)
	Must(t, err)
	defer windows.CloseHandle(all)
	n := 0
	entry := windows.ThreadEntry32{Size: uint32(unsafe.Sizeof(windows.ThreadEntry32{}))}
	for err = windows.Thread32First(all, &entry); err == nil; err = windows.Thread32Next(all, &entry) {
		if entry.OwnerProcessID == pid {
			n++
		}
	}
	if !errors.Is(err, windows.ERROR_NO_MORE_FILES) {
		t.Fatal(err)
	}
	return n
}

// Sharing returns the kinds of actors that share semaphores with each other, by the name
// of their store.
func Sharing() map[string][]string { return map[string][]string{"windows": {"windows", "C"}} }

// cVariable is the environment variable that names testdata/actor_windows.c, compiled:
// there need not be a compiler for Windows on Windows.
const cVariable = "SEMAPHORE_TEST_C"

// foreignActor is the command of an actor that is not this program.
func foreignActor(t testing.TB, kind string) *exec.Cmd {
	t.Helper()
	if kind != "C" {
		return nil
	}
	path := os.Getenv(cVariable)
	if path == "" {
		Missing(t, "a C program in "+cVariable)
	}
	return exec.Command(path)
}

// platformCommand runs no commands: all those of the actor in Go exist everywhere.
func platformCommand(*semaphore.Semaphore, []string) (answer string, err error, known bool) {
	return "", nil, false
}

func lockRecord(f *os.File) {
	if err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK, 0, 1, 0, new(windows.Overlapped)); err != nil {
		panic(err)
	}
}

func unlockRecord(f *os.File) {
	if err := windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, new(windows.Overlapped)); err != nil {
		panic(err)
	}
}

// recordIsLocked reports whether another process has it locked.
func recordIsLocked(f *os.File) bool {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped))
	switch {
	case err == nil:
		unlockRecord(f)
		return false
	case errors.Is(err, windows.ERROR_LOCK_VIOLATION):
		return true
	}
	panic(err)
}

// UnderWine reports whether this Windows is Wine.
func UnderWine() bool {
	return windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil
}

// TempDir returns a directory that is removed when the test ends.
//
// t.TempDir cannot clean up under Wine 8, which lacks the call by which os.RemoveAll
// deletes what is in a directory (FileDispositionInformationEx).
func TempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "semaphore-test-")
	Must(t, err)
	dir = direct(t, dir)
	t.Cleanup(func() {
		var paths []string
		filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			paths = append(paths, path)
			return err
		})
		for _, path := range slices.Backward(paths) {
			WaitFor(t, "the end of "+path, func() bool {
				runtime.GC() // a semaphore's file is gone when no process has it mapped
				err := os.Remove(path)
				return err == nil || errors.Is(err, fs.ErrNotExist)
			})
		}
	})
	return dir
}

// Emulated reports whether the tests run on an emulator of another processor.
func Emulated() bool { return false }

// KernelReports is true: the handles of processes report exits to waiters.
func KernelReports() bool { return true }

func paths() string { return "LockFileEx, handles of processes" }

// In the other variant only the safety net finds dead owners.
const otherVariant = "unwatched"

// Vary makes the recoverable engine the other variant of EachVariant.
func Vary() (restore func()) { return WithoutReports() }

// Suspend suspends a process, and returns when it stands still.
func Suspend(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	ofProcess(t, cmd, suspendProcess)
}

// GoOn lets a suspended process go on.
func GoOn(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	ofProcess(t, cmd, resumeProcess)
}

var (
	ntdll          = windows.NewLazySystemDLL("ntdll.dll")
	suspendProcess = ntdll.NewProc("NtSuspendProcess")
	resumeProcess  = ntdll.NewProc("NtResumeProcess")
)

func ofProcess(t testing.TB, cmd *exec.Cmd, what *windows.LazyProc) {
	t.Helper()
	h, err := windows.OpenProcess(windows.PROCESS_SUSPEND_RESUME, false, uint32(cmd.Process.Pid))
	Must(t, err)
	defer windows.CloseHandle(h)
	if status, _, _ := what.Call(uintptr(h)); status != 0 {
		t.Fatalf("%s: %#x", what.Name, status)
	}
}

// OpenErr opens a semaphore of EngineWindows and closes it, and returns the error of Open.
func OpenErr(name string, opts ...semaphore.Option) error {
	s, err := semaphore.Open(name, append(opts, semaphore.WithEngine(semaphore.EngineWindows))...)
	if err == nil {
		s.Close()
	}
	return err
}

// HandleCount returns how many handles this process has, or a few more.
//
// Wine does not count them, but gives new ones the lowest free numbers.
func HandleCount(t *testing.T) (n uint32) {
	t.Helper()
	if UnderWine() {
		const holes = 100 // free numbers that closed handles may have left
		for range holes {
			h, err := windows.CreateEvent(nil, 0, 0, nil)
			Must(t, err)
			defer windows.CloseHandle(h)
			n = max(n, uint32(h)/4)
		}
		return n
	}
	if r, _, err := getProcessHandleCount.Call(uintptr(windows.CurrentProcess()), uintptr(unsafe.Pointer(&n))); r == 0 {
		t.Fatal("GetProcessHandleCount: ", err)
	}
	return n
}

var getProcessHandleCount = windows.NewLazySystemDLL("kernel32.dll").NewProc("GetProcessHandleCount")

// heedInterrupts does nothing: see the one for Unix.
func heedInterrupts() {}

// lockWhole is for systems on which some locks are those of whole files.
func lockWhole(*os.File) (bool, error) { panic("no such locks") }
