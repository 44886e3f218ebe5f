package environment_test

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/permits"
	. "github.com/procsem/semaphore/internal/testkit"
)

// System calls that fail: strace makes the n-th call of one kind fail, in a process that
// opens a semaphore, takes and gives, for every n and every error that the call's manual
// page lists. After each operation another process looks at the value.

var allFaults = flag.Bool("faults.all", false, "let each system call fail with every error of its manual page, not only with the first")

func init() {
	if os.Getenv(HelperVariable) == "faults" {
		runtime.LockOSThread() // strace counts the calls of each thread
	}
	helpers["faults"] = faultsMain
}

// faults are the errors with which system calls fail that operations make, from their
// manual pages. EINTR stands for a call that is interrupted before it has done anything.
var faults = map[string][]unix.Errno{
	"close":           {unix.EIO, unix.EINTR, unix.ENOSPC, unix.EDQUOT},
	"fallocate":       {unix.ENOSPC, unix.EINTR, unix.EIO, unix.EOPNOTSUPP, unix.ENOSYS},
	"fchmod":          {unix.EIO, unix.EPERM, unix.EROFS},
	"fgetxattr":       {unix.ENOTSUP},
	"fremovexattr":    {unix.EIO},
	"fchown":          {unix.EIO, unix.EPERM, unix.EROFS},
	"getdents64":      {unix.ENOENT, unix.EIO},
	"renameat":        {unix.EIO, unix.EACCES, unix.EDQUOT, unix.ENOMEM, unix.ENOSPC, unix.EPERM},
	"unlinkat":        {unix.EIO, unix.EPERM, unix.ENOMEM},
	"fcntl":           {unix.ENOLCK, unix.EINTR, unix.EINVAL},
	"flock":           {unix.ENOLCK, unix.EINTR},
	"fstat":           {unix.ENOMEM, unix.EOVERFLOW},
	"fstatfs":         {unix.EIO, unix.ENOMEM, unix.EINTR},
	"ftruncate":       {unix.EIO, unix.EINTR, unix.EPERM, unix.ENOSPC},
	"futex_waitv":     {unix.ENOSYS, unix.EPERM},
	"get_robust_list": {unix.ENOSYS, unix.EPERM},
	"set_robust_list": {unix.ENOSYS},
	"linkat":          {unix.EIO, unix.EDQUOT, unix.EMLINK, unix.ENOMEM, unix.ENOSPC, unix.EPERM},
	"fstatat":         {unix.EIO, unix.EACCES, unix.ENOMEM},
	"newfstatat":      {unix.EIO, unix.EACCES, unix.ENOMEM},
	"openat":          {unix.EMFILE, unix.EACCES, unix.EINTR, unix.EIO, unix.ENFILE, unix.ENOMEM, unix.ENOSPC},
	"pread64":         {unix.EIO, unix.EINTR},
	"pwrite64":        {unix.ENOSPC, unix.EDQUOT, unix.EINTR, unix.EIO},
	"statfs":          {unix.EIO, unix.ENOMEM, unix.EINTR},
}

// notOurs are calls of Go's runtime, and of the helper itself, and some that never fail.
// Those of the runtime come at moments of its own, so that mmap's cannot be told apart.
var notOurs = []string{"read", "write", "futex", "nanosleep", "clone", "clone3", "madvise", "mmap", "munmap", "mprotect", "rt_sigprocmask", "rt_sigaction", "rt_sigreturn", "sigaltstack", "tgkill", "getpid", "gettid", "getuid", "geteuid", "sched_yield", "sched_getaffinity", "epoll_create1", "epoll_ctl", "epoll_pwait", "eventfd2", "exit_group", "restart_syscall", "getpriority"}

// plain returns the name of a system call without what it has on 32-bit machines.
func plain(call string) string {
	if faults[call] != nil {
		return call
	}
	for _, suffix := range []string{"_time64", "64", "32", "2"} {
		if name, cut := strings.CutSuffix(call, suffix); cut && (faults[name] != nil || slices.Contains(notOurs, name)) {
			return name
		}
	}
	return call
}

