//go:build unix && !aix && !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

// What the recoverable engine does on Unix only, and what its tests need there.

package semaphore_test

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
)

// systemLocks are those of a file that any of these systems can open.
const systemLocks = permits.ByteLocks

// The other variant has the locks and sleeps of other systems.
const otherVariant = "portable"

func vary() (restore func()) { return portable() }

// deaths are the ways in which a process ends.
func deaths(t *testing.T) map[string]func(a *actor) {
	return map[string]func(a *actor){
		"SIGKILL": func(a *actor) { must(t, a.cmd.Process.Kill()) },
		"os.Exit": func(a *actor) { must(t, a.in.Close()) },
		"exec":    func(a *actor) { a.ok("exec drop") },
		"SIGKILL while stopped": func(a *actor) {
			must(t, a.cmd.Process.Signal(syscall.SIGSTOP))
			must(t, a.cmd.Process.Kill())
		},
	}
}

// lendLock starts a child that has the lock file.
func lendLock(t *testing.T, s *semaphore.Semaphore) (end func()) {
	lock, err := s.LockFile()
	must(t, err)
	child := exec.Command("cat")
	child.ExtraFiles = []*os.File{lock}
	in, err := child.StdinPipe()
	must(t, err)
	must(t, child.Start())
	must(t, lock.Close())
	return func() {
		in.Close()
		child.Wait()
	}
}

// What a dead process held stays taken while somebody has its lock file.
func TestLockFileKeepsThePermit(t *testing.T) {
	eachVariant(t, func(t *testing.T) {
		name := uniqueName(t)
		s := open(t, name, recoverable)
		read, write, err := os.Pipe()
		must(t, err)
		defer write.Close()
		a := startActor(t, "recoverable", read)
		must(t, read.Close())
		a.ok("open %s", name)
		a.ok("waits 1")
		a.send("child 3")
		if got := a.answer(); !strings.HasPrefix(got, "ok ") {
			t.Fatal(got)
		}
		must(t, a.cmd.Process.Kill())
		a.cmd.Wait()
		wantErr(t, "TryWait while the child lives", s.TryWait(), semaphore.ErrWouldBlock)
		becomes(t, s, 0)
		hs, err := s.Holders()
		must(t, err)
		if len(hs) != 1 || hs[0].PID != a.cmd.Process.Pid || hs[0].Permits != 1 {
			t.Errorf("Holders %+v, want one with pid %d", hs, a.cmd.Process.Pid)
		}
		// The kernel tells of no death now: it is the safety net's.
		defer rescuing()()
		waiting := blocked(t, s, s.Wait)
		must(t, write.Close()) // ends the child
		must(t, result(t, waiting))
	})
}

// An exec-ed program that was given the descriptor holds the permit.
func TestExecKeepsThePermit(t *testing.T) {
	eachVariant(t, func(t *testing.T) {
		s := open(t, uniqueName(t), recoverable)
		a := holding(t, s.Name(), 1)
		a.ok("exec keep")
		becomesShell(t, a)
		wantErr(t, "TryWait", s.TryWait(), semaphore.ErrWouldBlock)
		defer rescuing()()
		waiting := blocked(t, s, s.Wait)
		must(t, a.cmd.Process.Kill())
		must(t, result(t, waiting))
	})
}

