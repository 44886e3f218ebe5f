//go:build !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

// What the recoverable engine lives among on Linux: namespaces, memory limits, full
// filesystems.

package semaphore_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/procsem/semaphore"
	"golang.org/x/sys/unix"
)

// within starts an actor by another program, and returns the number of its process
// as we see it.
func within(t *testing.T, program string, args ...string) (a *actor, pid int) {
	t.Helper()
	direct := helper(t, "actor", "recoverable")
	cmd := exec.Command(program, append(args, direct.Args...)...)
	cmd.Env = append(direct.Env, netVariable+"=on")
	a = startActorCommand(t, "recoverable", cmd)
	a.send("pid")
	if got := a.answer(); !strings.HasPrefix(got, "ok ") {
		t.Fatal(got)
	}
	return a, lastChild(t, a.cmd.Process.Pid)
}

// lastChild returns the one without children under a process, each of which has one.
func lastChild(t *testing.T, pid int) int {
	for {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
		must(t, err)
		var child int
		if _, err := fmt.Sscan(string(children), &child); err != nil {
			return pid
		}
		pid = child
	}
}

func needUnshare(t *testing.T, option string) {
	t.Helper()
	useHelper("actor")
	needRoot(t)
	needTool(t, "unshare")
	if out, err := exec.Command("unshare", option, "--fork", "true").CombinedOutput(); err != nil {
		missing(t, fmt.Sprintf("unshare %s (%s)", option, strings.TrimSpace(string(out))))
	}
}

// A holder and a waiter in a pid namespace each, where both have number 1.
func TestTwoPidNamespaces(t *testing.T) {
	needUnshare(t, "--pid")
	eachVariant(t, func(t *testing.T) {
		s := open(t, uniqueName(t), recoverable)
		holder, holderPid := within(t, "unshare", "--pid", "--fork")
		waiter, waiterPid := within(t, "unshare", "--pid", "--fork")
		holder.ok("open %s", s.Name())
		holder.ok("waits 1")
		waiter.ok("open %s", s.Name())
		waiter.expect("EAGAIN", "trywait")
		waiter.send("waits 1")
		listed := func() (pids, waiting int) {
			hs, err := s.Holders()
			must(t, err)
			for _, h := range hs {
				pids += h.PID
				if h.Waiting {
					waiting++
				}
			}
			return pids, waiting
		}
		waitFor(t, "the waiter", func() bool { pids, waiting := listed(); return pids == 1+1 && waiting == 1 })
		wantErr(t, "TryWait", s.TryWait(), semaphore.ErrWouldBlock)
		must(t, syscall.Kill(holderPid, syscall.SIGKILL))
		if got := waiter.answer(); got != "ok" {
			t.Fatal(got)
		}
		waiting := blocked(t, s, s.Wait)
		must(t, syscall.Kill(waiterPid, syscall.SIGKILL))
		must(t, result(t, waiting))
	})
}

// The number of a killed holder is another process's at once, and then that of the
// next holder.
func TestPidIsUsedAgain(t *testing.T) {
	needUnshare(t, "--pid")
	eachVariant(t, func(t *testing.T) {
		s := open(t, uniqueName(t), recoverable)
		// One actor after the other, each with number 1000; not for ever, should we
		// be killed.
		const script = `exec 2>/dev/null; for i in 1 2 3 4 5 6 7 8; do echo 999 >/proc/sys/kernel/ns_last_pid && "$@"; done`
		a, _ := within(t, "unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", script, "sh")
		defer func() { // all of them
			a.in.Close()
			syscall.Kill(lastParent(t, a), syscall.SIGKILL)
		}()
		holds := func() semaphore.Holder {
			t.Helper()
			a.ok("open %s", s.Name())
			a.ok("waits 1")
			hs, err := s.Holders()
			must(t, err)
			if len(hs) != 1 || hs[0].PID != 1000 {
				t.Fatalf("Holders %+v, want one with pid 1000", hs)
			}
			return hs[0]
		}
		a.send("pid")
		if got := a.answer(); got != "ok 1000" {
			missing(t, fmt.Sprintf("/proc/sys/kernel/ns_last_pid (%q)", got))
		}
		first := holds()
		time.Sleep(100 * time.Millisecond)
		dies := func() {
			pid := lastChild(t, a.cmd.Process.Pid)
			a.send("die")
			waitFor(t, "its end", func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH })
		}
		dies()
		a.expect("ok 1000", "pid") // another one's
		must(t, s.TryWait())
		if hs, err := s.Holders(); err != nil || len(hs) != 1 || hs[0].PID != os.Getpid() {
			t.Errorf("Holders %+v, %v, want us", hs, err)
		}
		must(t, s.Post())
		second := holds()
		if second.Started.Sub(first.Started) < 50*time.Millisecond || second.Opened.Sub(first.Opened) < 50*time.Millisecond {
			t.Errorf("second holder %+v, first %+v: not their own times", second, first)
		}
		waiting := blocked(t, s, s.Wait)
		dies()
		a.expect("ok 1000", "pid")
		must(t, result(t, waiting))
	})
}

