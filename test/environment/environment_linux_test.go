//go:build !filelock_fcntl

// What may surround the recoverable engine on Linux: namespaces, memory limits, full
// filesystems.

package environment_test

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

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore"
	. "github.com/procsem/semaphore/internal/testkit"
)

// within starts an actor by another program, and returns the actor's process id
// in our pid namespace.
func within(t *testing.T, program string, args ...string) (a *Actor, pid int) {
	t.Helper()
	direct := Helper(t, "actor", "recoverable")
	cmd := exec.Command(program, append(args, direct.Args...)...)
	cmd.Env = append(direct.Env, NetVariable+"=on")
	a = StartActorCommand(t, "recoverable", cmd)
	a.Send("pid")
	if got := a.Answer(); !strings.HasPrefix(got, "ok ") {
		t.Fatal(got)
	}
	return a, lastChild(t, a.Cmd.Process.Pid)
}

// lastChild returns the last process of a chain, in which each process has one child.
func lastChild(t *testing.T, pid int) int {
	for {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
		Must(t, err)
		var child int
		if _, err := fmt.Sscan(string(children), &child); err != nil {
			return pid
		}
		pid = child
	}
}

func needUnshare(t *testing.T, option string) {
	t.Helper()
	UseHelper("actor")
	NeedRoot(t)
	NeedTool(t, "unshare")
	if out, err := exec.Command("unshare", option, "--fork", "true").CombinedOutput(); err != nil {
		Missing(t, fmt.Sprintf("unshare %s (%s)", option, strings.TrimSpace(string(out))))
	}
}

// A holder and a waiter, each in a pid namespace of its own, where both have number 1.
func TestTwoPidNamespaces(t *testing.T) {
	needUnshare(t, "--pid")
	EachVariant(t, func(t *testing.T) {
		s := Open(t, UniqueName(t), Recoverable)
		holder, holderPid := within(t, "unshare", "--pid", "--fork")
		waiter, waiterPid := within(t, "unshare", "--pid", "--fork")
		holder.OK("open %s", s.Name())
		holder.OK("waits 1")
		waiter.OK("open %s", s.Name())
		waiter.Expect("EAGAIN", "trywait")
		waiter.Send("waits 1")
		listed := func() (pids, waiting int) {
			hs, err := s.Holders()
			Must(t, err)
			for _, h := range hs {
				pids += h.PID
				if h.Waiting {
					waiting++
				}
			}
			return pids, waiting
		}
		WaitFor(t, "the waiter", func() bool { pids, waiting := listed(); return pids == 1+1 && waiting == 1 })
		WantErr(t, "TryWait", s.TryWait(), semaphore.ErrWouldBlock)
		Must(t, syscall.Kill(holderPid, syscall.SIGKILL))
		if got := waiter.Answer(); got != "ok" {
			t.Fatal(got)
		}
		waiting := Blocked(t, s, s.Wait)
		Must(t, syscall.Kill(waiterPid, syscall.SIGKILL))
		Must(t, Result(t, waiting))
	})
}