// Without space there is an error, and no access ends in a SIGBUS.
func TestNoSpace(t *testing.T) {
	needRoot(t)
	if runtime.GOOS != "linux" {
		t.Skip("not on this system: tmpfs")
	}
	dir := t.TempDir()
	mount := exec.Command("mount", "-t", "tmpfs", "-o", "size=64k", "semaphore-test", dir)
	if out, err := mount.CombinedOutput(); err != nil {
		missing(t, fmt.Sprintf("the right to mount (%s)", strings.TrimSpace(string(out))))
	}
	defer exec.Command("umount", "-l", dir).Run()
	t.Setenv("SEMAPHORE_DIR", dir)
	fill := filepath.Join(dir, "full")
	s := open(t, "x", recoverable, semaphore.WithValue(3))
	os.WriteFile(fill, make([]byte, 64<<10), 0o600) // as much as there is
	_, err := semaphore.Open("y", semaphore.WithRecovery(true))
	wantErr(t, "Open", err, syscall.ENOSPC)
	if left, _ := filepath.Glob(filepath.Join(dir, "*y*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	wantErr(t, "SetLimit", s.SetLimit(60_000), syscall.ENOSPC)
	if n, err := s.Limit(); n != 3 || err != nil {
		t.Errorf("limit %d, %v after a SetLimit that failed", n, err)
	}
	for range 3 {
		must(t, s.TryWait())
	}
	var more []*semaphore.Semaphore
	for { // all slots of the pages that there are
		other, err := semaphore.Open("x", semaphore.WithRecovery(true))
		if err != nil {
			wantErr(t, "Open of a handle too many", err, syscall.ENOSPC)
			break
		}
		more = append(more, other)
		wantErr(t, "TryWait", other.TryWait(), semaphore.ErrWouldBlock)
	}
	if len(more) == 0 {
		t.Error("not even the slots of the first page could be used")
	}
	must(t, s.Post())
	must(t, more[0].TryWait())
	for _, other := range more {
		must(t, other.Close())
	}
	must(t, os.Remove(fill))
	must(t, s.SetLimit(600))
	becomes(t, s, 598)
	must(t, s.Close())
}

// Who lives on as another program has the semaphore open: nobody begins it anew.
func TestExecKeepsTheLimit(t *testing.T) {
	eachVariant(t, func(t *testing.T) {
		name := uniqueName(t)
		s := open(t, name, recoverable)
		a := holding(t, name, 1)
		must(t, s.Close())
		a.ok("exec keep")
		becomesShell(t, a)
		_, err := semaphore.Open(name, semaphore.WithRecovery(true), semaphore.WithValue(7))
		wantErr(t, "Open with another limit", err, semaphore.ErrLimitMismatch)
		s = open(t, name, recoverable)
		becomes(t, s, 0)
		if hs, err := s.Holders(); err != nil || len(hs) != 1 || hs[0].PID != a.cmd.Process.Pid {
			t.Errorf("Holders %+v, %v, want one with pid %d", hs, err, a.cmd.Process.Pid)
		}
		must(t, a.cmd.Process.Kill())
		a.cmd.Wait()
		becomes(t, s, 1) // and its lock file is not left behind
	})
}

// becomesShell waits until an actor has become another program.
func becomesShell(t *testing.T, a *actor) {
	t.Helper()
	waitFor(t, "the new program", func() bool {
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", a.cmd.Process.Pid))
		if err != nil {
			t.Skip("not on this system: /proc/PID/comm")
		}
		return string(name) == "sh\n"
	})
}

// Semaphores whose locks are of one kind or the other can be told from each other
// where there is only one kind: those with locks of bytes can't be opened.
func TestKindsOfLocks(t *testing.T) {
	name := uniqueName(t)
	s, locks := open(t, name, recoverable), locksHere(t)
	defer portable()()
	if locks == permits.FileLocks {
		open(t, name, recoverable)
		return
	}
	_, err := semaphore.Open(name, semaphore.WithRecovery(true))
	wantErr(t, "Open", err, errors.ErrUnsupported)
	if err == nil || !strings.Contains(err.Error(), "open-file-description locks") {
		t.Errorf("%v: does not say what it needs", err)
	}
	must(t, s.TryWait()) // nothing damaged
}

// locksHere is the kind of locks that semaphores have where the tests run.
func locksHere(t *testing.T) permits.Locks {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	must(t, err)
	defer f.Close()
	if _, err := filelock.ByteLocked(f, 0, 1); err != nil {
		wantErr(t, "ByteLocked", err, errors.ErrUnsupported)
		return permits.FileLocks
	}
	return permits.ByteLocks
}

// tryLockFile takes the lock of a slot's file.
func tryLockFile(f *os.File) (bool, error) { return filelock.TryLock(f) }

func TestReadOnlyDirectory(t *testing.T) {
	if os.Geteuid() == 0 {
		needSeteuid(t)
		must(t, syscall.Seteuid(otherUser))
		defer syscall.Seteuid(0)
	}
	dir := filepath.Join(os.TempDir(), uniqueName(t))
	must(t, os.Mkdir(dir, 0o700))
	defer os.RemoveAll(dir)
	t.Setenv("SEMAPHORE_DIR", dir)
	s := open(t, "x", recoverable)
	defer s.Unlink()
	must(t, os.Chmod(dir, 0o500))
	defer os.Chmod(dir, 0o700)
	if locksHere(t) == permits.ByteLocks {
		open(t, "x", recoverable) // what exists can be used
	} else {
		_, err := semaphore.Open("x", semaphore.WithRecovery(true))
		wantErr(t, "Open, which makes a lock file", err, fs.ErrPermission)
	}
	_, err := semaphore.Open("y", semaphore.WithRecovery(true))
	wantErr(t, "Open", err, fs.ErrPermission)
	wantErr(t, "Unlink", s.Unlink(), fs.ErrPermission)
}

// A holder in another pid namespace, where it has number 1: alive while it lives,
// though number 1 here is somebody else, and dead when it is killed.
func TestHolderInAnotherPidNamespace(t *testing.T) {
	useHelper("actor")
	if runtime.GOOS != "linux" {
		t.Skip("not on this system: pid namespaces")
	}
	needRoot(t)
	needTool(t, "unshare")
	eachVariant(t, func(t *testing.T) {
		s := open(t, uniqueName(t), recoverable)
		direct := helper(t, "actor", "recoverable")
		cmd := exec.Command("unshare", append([]string{"--pid", "--fork"}, direct.Args...)...)
		cmd.Env = direct.Env
		a := startActorCommand(t, "recoverable", cmd)
		a.ok("open %s", s.Name())
		a.ok("waits 1")
		hs, err := s.Holders()
		must(t, err)
		if len(hs) != 1 || hs[0].PID != 1 || hs[0].Permits != 1 {
			t.Fatalf("Holders %+v, want one with pid 1", hs)
		}
		wantErr(t, "TryWait while it lives", s.TryWait(), semaphore.ErrWouldBlock)
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", a.cmd.Process.Pid))
		must(t, err)
		var child int
		if _, err := fmt.Sscan(string(children), &child); err != nil {
			t.Fatalf("no child of unshare: %q", children)
		}
		waiting := blocked(t, s, s.Wait)
		must(t, syscall.Kill(child, syscall.SIGKILL))
		must(t, result(t, waiting))
	})
}