// faultsMain opens a semaphore and does something with it, a step for each line that it
// reads, and prints what the operations return. With a third argument it only opens.
func faultsMain(args []string) int {
	debug.SetGCPercent(-1) // the same system calls every time
	in := bufio.NewReader(os.Stdin)
	var s *semaphore.Semaphore
	var p *semaphore.Permit
	steps := []struct {
		name string
		f    func() error
	}{
		{"open", func() (err error) {
			s, err = semaphore.Open(args[0], semaphore.WithEngine(EngineOf(args[1])), semaphore.WithValue(faultsValue))
			return err
		}},
		{"wait", func() error { return s.Wait() }},
		{"trywait", func() error { return s.TryWait() }},
		{"post", func() error { return s.Post() }},
		{"acquire", func() (err error) { p, err = s.TryAcquire(); return err }},
		{"release", func() error { return p.Release() }},
		{"post", func() error { return s.Post() }},
		{"close", func() error { return s.Close() }},
	}
	unix.Getpriority(unix.PRIO_PROCESS, faultsMark)
	for _, step := range steps {
		for range 2 {
			in.ReadString('\n')
			err := step.f()
			fmt.Println(step.name, strings.ReplaceAll(fmt.Sprint(err), "\n", " "))
			if step.name == "open" && (err != nil || len(args) > 2) {
				return 0
			}
			if err == nil || step.name != "post" && step.name != "release" {
				break // what gives must succeed if it is repeated
			}
		}
	}
	return 0
}

const (
	faultsValue = 3
	faultsMark  = 12345 // of no process
)

func TestFaults(t *testing.T) {
	UseHelper("faults")
	NeedCallNumbers(t)
	NeedTool(t, "strace")
	for _, e := range []semaphore.Engine{semaphore.EngineFlock, semaphore.EngineNative, semaphore.EngineRecoverable} {
		for _, create := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v/create=%v", e, create), func(t *testing.T) {
				NeedEngine(t, e)
				calls := callsWithoutFault(t, e, create)
				tried := 0
				for _, name := range slices.Sorted(maps.Keys(calls)) {
					errs := faults[plain(name)]
					if errs == nil {
						t.Errorf("operations make the system call %s: which errors has it?", name)
					}
					if !*allFaults {
						errs = errs[:min(1, len(errs))]
					}
					for _, errno := range errs {
						for _, n := range calls[name] {
							tried++
							withFault(t, e, create, name, n, errno)
						}
					}
				}
				t.Logf("%d faults in %v", tried, slices.Sorted(maps.Keys(calls)))
			})
		}
	}
}

// Where links are refused, by a filter of system calls or by the filesystem, a semaphore is
// made by a rename that replaces nothing, and works like any; where that is refused, too,
// Open says so, and leaves nothing.
func TestLinksRefused(t *testing.T) {
	UseHelper("faults")
	NeedCallNumbers(t)
	NeedTool(t, "strace")
	for _, e := range []semaphore.Engine{semaphore.EngineFlock, semaphore.EngineNative, semaphore.EngineRecoverable} {
		for _, errno := range []unix.Errno{unix.EPERM, unix.EACCES, unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP} {
			t.Run(fmt.Sprintf("%v/%s", e, unix.ErrnoName(errno)), func(t *testing.T) {
				NeedEngine(t, e)
				refuse := func(calls string) []string {
					return []string{"-o", os.DevNull, "-e", "trace=" + calls, "-e", fmt.Sprintf("inject=%s:error=%d", calls, errno)}
				}
				const links, both = "?link,linkat", "?link,linkat,renameat2"
				doSteps(t, e, true, func(problem string) { t.Error("links refused:", problem) }, refuse(links)...)

				dir := t.TempDir()
				t.Setenv("SEMAPHORE_DIR", dir)
				open := func(name, calls string) string {
					direct := Helper(t, "faults", name, e.String())
					cmd := exec.Command("strace", append(append([]string{"-f", "-qq"}, refuse(calls)...), direct.Args...)...)
					cmd.Env = direct.Env
					a := StartActorCommand(t, "faults", cmd)
					a.Send("")
					return a.Answer()
				}
				name := UniqueName(t)
				if got := open(name, links); got != "open <nil>" {
					t.Errorf("links refused: %s", got)
				}
				Must(t, semaphore.Unlink(name))
				dir = t.TempDir() // the one before has the lock file, if any, of a process that lives
				t.Setenv("SEMAPHORE_DIR", dir)
				got := open(name, both)
				where := dir
				if e == semaphore.EngineNative {
					where = "/dev/shm"
				}
				for _, part := range []string{"not supported here", where, "link", "rename", errno.Error()} {
					if !strings.Contains(got, part) {
						t.Errorf("links and renames refused: %s: want it to say %q", got, part)
					}
				}
				checkNothingHalfMade(t, dir, name, e, func(problem string) { t.Error(problem) })
			})
		}
	}
}

