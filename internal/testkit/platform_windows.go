// What tests need that Unix has otherwise: see platform_unix_test.go.

package semaphore_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/testhook"
)

var rows = []row{
	{"auto", semaphore.EngineAuto, nil},
	{"windows", semaphore.EngineWindows, nil},
	{"recoverable", semaphore.EngineRecoverable, nil},
	{"recoverable without watching processes", semaphore.EngineRecoverable, withoutNews},
}

var platformHelpers = map[string]func([]string) int{"ctrl": ctrlMain, "stores": storesMain}

// storeDirs are where semaphores' files may be.
var storeDirs = []string{filepath.Join(os.Getenv("ProgramData"), "semaphore")}

// storeFile is where an engine keeps a name that is written as it is.
func storeFile(_ semaphore.Engine, name string) string {
	dir := os.Getenv("SEMAPHORE_DIR")
	if dir == "" {
		dir = storeDirs[0]
	}
	return filepath.Join(dir, "rec."+name)
}

// oddBytes are some that a name may have.
const oddBytes = "\n\x01 :*?%"

// longest returns the length of the longest name of an engine.
func longest(e semaphore.Engine) int {
	if owns(e) {
		return 255 - len("rec.")
	}
	return semaphore.MaxName()
}

// unlinkFrees reports whether the name of an open semaphore can be removed.
func unlinkFrees(e semaphore.Engine) bool {
	return e != semaphore.EngineAuto && e != semaphore.EngineWindows
}

// keepAlive keeps a semaphore that nobody has open from ending.
func keepAlive(t testing.TB, name string, e semaphore.Engine) {
	t.Helper()
	startActor(t, e.String()).ok("open %s", name)
}

// portable, for helpers, is withoutNews.
func portable() (restore func()) {
	testhook.Unwatched.Store(true)
	return func() { testhook.Unwatched.Store(false) }
}

// withoutNews lets nobody watch processes: only the safety net finds the dead.
func withoutNews() (restore func()) {
	watching, net := portable(), rescuing()
	os.Setenv(portableVariable, "1")
	os.Setenv(netVariable, "on")
	return func() {
		os.Unsetenv(netVariable)
		os.Unsetenv(portableVariable)
		net()
		watching()
	}
}

// needSleeping skips where it cannot be seen what threads sleep in.
func needSleeping(testing.TB) {}

// sleeping would report whether the actor waits for a semaphore. Windows does not
// tell; a wait that has not begun yet when the permit comes passes the tests too.
func (a *actor) sleeping() bool { return true }

// threads returns how many this process has.
func threads(t testing.TB) int {
	t.Helper()
	all, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPTHREAD, 0)
	must(t, err)
	defer windows.CloseHandle(all)
	n := 0
	entry := windows.ThreadEntry32{Size: uint32(unsafe.Sizeof(windows.ThreadEntry32{}))}
	for err = windows.Thread32First(all, &entry); err == nil; err = windows.Thread32Next(all, &entry) {
		if entry.OwnerProcessID == windows.GetCurrentProcessId() {
			n++
		}
	}
	if !errors.Is(err, windows.ERROR_NO_MORE_FILES) {
		t.Fatal(err)
	}
	return n
}

// sharing are the kinds of actors that share semaphores with each other.
func sharing() map[string][]string { return map[string][]string{"windows": {"windows", "C"}} }

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
		missing(t, "a C program in "+cVariable)
	}
	return exec.Command(path)
}

// platformCommand are the commands of the actor in Go that exist here only.
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

// exits has the one event of a console that can be sent to a process alone, which Go
// makes SIGINT of. See TestConsole for what Wine does not do.
var exits = []exit{
	{"idle", syscall.SIGINT, 0},
	{"busy", syscall.SIGINT, 0},
	{"storm", syscall.SIGINT, 0},
	{"listening", syscall.SIGINT, 0},
	{"closed", syscall.SIGINT, 0},
	{"idle", syscall.SIGKILL, 3}, // not covered
	{"plain", syscall.SIGINT, 3}, // not asked for
}

// endable gives a process that end can end a console and a group of its own.
func endable(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NO_WINDOW | windows.CREATE_NEW_PROCESS_GROUP}
	return cmd
}

// heedCtrlC undoes that the first process of a group ignores Ctrl-C.
func heedCtrlC() {
	if r, _, err := setConsoleCtrlHandler.Call(0, 0); r == 0 {
		panic(err)
	}
}

// ctrlMain sends an event to a process that has a console of its own: Ctrl-Break, as
// Windows sends Ctrl-C to no single group. Wine does that, and knows no Ctrl-Break.
func ctrlMain(args []string) int {
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		panic(err)
	}
	freeConsole.Call()
	if r, _, err := attachConsole.Call(uintptr(pid)); r == 0 {
		panic(err)
	}
	var event uint32 = windows.CTRL_BREAK_EVENT
	if underWine() {
		event = windows.CTRL_C_EVENT
	}
	if err := windows.GenerateConsoleCtrlEvent(event, uint32(pid)); err != nil {
		panic(err)
	}
	return 0
}

// end ends a process by an event of its console, or by TerminateProcess for SIGKILL,
// and wants its status to say so.
func end(t *testing.T, a *actor, how exit) {
	t.Helper()
	want := uint32(windows.STATUS_CONTROL_C_EXIT)
	if how.sig == syscall.SIGKILL {
		want = 1
		must(t, a.cmd.Process.Kill())
	} else {
		must(t, helper(t, "ctrl", fmt.Sprint(a.cmd.Process.Pid)).Run())
	}
	result(t, inBackground(a.cmd.Wait))
	got := uint32(a.cmd.ProcessState.ExitCode())
	if underWine() && (how.how == "plain" || how.how == "closed") {
		want = 0 // what Wine ends a process with that does not handle the event
	}
	if got != want {
		t.Errorf("exit status %#x, want %#x", got, want)
	}
}

var (
	kernel32              = windows.NewLazySystemDLL("kernel32.dll")
	attachConsole         = kernel32.NewProc("AttachConsole")
	freeConsole           = kernel32.NewProc("FreeConsole")
	setConsoleCtrlHandler = kernel32.NewProc("SetConsoleCtrlHandler")
)

func underWine() bool {
	return windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil
}

// tempDir is t.TempDir, which cannot clean up under Wine 8: that lacks the call by
// which os.RemoveAll deletes what is in a directory (FileDispositionInformationEx).
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "semaphore-test-")
	must(t, err)
	t.Cleanup(func() {
		var paths []string
		filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			paths = append(paths, path)
			return err
		})
		for _, path := range slices.Backward(paths) {
			waitFor(t, "the end of "+path, func() bool {
				runtime.GC() // a semaphore's file goes when nobody has it mapped
				err := os.Remove(path)
				return err == nil || errors.Is(err, fs.ErrNotExist)
			})
		}
	})
	return dir
}

func emulated() bool { return false }

// kernelTells: waiters hear of deaths by the handles of processes.
func kernelTells() bool { return true }

func paths() string { return "LockFileEx, handles of processes" }
