package command

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"unsafe"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/store"
	"golang.org/x/sys/windows"
)

const canBecome = false

func become([]*semaphore.Semaphore, *exec.Cmd, *watcher) error { return errors.ErrUnsupported }

// A leash is a job object that ends when procsem ends, and kills the command then. On
// Windows a process cannot leave a lock to another one, so the command must not
// outlive procsem.
//
// procsem itself joins the job, so that the command is in it from its first
// instruction. Two other ways would put only the command into the job. One is a
// CreateProcess of our own, as os/exec passes no list of jobs on. The other is to
// start the command suspended; it stays suspended if procsem is killed at that
// moment. Jobs nest since Windows 8.
//
// When procsem is killed, the system closes its handles one after the other. Closing
// the job's handle kills the command, closing the lock's handle lets the next waiter
// take the permit. The order of the two is not documented. In practice it is that of
// the handles' numbers, so the job is created before the semaphore is opened.
type leash struct{ job windows.Handle }

func newLeash() (leash, error) {
	job, err := windows.CreateJobObject(nil, nil) // the command does not inherit it
	return leash{job}, os.NewSyscallError("CreateJobObject", err)
}

func (l leash) attach([]*semaphore.Semaphore) (release func(), err error) {
	// A program that is started with CREATE_BREAKAWAY_FROM_JOB is a daemon. It may
	// leave the job, as it could not be started otherwise.
	if err := l.limit(windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE | windows.JOB_OBJECT_LIMIT_BREAKAWAY_OK); err != nil {
		return nil, err
	}
	if err := windows.AssignProcessToJobObject(l.job, windows.CurrentProcess()); err != nil {
		return nil, fmt.Errorf("procsem could not make the command end with it; with --close it need not: %w",
			os.NewSyscallError("AssignProcessToJobObject", err))
	}
	// When the command has ended normally, the processes that it left in the
	// background run on.
	return func() { _ = l.limit(windows.JOB_OBJECT_LIMIT_BREAKAWAY_OK) }, nil
}

func (l leash) limit(flags uint32) error {
	var info windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	info.BasicLimitInformation.LimitFlags = flags
	// The call takes the address as a number, which the runtime would not adjust if it
	// moved info as the stack grows.
	var pinned runtime.Pinner
	pinned.Pin(&info)
	defer pinned.Unpin()
	_, err := windows.SetInformationJobObject(l.job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info)))
	return os.NewSyscallError("SetInformationJobObject", err)
}

// shellCommand runs a line by the command interpreter. With /s cmd.exe strips the
// outer quotes and uses the rest unchanged. os/exec would escape the inner quotes,
// which cmd.exe does not understand.
func shellCommand(line string) *exec.Cmd {
	shell := os.Getenv("ComSpec")
	if shell == "" {
		shell = "cmd.exe"
	}
	command := exec.Command(shell)
	command.SysProcAttr = &windows.SysProcAttr{CmdLine: `"` + shell + `" /s /c "` + line + `"`}
	return command
}

func programCommand(name string, args ...string) *exec.Cmd { return exec.Command(name, args...) }

func searchPath() []string { return filepath.SplitList(os.Getenv("PATH")) }

// interpreted is nil: the system itself knows how to run a script, or nothing does.
func interpreted(*exec.Cmd, error) *exec.Cmd { return nil }

func isShortage(error) bool { return false }

func umask() fs.FileMode { return 0 }

func withoutUmask() {}

const canSetOwner = false

func ownerOf(fs.FileInfo) engine.Owner { return engine.Owner{UID: -1, GID: -1} }

// statFile is os.Stat, whose result os.SameFile compares only when it can open the file
// alone, which it cannot while others have it open.
func statFile(path string) (fs.FileInfo, error) {
	h, err := store.CreateFile(path, windows.FILE_READ_ATTRIBUTES, nil, windows.OPEN_EXISTING)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(h), path)
	defer f.Close()
	return f.Stat()
}