// A process that opens a file of an older version, which nobody has open, fails or is killed at one
// of its system calls: then the file is the old one, or a whole new one with the old one's limit.
func TestFaultsWhileReplacing(t *testing.T) {
	UseHelper("faults")
	NeedCallNumbers(t)
	NeedTool(t, "strace")
	NeedEngine(t, Recoverable)
	EachVariant(t, func(t *testing.T) {
		log := filepath.Join(t.TempDir(), "strace")
		if got := replaceUnder(t, "nothing", "-o", log); got != "open <nil>" {
			t.Fatal(got)
		}
		b, err := os.ReadFile(log)
		Must(t, err)
		calls := callsAfterMark(string(b))
		if calls["renameat"] == nil && calls["renameat2"] == nil {
			t.Fatalf("no file was renamed in\n%s", b)
		}
		tried := 0
		for _, name := range slices.Sorted(maps.Keys(calls)) {
			errs := faults[plain(name)]
			if errs == nil {
				t.Errorf("replacing makes the system call %s: which errors has it?", name)
				continue
			}
			for _, n := range calls[name] {
				for _, what := range []string{fmt.Sprintf("error=%d", errs[0]), "signal=KILL"} {
					tried++
					fault := fmt.Sprintf("%s:%s:when=%d", name, what, n)
					got := replaceUnder(t, fault, "-o", os.DevNull, "-e", "trace="+name, "-e", "inject="+fault)
					if killed := got == ""; killed != (what == "signal=KILL") {
						t.Errorf("%s: %q", fault, got)
					}
				}
			}
		}
		t.Logf("%d faults in %v", tried, slices.Sorted(maps.Keys(calls)))
	})
}

// replaceUnder runs the helper under strace on a file of an older version, checks what it leaves, and
// returns what it says, "" if it dies.
func replaceUnder(t *testing.T, what string, flags ...string) string {
	dir := t.TempDir()
	t.Setenv("SEMAPHORE_DIR", dir)
	const name, limit = "x", 2
	old := MakeOlder(t, name, permits.Version-1, limit|LimitSet, 0o600)
	direct := Helper(t, "faults", name, Recoverable.String(), "open")
	cmd := exec.Command("strace", append(append([]string{"-f", "-qq"}, flags...), direct.Args...)...)
	cmd.Env = append(direct.Env, "GOTRACEBACK=none")
	a := StartActorCommand(t, "faults", cmd)
	a.Send("")
	var answer string
	select {
	case answer = <-a.Lines:
	case <-time.After(2 * Hang):
		t.Fatalf("%s: it hangs", what)
	}
	Result(t, InBackground(a.Cmd.Wait)) // killed, or not
	left := func(pattern string) {
		t.Helper()
		if left, _ := filepath.Glob(filepath.Join(dir, pattern)); len(left) > 0 {
			t.Errorf("%s: %q: left behind: %v", what, answer, left)
		}
	}
	if VersionOf(t, name) != permits.Version {
		old.Unchanged(t, what)
	}
	if answer != "" {
		left("tmp.*")
	}
	s, err := semaphore.Open(name, semaphore.WithRecovery(true), semaphore.WithValue(7))
	if err != nil {
		t.Errorf("%s: %q: the next Open: %v", what, answer, err)
		return answer
	}
	if n, err := s.Limit(); n != limit || err != nil {
		t.Errorf("%s: %q: limit %d (%v), want %d", what, answer, n, err, limit)
	}
	if n, err := s.Value(); n != limit || err != nil {
		t.Errorf("%s: %q: value %d (%v), want %d", what, answer, n, err, limit)
	}
	Must(t, s.Close())
	Must(t, semaphore.Unlink(name))
	left("tmp.*")
	return answer
}

