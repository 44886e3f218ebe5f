package semaphore

import (
	"os"
	"syscall"

	"golang.org/x/sys/windows"
)

// Go makes SIGINT of Ctrl-C and Ctrl-Break, and SIGTERM of the console's closing, of
// the user's logging off and of the system's shutdown.
var exitSignals = []os.Signal{os.Interrupt, syscall.SIGTERM}

// dieOf ends the process with the status that a console event gives to a program
// which does not handle it.
func dieOf(os.Signal) { windows.ExitProcess(uint32(windows.STATUS_CONTROL_C_EXIT)) }
