package command

import (
	"os"
	"syscall"

	"golang.org/x/sys/windows"
)

// Ctrl-C and Ctrl-Break are os.Interrupt. SIGTERM means that the console, the session
// or the system is about to end; the command has some seconds to end before that.
var (
	endSignals   = []os.Signal{os.Interrupt, syscall.SIGTERM}
	childSignals []os.Signal
)

// terminalSends is always true: the console sends each of the signals to all of its
// processes, which include the command, and none can be sent to a single process.
func terminalSends(os.Signal) bool { return true }

func keepIgnored() {}

func inForeground() bool { return true }

// forward is called for signals that may have come before the command was started,
// so that the console did not send them to it. As no signal can be sent to a single
// process, forward terminates the command, with the status of a program that does not
// catch the signal.
func forward(p *os.Process, _ os.Signal) {
	// While p has a handle of the process, no other process can get its id.
	h, err := windows.OpenProcess(windows.PROCESS_TERMINATE, false, uint32(p.Pid))
	if err != nil {
		return
	}
	defer windows.CloseHandle(h)
	_ = windows.TerminateProcess(h, uint32(windows.STATUS_CONTROL_C_EXIT))
}
