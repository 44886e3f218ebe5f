//go:build unix && !aix && !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

// What the recoverable engine does on Unix only, and what its tests need there.

package recoverable_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/procsem/semaphore/internal/filelock"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/recoverable"
	"github.com/procsem/semaphore/internal/testhook"
	. "github.com/procsem/semaphore/internal/testkit"
)

// systemLocks is the kind of locks of a file that can be opened on some of these systems.
const systemLocks = permits.ByteLocks

// deaths returns ways to end a process.
func deaths(t *testing.T) map[string]func(a *Actor) {
	return map[string]func(a *Actor){
		"SIGKILL": func(a *Actor) { Must(t, a.Cmd.Process.Kill()) },
		"os.Exit": func(a *Actor) { Must(t, a.In.Close()) },
		"exec":    func(a *Actor) { a.OK("exec drop") },
		"SIGKILL while stopped": func(a *Actor) {
			Must(t, a.Cmd.Process.Signal(syscall.SIGSTOP))
			Must(t, a.Cmd.Process.Kill())
		},
	}
}

// lendLock starts a child that has the lock file.
func lendLock(t *testing.T, s *semaphore.Semaphore) (end func()) {
	lock, err := s.LockFile()
	Must(t, err)
	child := exec.Command("cat")
	child.ExtraFiles = []*os.File{lock}
	in, err := child.StdinPipe()
	Must(t, err)
	Must(t, child.Start())
	Must(t, lock.Close())
	return func() {
		in.Close()
		child.Wait()
	}
}

// dyingHolder has the permit of a semaphore, and is dead, but for its lock: a child has that, until end.
func dyingHolder(t *testing.T, name string) (a *Actor, end func()) {
	t.Helper()
	read, write, err := os.Pipe()
	Must(t, err)
	t.Cleanup(func() { write.Close() })
	a = StartActor(t, "recoverable", read)
	Must(t, read.Close())
	a.OK("open %s", name)
	a.OK("waits 1")
	a.Send("child 3")
	if got := a.Answer(); !strings.HasPrefix(got, "ok ") {
		t.Fatal(got)
	}
	Must(t, a.Cmd.Process.Kill())
	a.Cmd.Wait()
	return a, func() { Must(t, write.Close()) }
}

// The permits of a dead process stay taken while another process has its lock file.
func TestLockFileKeepsThePermit(t *testing.T) {
	EachVariant(t, func(t *testing.T) {
		name := UniqueName(t)
		s := Open(t, name, Recoverable)
		a, end := dyingHolder(t, name)
		WantErr(t, "TryWait while the child lives", s.TryWait(), semaphore.ErrWouldBlock)
		Becomes(t, s, 0)
		hs, err := s.Holders()
		Must(t, err)
		if len(hs) != 1 || hs[0].PID != a.Cmd.Process.Pid || hs[0].Permits != 1 {
			t.Errorf("Holders %+v, want one with pid %d", hs, a.Cmd.Process.Pid)
		}
		// The kernel will report no exit now: it is for the safety net to find out.
		defer Rescuing()()
		waiting := Blocked(t, s, s.Wait)
		end()
		Must(t, Result(t, waiting))
	})
}

// An exec-ed program that was given the descriptor holds the permit.
func TestExecKeepsThePermit(t *testing.T) {
	EachVariant(t, func(t *testing.T) {
		s := Open(t, UniqueName(t), Recoverable)
		a := Holding(t, s.Name(), 1)
		a.OK("exec keep")
		becomesShell(t, a)
		WantErr(t, "TryWait", s.TryWait(), semaphore.ErrWouldBlock)
		defer Rescuing()()
		waiting := Blocked(t, s, s.Wait)
		Must(t, a.Cmd.Process.Kill())
		Must(t, Result(t, waiting))
	})
}