// lastParent returns the first process of an actor's namespace.
func lastParent(t *testing.T, a *actor) int {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", a.cmd.Process.Pid))
	must(t, err)
	pid, err := strconv.Atoi(strings.Fields(string(children))[0])
	must(t, err)
	return pid
}

// A waiter that is suspended when it was woken takes the wake-up along; others go on
// by the safety net. Its clocks may be others': one is in a time namespace, where the
// machine was started long ago. The suspended one gets in when it goes on.
func TestSuspendedWaiter(t *testing.T) {
	needSleeping(t)
	testSuspendedWaiter(t, func() *actor {
		cmd := helper(t, "actor", "recoverable")
		cmd.Env = append(cmd.Env, netVariable+"=on")
		return startActorCommand(t, "recoverable", cmd)
	})
}

func TestTimeNamespace(t *testing.T) {
	needSleeping(t)
	needUnshare(t, "--time")
	// A clock can be set back by no more than the time since the system's start.
	var up unix.Timespec
	must(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &up))
	back := fmt.Sprint(-min(1000, up.Sec/2))
	for what, seconds := range map[string]string{"ahead": "10000000", "back": back} {
		t.Run(what, func(t *testing.T) {
			testSuspendedWaiter(t, func() *actor {
				a, pid := within(t, "unshare", "--time", "--boottime", seconds, "--monotonic", seconds)
				if pid != a.cmd.Process.Pid {
					t.Fatal("unshare has forked")
				}
				return a
			})
			s := open(t, uniqueName(t), recoverable)
			a, _ := within(t, "unshare", "--time", "--boottime", seconds, "--monotonic", seconds)
			a.ok("open %s", s.Name())
			a.ok("waits 1")
			wantErr(t, "TryWait", s.TryWait(), semaphore.ErrWouldBlock)
			waiting := blocked(t, s, s.Wait)
			must(t, a.cmd.Process.Kill())
			must(t, result(t, waiting))
		})
	}
}

func testSuspendedWaiter(t *testing.T, start func() *actor) {
	name := uniqueName(t)
	holder := open(t, name, recoverable)
	must(t, holder.Wait())
	suspended := startActor(t, "recoverable")
	suspended.ok("freeze")
	suspended.ok("open %s", name)
	suspended.send("waits 1")
	waitFor(t, "the first asleep", suspended.sleeping)
	other := start()
	other.ok("open %s", name)
	other.send("waits 1")
	waitFor(t, "the other asleep", other.sleeping)
	must(t, holder.Post())
	isSuspended(t, suspended)
	if got := other.answer(); got != "ok" {
		t.Fatal(got)
	}
	goOn(t, suspended)
	other.ok("posts 1")
	if got := suspended.answer(); got != "ok" {
		t.Error(got)
	}
}

