package environment_test

import (
	"fmt"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	. "github.com/procsem/semaphore/internal/testkit"
)

// exits has only the console event that can be sent to a single process, which Go
// turns into SIGINT. See TestConsole for what Wine does not do.
var exits = []exit{
	{"idle", syscall.SIGINT, 0},
	{"busy", syscall.SIGINT, 0},
	{"storm", syscall.SIGINT, 0},
	{"listening", syscall.SIGINT, 0},
	{"closed", syscall.SIGINT, 0},
	{"idle", syscall.SIGKILL, 3}, // not covered
	{"plain", syscall.SIGINT, 3}, // not asked for
}

// endable gives the process of a command a console and a group of its own, so that end
// can end it.
func endable(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NO_WINDOW | windows.CREATE_NEW_PROCESS_GROUP}
	return cmd
}

// heedCtrlC makes this process heed Ctrl-C, which the first process of a group ignores.
func heedCtrlC() {
	if r, _, err := setConsoleCtrlHandler.Call(0, 0); r == 0 {
		panic(err)
	}
}

// mayBeEnded reports whether this process has the console that the event comes through. On a
// busy machine Wine 8 fails to start a process, once in some thousands, and so the one that is
// to be the console of a new process: that runs without one.
func mayBeEnded() bool {
	page, _, _ := getConsoleCP.Call()
	return page != 0 || !UnderWine()
}

func init() { helpers["ctrl"] = ctrlMain }

// ctrlMain sends an event to a process that has a console of its own: Ctrl-Break, as
// Windows does not send Ctrl-C to a single group. Wine does, and has no Ctrl-Break.
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
	if UnderWine() {
		event = windows.CTRL_C_EVENT
	}
	if err := windows.GenerateConsoleCtrlEvent(event, uint32(pid)); err != nil {
		panic(err)
	}
	return 0
}

// end ends a process by an event of its console, or by TerminateProcess for SIGKILL,
// and fails the test unless its exit status says so.
func end(t *testing.T, a *Actor, how exit) {
	t.Helper()
	want := uint32(windows.STATUS_CONTROL_C_EXIT)
	if how.sig == syscall.SIGKILL {
		want = 1
		Must(t, a.Cmd.Process.Kill())
	} else {
		Must(t, Helper(t, "ctrl", fmt.Sprint(a.Cmd.Process.Pid)).Run())
	}
	ended := make(chan struct{})
	go func() {
		a.Cmd.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(Hang):
		// Wine 8 may hang in ExitProcess, which has ended all threads but its own by then,
		// if one of them was asking about a file. Go itself needs more threads than one,
		// so this process has given back what it held, and called ExitProcess.
		if !UnderWine() || how.how != "storm" || ThreadsOf(t, uint32(a.Cmd.Process.Pid)) != 1 {
			t.Fatalf("not ended after %v", Hang)
		}
		t.Log("Wine hangs in ExitProcess, so that the status cannot be seen")
		Must(t, a.Cmd.Process.Kill())
		<-ended
		return
	}
	got := uint32(a.Cmd.ProcessState.ExitCode())
	if UnderWine() && (how.how == "plain" || how.how == "closed") {
		want = 0 // the status of a process that does not handle the event, under Wine
	}
	if got != want {
		t.Errorf("exit status %#x, want %#x", got, want)
	}
}

var (
	kernel32              = windows.NewLazySystemDLL("kernel32.dll")
	attachConsole         = kernel32.NewProc("AttachConsole")
	freeConsole           = kernel32.NewProc("FreeConsole")
	getConsoleCP          = kernel32.NewProc("GetConsoleCP")
	setConsoleCtrlHandler = kernel32.NewProc("SetConsoleCtrlHandler")
)