// Without space there is an error, and no access ends in a SIGBUS.
func TestNoSpace(t *testing.T) {
	NeedRoot(t)
	dir := SmallFilesystem(t, 64<<10)
	fill := filepath.Join(dir, "full")
	s := Open(t, "x", Recoverable, semaphore.WithValue(3))
	os.WriteFile(fill, make([]byte, 64<<10), 0o600) // as much as there is
	_, err := semaphore.Open("y", semaphore.WithRecovery(true))
	WantErr(t, "Open", err, syscall.ENOSPC)
	if left, _ := filepath.Glob(filepath.Join(dir, "*y*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	WantErr(t, "SetLimit", s.SetLimit(60_000), syscall.ENOSPC)
	if n, err := s.Limit(); n != 3 || err != nil {
		t.Errorf("limit %d, %v after a SetLimit that failed", n, err)
	}
	for range 3 {
		Must(t, s.TryWait())
	}
	var more []*semaphore.Semaphore
	for { // all slots of the pages that the file has
		other, err := semaphore.Open("x", semaphore.WithRecovery(true))
		if err != nil {
			WantErr(t, "Open of a handle too many", err, syscall.ENOSPC)
			break
		}
		more = append(more, other)
		WantErr(t, "TryWait", other.TryWait(), semaphore.ErrWouldBlock)
	}
	if len(more) == 0 {
		t.Error("not even the slots of the first page could be used")
	}
	Must(t, s.Post())
	Must(t, more[0].TryWait())
	for _, other := range more {
		Must(t, other.Close())
	}
	Must(t, os.Remove(fill))
	Must(t, s.SetLimit(600))
	Becomes(t, s, 598)
	Must(t, s.Close())
}

// An owner that lives on as another program has the semaphore open: no opener starts it
// anew with another limit.
func TestExecKeepsTheLimit(t *testing.T) {
	EachVariant(t, func(t *testing.T) {
		name := UniqueName(t)
		s := Open(t, name, Recoverable)
		a := Holding(t, name, 1)
		Must(t, s.Close())
		a.OK("exec keep")
		becomesShell(t, a)
		_, err := semaphore.Open(name, semaphore.WithRecovery(true), semaphore.WithValue(7))
		WantErr(t, "Open with another limit", err, semaphore.ErrLimitMismatch)
		s = Open(t, name, Recoverable)
		Becomes(t, s, 0)
		if hs, err := s.Holders(); err != nil || len(hs) != 1 || hs[0].PID != a.Cmd.Process.Pid {
			t.Errorf("Holders %+v, %v, want one with pid %d", hs, err, a.Cmd.Process.Pid)
		}
		Must(t, a.Cmd.Process.Kill())
		a.Cmd.Wait()
		Becomes(t, s, 1) // and its lock file is not left behind
	})
}

// becomesShell waits until an actor has become another program.
func becomesShell(t *testing.T, a *Actor) {
	t.Helper()
	if _, err := os.ReadFile("/proc/self/comm"); err != nil {
		t.Skip("not on this system: /proc/PID/comm")
	}
	WaitFor(t, "the new program", func() bool {
		// Now and then there is no such file for a moment, while another thread than the
		// first becomes the new program.
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", a.Cmd.Process.Pid))
		return string(name) == "sh\n"
	})
}

// A semaphore says which kind of locks it has: where there are only file locks, one
// with locks of bytes cannot be opened.
func TestKindsOfLocks(t *testing.T) {
	name := UniqueName(t)
	s, locks := Open(t, name, Recoverable), locksHere(t)
	defer Portable()()
	if locks == permits.FileLocks {
		Open(t, name, Recoverable)
		return
	}
	_, err := semaphore.Open(name, semaphore.WithRecovery(true))
	WantErr(t, "Open", err, errors.ErrUnsupported)
	if err == nil || !strings.Contains(err.Error(), "open-file-description locks") {
		t.Errorf("%v: does not say what it needs", err)
	}
	Must(t, s.TryWait()) // nothing damaged
}

// locksHere returns the kind of locks that semaphores have where the tests run.
func locksHere(t *testing.T) permits.Locks {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	Must(t, err)
	defer f.Close()
	if _, err := filelock.ByteLocked(f, 0, 1); err != nil {
		WantErr(t, "ByteLocked", err, errors.ErrUnsupported)
		return permits.FileLocks
	}
	return permits.ByteLocks
}

// tryLockFile takes the lock of a slot's file.
func tryLockFile(f *os.File) (bool, error) { return filelock.TryLock(f) }

func TestReadOnlyDirectory(t *testing.T) {
	if os.Geteuid() == 0 {
		NeedSeteuid(t)
		Must(t, syscall.Seteuid(OtherUser))
		defer syscall.Seteuid(0)
	}
	dir := filepath.Join(os.TempDir(), UniqueName(t))
	Must(t, os.Mkdir(dir, 0o700))
	defer os.RemoveAll(dir)
	t.Setenv("SEMAPHORE_DIR", dir)
	s := Open(t, "x", Recoverable)
	defer s.Unlink()
	Must(t, os.Chmod(dir, 0o500))
	defer os.Chmod(dir, 0o700)
	if locksHere(t) == permits.ByteLocks {
		Open(t, "x", Recoverable) // what exists can be used
	} else {
		_, err := semaphore.Open("x", semaphore.WithRecovery(true))
		WantErr(t, "Open, which makes a lock file", err, fs.ErrPermission)
	}
	_, err := semaphore.Open("y", semaphore.WithRecovery(true))
	WantErr(t, "Open", err, fs.ErrPermission)
	WantErr(t, "Unlink", s.Unlink(), fs.ErrPermission)
}

// A holder in another pid namespace, where it has number 1: it counts as alive while it
// lives, though number 1 here is another process, and as dead when it is killed.
func TestHolderInAnotherPidNamespace(t *testing.T) {
	UseHelper("actor")
	if runtime.GOOS != "linux" {
		t.Skip("not on this system: pid namespaces")
	}
	NeedRoot(t)
	NeedTool(t, "unshare")
	EachVariant(t, func(t *testing.T) {
		s := Open(t, UniqueName(t), Recoverable)
		direct := Helper(t, "actor", "recoverable")
		cmd := exec.Command("unshare", append([]string{"--pid", "--fork"}, direct.Args...)...)
		cmd.Env = direct.Env
		a := StartActorCommand(t, "recoverable", cmd)
		a.OK("open %s", s.Name())
		a.OK("waits 1")
		hs, err := s.Holders()
		Must(t, err)
		if len(hs) != 1 || hs[0].PID != 1 || hs[0].Permits != 1 {
			t.Fatalf("Holders %+v, want one with pid 1", hs)
		}
		WantErr(t, "TryWait while it lives", s.TryWait(), semaphore.ErrWouldBlock)
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", a.Cmd.Process.Pid))
		Must(t, err)
		var child int
		if _, err := fmt.Sscan(string(children), &child); err != nil {
			t.Fatalf("no child of unshare: %q", children)
		}
		waiting := Blocked(t, s, s.Wait)
		Must(t, syscall.Kill(child, syscall.SIGKILL))
		Must(t, Result(t, waiting))
	})
}

// A process ends between the taking of a permit on the fast path and the finding that the handle
// was closed meanwhile.
func TestPermitTakenAfterClose(t *testing.T) {
	EachVariant(t, func(t *testing.T) {
		s := Open(t, UniqueName(t), Recoverable, semaphore.WithValue(5))
		closed := Open(t, s.Name(), Recoverable)
		owner := testhook.Inspect(closed).Backend.(interface{ Owner() *permits.Owner }).Owner()
		Must(t, closed.Close())
		if i, _ := owner.TakeHome(); i < 0 {
			t.Fatal("it has taken no permit")
		}
		if n, err := s.Value(); n != 5 || err != nil {
			t.Errorf("%d permits are free, want 5; error %v", n, err)
		}
	})
}

// The first TryWait in vain looks at all owners, each later one at a part of them.
func TestTryWaitLooksAtAPart(t *testing.T) {
	const owners, part = 200, 64
	EachVariant(t, func(t *testing.T) {
		s := Open(t, UniqueName(t), Recoverable, semaphore.WithValue(owners))
		Must(t, s.TryWait())
		for range owners - 1 {
			Must(t, Open(t, s.Name(), Recoverable).TryWait())
		}
		last := Open(t, s.Name(), Recoverable)
		backend := testhook.Inspect(last).Backend
		looks := recoverable.CountLooks(backend)
		try := func() int64 {
			looks.Store(0)
			WantErr(t, "TryWait", last.TryWait(), semaphore.ErrWouldBlock)
			return looks.Load()
		}
		if n := try(); n != owners {
			t.Errorf("the first TryWait in vain looked at %d owners, want %d", n, owners)
		}
		recoverable.Age(backend)
		var sum int64
		for range (owners + part - 1) / part {
			n := try()
			if n > part {
				t.Errorf("a later one looked at %d owners, want at most %d", n, part)
			}
			sum += n
		}
		if sum != owners {
			t.Errorf("a second later %d calls looked at %d owners, want %d", (owners+part-1)/part, sum, owners)
		}
	})
}
