package environment_test

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/filelock"
	. "github.com/procsem/semaphore/internal/testkit"
)

// A process that is stopped while it gives back what it holds, for longer than it may take for that, goes on with it afterwards.
func TestCloseOnExitOfOneThatIsStopped(t *testing.T) {
	UseHelper("exit")
	for tried := false; !tried; {
		s := Open(t, UniqueName(t), semaphore.EngineFlock, semaphore.WithValue(5))
		a := StartActorCommand(t, "exit", Helper(t, "exit", s.Name(), fmt.Sprint(int(semaphore.EngineFlock)), "idle", ""))
		if got := a.Answer(); got != "ready" {
			t.Fatal(got)
		}
		f, err := os.OpenFile(StoreFile(semaphore.EngineFlock, s.Name()), os.O_RDWR, 0)
		Must(t, err)
		if locked, err := filelock.TryLock(f); !locked {
			t.Fatalf("the lock was not free: %v", err)
		}
		sent := time.Now()
		Must(t, a.Cmd.Process.Signal(syscall.SIGTERM))
		time.Sleep(100 * time.Millisecond) // in which it mostly begins to try for the lock; else less is tested
		Must(t, a.Cmd.Process.Signal(syscall.SIGSTOP))
		var status unix.WaitStatus
		_, err = unix.Wait4(a.Cmd.Process.Pid, &status, unix.WUNTRACED, nil)
		Must(t, err)
		if tried = status.Stopped() && time.Since(sent) < 500*time.Millisecond; tried {
			time.Sleep(1500 * time.Millisecond) // longer than the second that it tries
		}
		Must(t, filelock.Close(f))
		err = a.Cmd.Process.Signal(syscall.SIGCONT)
		if !tried { // the machine was so slow that it may have given up rightly, and has perhaps ended
			continue
		}
		Must(t, err)
		a.Cmd.Wait()
		if end := a.Cmd.ProcessState.Sys().(syscall.WaitStatus); !end.Signaled() || end.Signal() != syscall.SIGTERM {
			t.Errorf("%v, want it to die of SIGTERM", a.Cmd.ProcessState)
		}
		Becomes(t, s, 5)
	}
}