// Another process gets the process id of a killed holder at once, and is then the
// next holder.
func TestPidIsUsedAgain(t *testing.T) {
	needUnshare(t, "--pid")
	EachVariant(t, func(t *testing.T) {
		s := Open(t, UniqueName(t), Recoverable)
		// One actor after the other, each with number 1000; only 8, in case that we are
		// killed.
		const script = `exec 2>/dev/null; for i in 1 2 3 4 5 6 7 8; do echo 999 >/proc/sys/kernel/ns_last_pid && "$@"; done`
		a, _ := within(t, "unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", script, "sh")
		defer func() { // all of them
			a.In.Close()
			syscall.Kill(lastParent(t, a), syscall.SIGKILL)
		}()
		holds := func() semaphore.Holder {
			t.Helper()
			a.OK("open %s", s.Name())
			a.OK("waits 1")
			hs, err := s.Holders()
			Must(t, err)
			if len(hs) != 1 || hs[0].PID != 1000 {
				t.Fatalf("Holders %+v, want one with pid 1000", hs)
			}
			return hs[0]
		}
		a.Send("pid")
		if got := a.Answer(); got != "ok 1000" {
			Missing(t, fmt.Sprintf("/proc/sys/kernel/ns_last_pid (%q)", got))
		}
		first := holds()
		time.Sleep(100 * time.Millisecond)
		dies := func() {
			pid := lastChild(t, a.Cmd.Process.Pid)
			a.Send("die")
			WaitFor(t, "its end", func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH })
		}
		dies()
		a.Expect("ok 1000", "pid") // of the next actor
		Must(t, s.TryWait())
		if hs, err := s.Holders(); err != nil || len(hs) != 1 || hs[0].PID != os.Getpid() {
			t.Errorf("Holders %+v, %v, want us", hs, err)
		}
		Must(t, s.Post())
		second := holds()
		if second.Started.Sub(first.Started) < 50*time.Millisecond || second.Opened.Sub(first.Opened) < 50*time.Millisecond {
			t.Errorf("second holder %+v, first %+v: want each with its own times", second, first)
		}
		waiting := Blocked(t, s, s.Wait)
		dies()
		a.Expect("ok 1000", "pid")
		Must(t, Result(t, waiting))
	})
}

// lastParent returns the first process of an actor's namespace.
func lastParent(t *testing.T, a *Actor) int {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", a.Cmd.Process.Pid))
	Must(t, err)
	pid, err := strconv.Atoi(strings.Fields(string(children))[0])
	Must(t, err)
	return pid
}

// A waiter that is suspended just after it was woken keeps the wake-up; the safety net
// lets another waiter go on, also if that is in a time namespace, with other clocks. The
// suspended waiter gets a permit after it is resumed.
func TestSuspendedWaiter(t *testing.T) {
	NeedSleeping(t)
	testSuspendedWaiter(t, func() *Actor {
		cmd := Helper(t, "actor", "recoverable")
		cmd.Env = append(cmd.Env, NetVariable+"=on")
		return StartActorCommand(t, "recoverable", cmd)
	})
}

func TestTimeNamespace(t *testing.T) {
	NeedSleeping(t)
	needUnshare(t, "--time")
	// A clock can be set back by no more than the time since the system's start.
	var up unix.Timespec
	Must(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &up))
	back := fmt.Sprint(-min(1000, up.Sec/2))
	for what, seconds := range map[string]string{"ahead": "10000000", "back": back} {
		t.Run(what, func(t *testing.T) {
			testSuspendedWaiter(t, func() *Actor {
				a, pid := within(t, "unshare", "--time", "--boottime", seconds, "--monotonic", seconds)
				if pid != a.Cmd.Process.Pid {
					t.Fatal("unshare has forked")
				}
				return a
			})
			s := Open(t, UniqueName(t), Recoverable)
			a, _ := within(t, "unshare", "--time", "--boottime", seconds, "--monotonic", seconds)
			a.OK("open %s", s.Name())
			a.OK("waits 1")
			WantErr(t, "TryWait", s.TryWait(), semaphore.ErrWouldBlock)
			waiting := Blocked(t, s, s.Wait)
			Must(t, a.Cmd.Process.Kill())
			Must(t, Result(t, waiting))
		})
	}
}

func testSuspendedWaiter(t *testing.T, start func() *Actor) {
	name := UniqueName(t)
	holder := Open(t, name, Recoverable)
	Must(t, holder.Wait())
	suspended := StartActor(t, "recoverable")
	suspended.OK("freeze")
	suspended.OK("open %s", name)
	suspended.Send("waits 1")
	WaitFor(t, "the first waiter's sleep", suspended.Sleeping)
	other := start()
	other.OK("open %s", name)
	other.Send("waits 1")
	WaitFor(t, "the other waiter's sleep", other.Sleeping)
	Must(t, holder.Post())
	AwaitSuspension(t, suspended.Cmd)
	if got := other.Answer(); got != "ok" {
		t.Fatal(got)
	}
	GoOn(t, suspended.Cmd)
	other.OK("posts 1")
	if got := suspended.Answer(); got != "ok" {
		t.Error(got)
	}
}

