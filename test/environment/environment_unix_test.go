//go:build unix && !aix && !filelock_fcntl

package environment_test

import (
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/procsem/semaphore"
	. "github.com/procsem/semaphore/internal/testkit"
)

// If a process of one user dies, a waiter of another user gets its permit.
func TestTwoUsersDie(t *testing.T) {
	UseHelper("actor")
	NeedRoot(t)
	EachVariant(t, func(t *testing.T) {
		old := syscall.Umask(0)
		s := Open(t, UniqueName(t), Recoverable, semaphore.WithMode(0o666))
		syscall.Umask(old)

		ours, theirs := Holding(t, s.Name(), 1), AsOther(t, Recoverable)
		theirs.OK("open %s", s.Name())
		theirs.Send("waits 1")
		WaitFor(t, "their wait", func() bool { return Waits(t, s, theirs) })
		Must(t, ours.Cmd.Process.Kill())
		if got := theirs.Answer(); got != "ok" {
			t.Fatal(got)
		}
		waiting := Blocked(t, s, s.Wait)
		Must(t, theirs.Cmd.Process.Kill())
		Must(t, Result(t, waiting))
	})
}

// A program that does not know about semaphores was given the lock file, and has forked
// without exec: the permit of the dead holder stays taken until the last process that has
// the descriptor is gone.
func TestForkedProgramKeepsThePermit(t *testing.T) {
	NeedTool(t, CCompiler()[0])
	program, err := Compile(CCompiler(), "inherits.c")
	Must(t, err)
	EachVariant(t, func(t *testing.T) {
		defer Rescuing()()
		s := Open(t, UniqueName(t), Recoverable)
		read, write, err := os.Pipe()
		Must(t, err)
		defer write.Close()
		a := StartActor(t, "recoverable", read)
		Must(t, read.Close())
		a.OK("open %s", s.Name())
		a.OK("waits 1")
		a.OK("run %s 3", program) // which has ended
		Must(t, a.Cmd.Process.Kill())
		a.Cmd.Wait()
		for _, left := range []string{"two", "one"} {
			WantErr(t, "TryWait while "+left+" live", s.TryWait(), semaphore.ErrWouldBlock)
			WantErr(t, "WaitTimeout while "+left+" live", s.WaitTimeout(aLook), semaphore.ErrTimeout)
			Becomes(t, s, 0)
			_, err = write.Write([]byte{0}) // ends one of them
			Must(t, err)
			if left == "two" {
				time.Sleep(50 * time.Millisecond)
			}
		}
		Must(t, s.WaitTimeout(Hang))
	})
}