// callsWithoutFault returns the system calls that the operations make, by their names,
// and which of their kind they are in their thread.
func callsWithoutFault(t *testing.T, e semaphore.Engine, create bool) map[string][]int {
	log := filepath.Join(t.TempDir(), "strace")
	doSteps(t, e, create, func(string) {}, "-o", log)
	b, err := os.ReadFile(log)
	Must(t, err)
	calls := callsAfterMark(string(b))
	if len(calls) == 0 {
		t.Fatalf("no system call in\n%s", b)
	}
	return calls
}

// callsAfterMark reads what strace has written of the thread that made the mark, from there on.
func callsAfterMark(log string) map[string][]int {
	mark := fmt.Sprintf(" getpriority(PRIO_PROCESS, %d", faultsMark) // the number alone can be that of a thread
	calls := make(map[string][]int)
	count := make(map[string]int)
	var thread string
	for line := range strings.Lines(log) {
		if strings.Contains(line, mark) {
			thread = strings.Fields(line)[0]
		}
	}
	marked := false
	for line := range strings.Lines(log) {
		f := strings.Fields(line)
		name, _, call := strings.Cut(f[1], "(")
		if f[0] != thread || !call {
			continue
		}
		count[name]++
		if marked && !slices.Contains(notOurs, plain(name)) {
			calls[name] = append(calls[name], count[name])
		}
		marked = marked || strings.Contains(line, mark)
	}
	return calls
}

// A thread may have the number of the mark, and be told of in lines of the one that counts.
func TestCallsAfterMark(t *testing.T) {
	log := fmt.Sprintf(`7 clone3({flags=CLONE_VM} => {parent_tid=[%[1]d]}, 88) = %[1]d
%[1]d pread64(3, "-1\n", 64, 0) = 3
7 prlimit64(0, RLIMIT_NOFILE, NULL,  <unfinished ...>
7 <... prlimit64 resumed>{rlim_cur=20000, rlim_max=20000}) = 0
7 openat(AT_FDCWD, "/dev/null", O_RDONLY) = 3
7 getpriority(PRIO_PROCESS, %[1]d)  = 20
7 openat(AT_FDCWD, "/dev/shm/x", O_RDWR) = 3
`, faultsMark)
	if diff := cmp.Diff(map[string][]int{"openat": {2}}, callsAfterMark(log)); diff != "" {
		t.Error(diff)
	}
}

func withFault(t *testing.T, e semaphore.Engine, create bool, call string, n int, errno unix.Errno) {
	fault := fmt.Sprintf("%s:error=%d:when=%d", call, errno, n)
	flags := []string{"-o", os.DevNull, "-e", "trace=" + call, "-e", "inject=" + fault}
	doSteps(t, e, create, func(problem string) { t.Errorf("%s (%v): %s", fault, errno, problem) }, flags...)
}

