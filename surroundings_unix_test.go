//go:build unix && !aix && !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package semaphore_test

import (
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore"
)

// suspend suspends a process, and returns when it stands still.
func suspend(t *testing.T, a *actor) {
	t.Helper()
	must(t, a.cmd.Process.Signal(syscall.SIGSTOP))
	isSuspended(t, a)
}

// isSuspended waits until an actor is.
func isSuspended(t *testing.T, a *actor) {
	t.Helper()
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(a.cmd.Process.Pid, &status, unix.WUNTRACED, nil)
		if err == unix.EINTR {
			continue
		}
		must(t, err)
		if !status.Stopped() {
			t.Fatalf("it has ended: %#x", status)
		}
		return
	}
}

func goOn(t *testing.T, a *actor) {
	t.Helper()
	must(t, a.cmd.Process.Signal(syscall.SIGCONT))
}

// The processes of two users die for each other.
func TestTwoUsersDie(t *testing.T) {
	useHelper("actor")
	needRoot(t)
	eachVariant(t, func(t *testing.T) {
		old := syscall.Umask(0)
		s := open(t, uniqueName(t), recoverable, semaphore.WithMode(0o666))
		syscall.Umask(old)

		ours, theirs := holding(t, s.Name(), 1), asOther(t, recoverable)
		theirs.ok("open %s", s.Name())
		theirs.send("waits 1")
		waitFor(t, "their wait", func() bool { return waits(t, s, theirs) })
		must(t, ours.cmd.Process.Kill())
		if got := theirs.answer(); got != "ok" {
			t.Fatal(got)
		}
		waiting := blocked(t, s, s.Wait)
		must(t, theirs.cmd.Process.Kill())
		must(t, result(t, waiting))
	})
}

// A program that knows nothing of us was given the lock file, and has forked without
// exec: what the dead one held stays taken until the last who has the descriptor is
// gone.
func TestForkedProgramKeepsThePermit(t *testing.T) {
	needTool(t, cCompiler()[0])
	program, err := compile(cCompiler(), "inherits.c")
	must(t, err)
	eachVariant(t, func(t *testing.T) {
		defer rescuing()()
		s := open(t, uniqueName(t), recoverable)
		read, write, err := os.Pipe()
		must(t, err)
		defer write.Close()
		a := startActor(t, "recoverable", read)
		must(t, read.Close())
		a.ok("open %s", s.Name())
		a.ok("waits 1")
		a.ok("run %s 3", program) // which has ended
		must(t, a.cmd.Process.Kill())
		a.cmd.Wait()
		for _, left := range []string{"two", "one"} {
			wantErr(t, "TryWait while "+left+" live", s.TryWait(), semaphore.ErrWouldBlock)
			wantErr(t, "WaitTimeout while "+left+" live", s.WaitTimeout(aLook), semaphore.ErrTimeout)
			becomes(t, s, 0)
			_, err = write.Write([]byte{0}) // ends one
			must(t, err)
			if left == "two" {
				time.Sleep(50 * time.Millisecond)
			}
		}
		must(t, s.WaitTimeout(hang))
	})
}
