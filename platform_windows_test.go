// What tests need that Unix has otherwise: see platform_unix_test.go.

package semaphore_test

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/procsem/semaphore"
)

var rows = []row{
	{"auto", semaphore.EngineAuto, nil},
	{"windows", semaphore.EngineWindows, nil},
}

var platformHelpers = map[string]func([]string) int{}

// storeDirs are where semaphores' files may be.
var storeDirs []string

// oddBytes are some that a name may have.
const oddBytes = "\n\x01 :*?%"

// unlinkFrees reports whether the name of an open semaphore can be removed.
func unlinkFrees(e semaphore.Engine) bool {
	return e != semaphore.EngineAuto && e != semaphore.EngineWindows
}

// keepAlive keeps a semaphore that nobody has open from ending.
func keepAlive(t testing.TB, name string, e semaphore.Engine) {
	t.Helper()
	startActor(t, e.String()).ok("open %s", name)
}

func portable() (restore func()) { return func() {} }

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

// Of the events that end a process a program can send one to a process alone:
// Ctrl-Break, to a group of its own.
var exits = []exit{
	{"idle", syscall.SIGINT, 0},
	{"busy", syscall.SIGINT, 0},
	{"storm", syscall.SIGINT, 0},
	{"listening", syscall.SIGINT, 0},
	{"closed", syscall.SIGINT, 0},
	{"idle", syscall.SIGKILL, 3}, // not covered
	{"plain", syscall.SIGINT, 3}, // not asked for
}

// endable makes a process that end can end.
func endable(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP}
	return cmd
}

// end ends a process by Ctrl-Break, or TerminateProcess for SIGKILL, and wants its
// status to say so.
func end(t *testing.T, a *actor, sig syscall.Signal) {
	t.Helper()
	want := uint32(windows.STATUS_CONTROL_C_EXIT)
	if sig == syscall.SIGKILL {
		want = 1
		must(t, a.cmd.Process.Kill())
	} else {
		must(t, windows.GenerateConsoleCtrlEvent(windows.CTRL_BREAK_EVENT, uint32(a.cmd.Process.Pid)))
	}
	ended := inBackground(a.cmd.Wait)
	result(t, ended)
	if got := uint32(a.cmd.ProcessState.ExitCode()); got != want {
		t.Errorf("exit status %#x, want %#x", got, want)
	}
}