// memoryGroup makes a control group with so many bytes of memory, within ours.
func memoryGroup(t *testing.T, bytes int) (dir string) {
	t.Helper()
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		missing(t, "control groups")
	}
	for line := range strings.Lines(string(groups)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		var mount, limit string
		switch {
		case len(f) == 3 && f[1] == "memory":
			mount, limit = "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
		case len(f) == 3 && f[0] == "0":
			mount, limit = "/sys/fs/cgroup", "memory.max"
		default:
			continue
		}
		dir := filepath.Join(mount, f[2], "semtest"+strconv.Itoa(os.Getpid()))
		if os.Mkdir(dir, 0o700) != nil {
			continue
		}
		t.Cleanup(func() { // when all who were in it are gone
			waitFor(t, "an empty control group", func() bool { return os.Remove(dir) == nil })
		})
		if os.WriteFile(filepath.Join(dir, limit), []byte(strconv.Itoa(bytes)), 0) != nil {
			continue
		}
		for _, swap := range []string{"memory.swap.max", "memory.memsw.limit_in_bytes"} {
			n := bytes
			if swap == "memory.swap.max" {
				n = 0
			}
			os.WriteFile(filepath.Join(dir, swap), []byte(strconv.Itoa(n)), 0) // if there is such
		}
		return dir
	}
	missing(t, "the right to make a control group with a memory limit")
	return ""
}

// The OOM killer's victim is dead as others are.
func TestHolderOutOfMemory(t *testing.T) {
	useHelper("actor")
	needRoot(t)
	group := memoryGroup(t, 128<<20)
	eachVariant(t, func(t *testing.T) {
		s := open(t, uniqueName(t), recoverable, semaphore.WithValue(2))
		a := holding(t, s.Name(), 2)
		must(t, os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(a.cmd.Process.Pid)), 0))
		waiting := blocked(t, s, s.Wait)
		a.send("eat")
		must(t, result(t, waiting))
		must(t, s.WaitTimeout(hang))
		err := a.cmd.Wait()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Errorf("it ended with %v, want SIGKILL", err)
		}
		for _, file := range []string{"memory.events", "memory.oom_control"} {
			if told, err := os.ReadFile(filepath.Join(group, file)); err == nil && bytes.Contains(told, []byte("oom_kill 0\n")) {
				t.Errorf("%s: %s", file, told)
			}
		}
	})
}

// What is open goes on while the filesystem is full: waiting, giving, recovery, and
// SetLimit as far as there were permits before.
func TestFullFilesystem(t *testing.T) {
	useHelper("actor")
	needRoot(t)
	eachVariant(t, func(t *testing.T) {
		dir := t.TempDir()
		mount := exec.Command("mount", "-t", "tmpfs", "-o", "size=64k", "semaphore-test", dir)
		if out, err := mount.CombinedOutput(); err != nil {
			missing(t, fmt.Sprintf("the right to mount (%s)", strings.TrimSpace(string(out))))
		}
		defer exec.Command("umount", "-l", dir).Run()
		t.Setenv("SEMAPHORE_DIR", dir)
		s := open(t, "x", recoverable, semaphore.WithValue(3))
		other := open(t, "x", recoverable)
		a := holding(t, "x", 2)
		b := startActor(t, "recoverable")
		b.ok("open x")
		defer func() { must(t, s.Close()); must(t, other.Close()) }() // before the umount
		for {                                                         // to the last byte
			f, err := os.OpenFile(filepath.Join(dir, "full"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
			must(t, err)
			_, err = f.Write(make([]byte, 4096))
			f.Close()
			if err != nil {
				wantErr(t, "Write", err, syscall.ENOSPC)
				break
			}
		}
		must(t, s.Wait())
		waiting := blocked(t, other, other.Wait)
		must(t, s.Post())
		must(t, result(t, waiting))
		waiting = blocked(t, s, s.Wait)
		b.send("waits 1")
		waitFor(t, "b's wait", func() bool { return waits(t, s, b) })
		must(t, a.cmd.Process.Kill()) // who had two
		must(t, result(t, waiting))
		if got := b.answer(); got != "ok" {
			t.Fatal(got)
		}
		becomes(t, s, 0)
		must(t, s.SetLimit(1)) // three are held
		must(t, s.Post())
		must(t, other.Post())
		wantErr(t, "TryWait", s.TryWait(), semaphore.ErrWouldBlock)
		waiting = blocked(t, s, s.Wait)
		must(t, other.SetLimit(3))
		must(t, result(t, waiting))
		must(t, b.cmd.Process.Kill())
		b.cmd.Wait()
		becomes(t, s, 2)
		wantErr(t, "SetLimit", s.SetLimit(60_000), syscall.ENOSPC)
		must(t, s.Post())
		becomes(t, s, 3)
	})
}