// doSteps runs the helper under strace, and looks at the value after each step: it is
// what it was if the step has failed, and what the step says that it does otherwise.
func doSteps(t *testing.T, e semaphore.Engine, create bool, report func(problem string), flags ...string) {
	dir := t.TempDir()
	t.Setenv("SEMAPHORE_DIR", dir)
	name := UniqueName(t)
	opts := []semaphore.Option{semaphore.WithEngine(e), semaphore.WithValue(faultsValue)}
	var s *semaphore.Semaphore
	if !create {
		s = Open(t, name, e, opts...)
	}
	direct := Helper(t, "faults", name, e.String())
	cmd := exec.Command("strace", append(append([]string{"-f", "-qq"}, flags...), direct.Args...)...)
	cmd.Env = append(direct.Env, "GOTRACEBACK=none")
	a := StartActorCommand(t, "faults", cmd)
	value, held, permit := faultsValue, 0, 0
	failed := ""
	for {
		a.Send("")
		var answer string
		select {
		case line, open := <-a.Lines:
			if !open {
				report("the process has died")
				return
			}
			answer = line
		case <-time.After(2 * Hang):
			report("it hangs")
			return
		}
		step, result, _ := strings.Cut(answer, " ")
		ok := result == "<nil>"
		if !ok && failed == step && (step == "post" && held > 0 || step == "release" && permit > 0) {
			report(fmt.Sprintf("%s failed twice: %s", step, result))
			return
		}
		failed = ""
		if !ok {
			failed = step
		}
		switch step {
		case "open":
			if !ok && create {
				checkNothingHalfMade(t, dir, name, e, report)
				return
			}
			if s == nil {
				s = Open(t, name, e, opts...)
			}
		case "wait", "trywait":
			if ok {
				held++
			}
		case "acquire":
			if ok {
				permit = 1
			}
		case "release":
			if ok {
				permit = 0
			}
		case "post":
			if ok && held > 0 {
				held--
			} else if ok && !Owns(e) {
				value++ // as POSIX has it
			}
		case "close":
			if Owns(e) {
				held, permit = 0, 0
			}
		}
		if n, err := s.Value(); n != value-held-permit || err != nil {
			report(fmt.Sprintf("after %s: %s value %d, %v, want %d", step, result, n, err, value-held-permit))
			return
		}
		if step == "close" || step == "open" && !ok {
			break
		}
	}
	if err := Result(t, InBackground(a.Cmd.Wait)); err != nil {
		report(err.Error())
	}
}

// checkNothingHalfMade checks that a creator that failed has left nothing, or a whole
// semaphore.
func checkNothingHalfMade(t *testing.T, dir, name string, e semaphore.Engine, report func(string)) {
	s, err := semaphore.Open(name, semaphore.WithEngine(e), semaphore.WithCreate(false))
	switch {
	case err == nil:
		if n, err := s.Value(); n != faultsValue || err != nil {
			report(fmt.Sprintf("made with value %d, %v", n, err))
		}
		s.Close()
		Must(t, s.Unlink())
	case !errors.Is(err, fs.ErrNotExist):
		report("half-made: " + err.Error())
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		report(fmt.Sprintf("left behind: %v", left))
	}
}

// A filter that does not know futex_waitv may refuse it with any error: waits go on
// without it.
func TestRefusedFutexWaitv(t *testing.T) {
	UseHelper("actor")
	NeedCallNumbers(t)
	NeedTool(t, "strace")
	for _, e := range []semaphore.Engine{semaphore.EngineNative, semaphore.EngineRecoverable} {
		NeedEngine(t, e)
		for _, errno := range []unix.Errno{unix.EPERM, unix.EACCES, unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP, unix.EUCLEAN} {
			t.Run(fmt.Sprintf("%v/%s", e, unix.ErrnoName(errno)), func(t *testing.T) {
				s := Open(t, UniqueName(t), e)
				direct := Helper(t, "actor", e.String())
				call := "futex_waitv"
				cmd := exec.Command("strace", append([]string{"-f", "-qq", "-o", os.DevNull, "-e", "trace=" + call, "-e", fmt.Sprintf("inject=%s:error=%d", call, errno)}, direct.Args...)...)
				cmd.Env = direct.Env
				a := StartActorCommand(t, e.String(), cmd)
				a.OK("open %s", s.Name())
				for range 3 {
					Must(t, s.Wait())
					a.Send("waits 1")
					WaitFor(t, "a waiter", func() bool { return Sleeper(inner(t, a), StoreFile(e, s.Name())) != 0 })
					Must(t, s.Post())
					if got := a.Answer(); got != "ok" {
						t.Fatal(got)
					}
					a.OK("posts 1")
				}
			})
		}
	}
}

// inner returns the process that an actor's strace runs.
func inner(t *testing.T, a *Actor) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", a.Cmd.Process.Pid))
	Must(t, err)
	var pid int
	fmt.Sscan(string(b), &pid)
	return pid
}
