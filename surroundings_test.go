//go:build unix && !aix && !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

// What the recoverable engine lives among: other users, suspended processes, programs
// that know nothing of it, records that say nonsense. See also surroundings_linux_test.go,
// and docs/recovery.md, "What was tried around it".

package semaphore_test

import (
	"encoding/binary"
	"math"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore"
)

// aLook is time enough for a waiter's safety net to look once.
const aLook = 1500 * time.Millisecond

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

// waits reports whether an actor is listed as one that waits.
func waits(t *testing.T, s *semaphore.Semaphore, a *actor) bool {
	hs, err := s.Holders()
	must(t, err)
	for _, h := range hs {
		if h.PID == a.cmd.Process.Pid && h.Waiting {
			return true
		}
	}
	return false
}

// A holder that is suspended is alive: it keeps its permit, also when a waiter's
// safety net looks, and goes on with it.
func TestSuspendedHolder(t *testing.T) {
	eachVariant(t, func(t *testing.T) {
		defer rescuing()()
		s := open(t, uniqueName(t), recoverable)
		a := holding(t, s.Name(), 1)
		suspend(t, a)
		wantErr(t, "TryWait", s.TryWait(), semaphore.ErrWouldBlock)
		wantErr(t, "WaitTimeout", s.WaitTimeout(aLook), semaphore.ErrTimeout)
		wantErr(t, "TryWait after it", s.TryWait(), semaphore.ErrWouldBlock)
		waiting := blocked(t, s, s.Wait)
		goOn(t, a)
		a.ok("posts 1") // so it had it still
		must(t, result(t, waiting))
	})
}

// A program that knows nothing of us was given the lock file, and has forked without
// exec: what the dead one held stays taken until the last who has the descriptor is
// gone.
func TestForkedProgramKeepsThePermit(t *testing.T) {
	needTool(t, cCompiler())
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

// Process ids and times in the file are shown to people, and decide nothing: with
// nonsense in their place the living keep their permits and the dead don't.
func TestNonsenseTimes(t *testing.T) {
	eachVariant(t, func(t *testing.T) {
		defer rescuing()()
		for what, tt := range map[string]struct {
			pid             uint32
			started, opened int64
		}{
			"zeros":                  {},
			"the far future":         {1, math.MaxInt64, math.MaxInt64},
			"before the first clock": {math.MaxUint32, math.MinInt64, math.MinInt64},
			"ours":                   {uint32(os.Getpid()), 1, time.Now().UnixNano()},
		} {
			t.Run(what, func(t *testing.T) {
				s := open(t, uniqueName(t), recoverable)
				a := holding(t, s.Name(), 1)
				f, err := os.OpenFile(storeFile(recoverable, s.Name()), os.O_RDWR, 0)
				must(t, err)
				defer f.Close()
				for slot := range int64(semaphore.Table(s).Slots()) {
					at := 4096 + slot*64
					for offset, value := range map[int64]any{40: tt.pid, 48: tt.started, 56: tt.opened} {
						b, err := binary.Append(nil, binary.NativeEndian, value)
						must(t, err)
						_, err = f.WriteAt(b, at+offset)
						must(t, err)
					}
				}
				wantErr(t, "TryWait", s.TryWait(), semaphore.ErrWouldBlock)
				becomes(t, s, 0)
				if hs, err := s.Holders(); err != nil || len(hs) != 1 || hs[0].Permits != 1 {
					t.Errorf("Holders %+v, %v, want one", hs, err)
				}
				waiting := blocked(t, s, s.Wait)
				must(t, a.cmd.Process.Kill())
				must(t, result(t, waiting))
			})
		}
	})
}