// memoryGroup makes a control group with that many bytes of memory, within ours.
func memoryGroup(t *testing.T, bytes int) (dir string) {
	t.Helper()
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		Missing(t, "control groups")
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
		t.Cleanup(func() { // when all processes in it are gone
			WaitFor(t, "an empty control group", func() bool { return os.Remove(dir) == nil })
		})
		if os.WriteFile(filepath.Join(dir, limit), []byte(strconv.Itoa(bytes)), 0) != nil {
			continue
		}
		for _, swap := range []string{"memory.swap.max", "memory.memsw.limit_in_bytes"} {
			n := bytes
			if swap == "memory.swap.max" {
				n = 0
			}
			os.WriteFile(filepath.Join(dir, swap), []byte(strconv.Itoa(n)), 0) // if it exists
		}
		return dir
	}
	Missing(t, "the right to make a control group with a memory limit")
	return ""
}

// A holder that the OOM killer kills is dead like any other.
func TestHolderOutOfMemory(t *testing.T) {
	UseHelper("actor")
	NeedRoot(t)
	group := memoryGroup(t, 128<<20)
	EachVariant(t, func(t *testing.T) {
		s := Open(t, UniqueName(t), Recoverable, semaphore.WithValue(2))
		a := Holding(t, s.Name(), 2)
		Must(t, os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(a.Cmd.Process.Pid)), 0))
		waiting := Blocked(t, s, s.Wait)
		a.Send("eat")
		Must(t, Result(t, waiting))
		Must(t, s.WaitTimeout(Hang))
		err := a.Cmd.Wait()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Errorf("it ended with %v, want SIGKILL", err)
		}
		for _, file := range []string{"memory.events", "memory.oom_control"} {
			if events, err := os.ReadFile(filepath.Join(group, file)); err == nil && bytes.Contains(events, []byte("oom_kill 0\n")) {
				t.Errorf("%s: %s", file, events)
			}
		}
	})
}

// Open handles keep working while the filesystem is full: they wait, give back, reap, and
// set limits up to the number of permits that the file has room for already.
func TestFullFilesystem(t *testing.T) {
	UseHelper("actor")
	NeedRoot(t)
	EachVariant(t, func(t *testing.T) {
		dir := SmallFilesystem(t, 64<<10)
		s := Open(t, "x", Recoverable, semaphore.WithValue(3))
		other := Open(t, "x", Recoverable)
		a := Holding(t, "x", 2)
		b := StartActor(t, "recoverable")
		b.OK("open x")
		for { // to the last byte
			f, err := os.OpenFile(filepath.Join(dir, "full"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
			Must(t, err)
			_, err = f.Write(make([]byte, 4096))
			f.Close()
			if err != nil {
				WantErr(t, "Write", err, syscall.ENOSPC)
				break
			}
		}
		Must(t, s.Wait())
		waiting := Blocked(t, other, other.Wait)
		Must(t, s.Post())
		Must(t, Result(t, waiting))
		waiting = Blocked(t, s, s.Wait)
		b.Send("waits 1")
		WaitFor(t, "b's wait", func() bool { return Waits(t, s, b) })
		Must(t, a.Cmd.Process.Kill()) // which held two permits
		Must(t, Result(t, waiting))
		if got := b.Answer(); got != "ok" {
			t.Fatal(got)
		}
		Becomes(t, s, 0)
		Must(t, s.SetLimit(1)) // three are held
		Must(t, s.Post())
		Must(t, other.Post())
		WantErr(t, "TryWait", s.TryWait(), semaphore.ErrWouldBlock)
		waiting = Blocked(t, s, s.Wait)
		Must(t, other.SetLimit(3))
		Must(t, Result(t, waiting))
		Must(t, b.Cmd.Process.Kill())
		b.Cmd.Wait()
		Becomes(t, s, 2)
		WantErr(t, "SetLimit", s.SetLimit(60_000), syscall.ENOSPC)
		Must(t, s.Post())
		Becomes(t, s, 3)
		Must(t, s.Close())
		Must(t, other.Close())
	})
}
