package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"unsafe"

	"github.com/procsem/semaphore"
	"golang.org/x/sys/windows"
)

const canBecome = false

func become(*semaphore.Semaphore, *exec.Cmd, *watcher) error { return errors.ErrUnsupported }

// A leash is a job object that ends with procsem, and the command with it: a lock
// of Windows cannot be left to another process.
//
// procsem itself joins the job, so that the command is in it from its first
// instruction. To put only the command there would take a CreateProcess of our own,
// as os/exec passes no list of jobs on, or a command that starts suspended and that
// stays so if procsem is killed at that moment. Jobs nest since Windows 8.
//
// When procsem is killed the system closes its handles one after the other: that of
// the job kills the command, that of the lock lets the next one in. Nothing promises
// their order. It has been that of their numbers, so the job comes before the
// semaphore is opened.
type leash struct{ job windows.Handle }

func newLeash() (leash, error) {
	job, err := windows.CreateJobObject(nil, nil) // the command does not inherit it
	return leash{job}, os.NewSyscallError("CreateJobObject", err)
}

func (l leash) attach(*semaphore.Semaphore) (release func(), err error) {
	// A program that asks to break away is a daemon, and is let go: it would fail
	// to start otherwise.
	if err := l.limit(windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE | windows.JOB_OBJECT_LIMIT_BREAKAWAY_OK); err != nil {
		return nil, err
	}
	if err := windows.AssignProcessToJobObject(l.job, windows.CurrentProcess()); err != nil {
		return nil, fmt.Errorf("procsem could not make the command end with it; with --close it need not: %w",
			os.NewSyscallError("AssignProcessToJobObject", err))
	}
	// At the normal end what the command left running in the background runs on.
	return func() { _ = l.limit(windows.JOB_OBJECT_LIMIT_BREAKAWAY_OK) }, nil
}

func (l leash) limit(flags uint32) error {
	var info windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	info.BasicLimitInformation.LimitFlags = flags
	// The call takes its address as a number, which would not follow it when the stack
	// grows.
	var pinned runtime.Pinner
	pinned.Pin(&info)
	defer pinned.Unpin()
	_, err := windows.SetInformationJobObject(l.job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info)))
	return os.NewSyscallError("SetInformationJobObject", err)
}

// shellCommand runs a line by the command interpreter. With /s that takes the outer
// quotes off and the rest as it stands; os/exec would escape the inner ones, which
// cmd.exe does not understand.
func shellCommand(line string) *exec.Cmd {
	shell := os.Getenv("ComSpec")
	if shell == "" {
		shell = "cmd.exe"
	}
	command := exec.Command(shell)
	command.SysProcAttr = &windows.SysProcAttr{CmdLine: `"` + shell + `" /s /c "` + line + `"`}
	return command
}
