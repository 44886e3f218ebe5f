package main

import (
	"os"
	"syscall"

	"golang.org/x/sys/windows"
)

// Ctrl-C and Ctrl-Break are os.Interrupt. SIGTERM is the end of the console, of the
// session or of the system, before which the command has some seconds to end.
var (
	endSignals   = []os.Signal{os.Interrupt, syscall.SIGTERM}
	childSignals []os.Signal
)

// The console sends all of them to all of its processes, the command included, and
// nobody can send one to a single process.
func terminalSends(os.Signal) bool { return true }

func inForeground() bool { return true }

// tell ends a command that may have come too late to get from the console what we
// have got, as a program ends that does not catch it.
func tell(p *os.Process, _ os.Signal) {
	// p has a handle, so that no other process can have got its id.
	h, err := windows.OpenProcess(windows.PROCESS_TERMINATE, false, uint32(p.Pid))
	if err != nil {
		return
	}
	defer windows.CloseHandle(h)
	_ = windows.TerminateProcess(h, uint32(windows.STATUS_CONTROL_C_EXIT))
}

func statusOfCommand(p *os.ProcessState) commandStatus { return commandStatus(p.ExitCode()) }
