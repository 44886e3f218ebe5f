//go:build unix

package environment_test

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/procsem/semaphore"
	. "github.com/procsem/semaphore/internal/testkit"
)

var exits = []exit{
	{"idle", syscall.SIGINT, 0},
	{"idle", syscall.SIGTERM, 0},
	{"idle", syscall.SIGHUP, 0},
	{"busy", syscall.SIGTERM, 0},
	{"storm", syscall.SIGTERM, 0},
	{"listening", syscall.SIGTERM, 0},
	{"listening", syscall.SIGINT, 0},
	{"closed", syscall.SIGTERM, 0},
	{"idle", syscall.SIGKILL, 3},  // not covered
	{"plain", syscall.SIGTERM, 3}, // not asked for
}

// endable changes a command so that end can end its process.
func endable(cmd *exec.Cmd) *exec.Cmd { return cmd }

func heedCtrlC() {}

func mayBeEnded() bool { return true }

// end sends a signal, and fails the test unless the process dies of it.
func end(t *testing.T, a *Actor, how exit) {
	t.Helper()
	Must(t, a.Cmd.Process.Signal(how.sig))
	a.Cmd.Wait()
	status := a.Cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !status.Signaled() || status.Signal() != how.sig {
		t.Errorf("%v, want it to die of %v", a.Cmd.ProcessState, how.sig)
	}
}

// A process dies of a signal even if it cannot give back, because another process keeps
// the file's lock; it says what that may have cost.
func TestCloseOnExitDiesThoughItCannotGiveBack(t *testing.T) {
	UseHelper("exit")
	s := Open(t, UniqueName(t), semaphore.EngineFlock, semaphore.WithValue(5))
	a := startEndable(t, s, semaphore.EngineFlock, "logging")
	defer lockCounter(t, s.Name())()
	Must(t, a.Cmd.Process.Signal(syscall.SIGTERM))
	if got, want := a.Answer(), "dies before all permits were given back"; !strings.Contains(got, want) {
		t.Errorf("it says %q, want that it %s", got, want)
	}
	died := InBackground(a.Cmd.Wait)
	if err := Result(t, died); err == nil || a.Cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("%v, want it to die of SIGTERM", err)
	}
}

// A log handler that hangs, called by the server of the handle, keeps no permit either.
func TestCloseOnExitWhileLogHandlerHangs(t *testing.T) {
	UseHelper("exit")
	s := Open(t, UniqueName(t), semaphore.EngineFlock, semaphore.WithValue(5))
	t.Setenv(NetVariable, "on") // it is the safety net that looks at the name
	a := startEndable(t, s, semaphore.EngineFlock, "hanging")
	Must(t, s.Unlink())
	if got := a.Answer(); got != "hangs" {
		t.Fatal(got)
	}
	Must(t, a.Cmd.Process.Signal(syscall.SIGTERM))
	Result(t, InBackground(a.Cmd.Wait))
	Becomes(t, s, 5)
}

// A signal that was ignored when the program started neither ends it nor makes it give
// back.
func TestCloseOnExitRespectsNohup(t *testing.T) {
	UseHelper("exit")
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		for name, sig := range map[string]syscall.Signal{"INT": syscall.SIGINT, "HUP": syscall.SIGHUP} {
			s := Open(t, UniqueName(t), e, semaphore.WithValue(5))
			direct := Helper(t, "exit", s.Name(), fmt.Sprint(int(e)), "idle", "wait")
			cmd := exec.Command("sh", append([]string{"-c", "trap '' " + name + `; exec "$0" "$@"`}, direct.Args...)...)
			cmd.Env = direct.Env
			a := StartActorCommand(t, "exit", cmd)
			if got := a.Answer(); got != "ready" {
				t.Fatal(got)
			}
			Must(t, a.Cmd.Process.Signal(sig))
			a.Send("")
			if err := a.Cmd.Wait(); err != nil {
				t.Errorf("SIG%s, ignored from the start: %v", name, err)
			}
			left := 2
			if Owns(e) {
				left = 5 // the process has not given back, but it has ended
			}
			Becomes(t, s, left)
		}
	})
}
