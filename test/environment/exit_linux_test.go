package environment_test

import (
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore"
	. "github.com/procsem/semaphore/internal/testkit"
)

// A process that is stopped while it gives back what it holds, for longer than it may take for that, goes on with it afterwards. (One that
// does not may still be quick enough with it when it is continued: this finds it once in two times or so.)
func TestCloseOnExitOfOneThatIsStopped(t *testing.T) {
	UseHelper("exit")
	for tried := false; !tried; {
		s := Open(t, UniqueName(t), semaphore.EngineFlock, semaphore.WithValue(5))
		a := startEndable(t, s, semaphore.EngineFlock, "idle")
		unlock := lockCounter(t, s.Name())
		sent := time.Now()
		Must(t, a.Cmd.Process.Signal(syscall.SIGTERM))
		time.Sleep(100 * time.Millisecond) // in which it mostly begins to try for the lock; else less is tested
		Must(t, a.Cmd.Process.Signal(syscall.SIGSTOP))
		var info unix.Siginfo
		Must(t, unix.Waitid(unix.P_PID, a.Cmd.Process.Pid, &info, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT, nil))
		const stopped = 5 // CLD_STOPPED of waitid(2)
		if tried = info.Code == stopped && time.Since(sent) < 500*time.Millisecond; tried {
			time.Sleep(1500 * time.Millisecond) // longer than the second that it tries
		}
		unlock()
		Must(t, a.Cmd.Process.Signal(syscall.SIGCONT))
		Result(t, InBackground(a.Cmd.Wait))
		if !tried { // the machine was so slow that it may have given up rightly
			continue
		}
		if end := a.Cmd.ProcessState.Sys().(syscall.WaitStatus); !end.Signaled() || end.Signal() != syscall.SIGTERM {
			t.Errorf("%v, want it to die of SIGTERM", a.Cmd.ProcessState)
		}
		Becomes(t, s, 5)
	}
}
