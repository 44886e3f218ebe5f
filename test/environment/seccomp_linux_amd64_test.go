package environment_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/testhook"
	. "github.com/procsem/semaphore/internal/testkit"
)

// System calls that a filter (seccomp) refuses, always and in all threads, with whatever
// errno its author chose. Only on amd64: the numbers of the calls are those of one
// architecture, and on most others CI has an emulator, which has no filters.

func init() { helpers["seccomp"] = seccompMain }

// A refusable is a system call that operations make, or the part of it that is not also
// Go's runtime's: where one argument has a value.
type refusable struct {
	name   string // with the words that its errors may have in place of the call's
	number uint32
	arg    int // that has to be equal to value after mask, if mask is not 0
	mask   uint32
	value  uint32
}

var refusables = []refusable{
	{name: "openat open", number: unix.SYS_OPENAT},
	{name: "pread64 read", number: unix.SYS_PREAD64},
	{name: "pwrite64 write", number: unix.SYS_PWRITE64},
	{name: "fstat stat", number: unix.SYS_FSTAT},
	{name: "newfstatat stat", number: unix.SYS_NEWFSTATAT},
	{name: "statfs", number: unix.SYS_STATFS},
	{name: "fallocate", number: unix.SYS_FALLOCATE},
	{name: "ftruncate truncate", number: unix.SYS_FTRUNCATE},
	{name: "fchmod chmod", number: unix.SYS_FCHMOD},
	{name: "linkat link", number: unix.SYS_LINKAT},
	{name: "unlinkat unlink remove", number: unix.SYS_UNLINKAT},
	{name: "flock", number: unix.SYS_FLOCK},
	{name: "fcntl F_OFD_SETLK", number: unix.SYS_FCNTL, arg: 1, mask: 1<<32 - 1, value: unix.F_OFD_SETLK},
	{name: "fcntl F_OFD_GETLK", number: unix.SYS_FCNTL, arg: 1, mask: 1<<32 - 1, value: unix.F_OFD_GETLK},
	{name: "fcntl F_DUPFD_CLOEXEC", number: unix.SYS_FCNTL, arg: 1, mask: 1<<32 - 1, value: unix.F_DUPFD_CLOEXEC},
	{name: "mmap MAP_SHARED sem_open", number: unix.SYS_MMAP, arg: 3, mask: unix.MAP_SHARED, value: unix.MAP_SHARED},
	{name: "get_robust_list", number: unix.SYS_GET_ROBUST_LIST},
	{name: "set_robust_list", number: unix.SYS_SET_ROBUST_LIST},
	{name: "futex FUTEX_WAKE", number: unix.SYS_FUTEX, arg: 1, mask: 1<<32 - 1, value: 1},
	{name: "futex FUTEX_WAIT_BITSET", number: unix.SYS_FUTEX, arg: 1, mask: 0xff, value: 9},
	// Go's runtime sleeps without a bitset, also where nothing is shared.
	{name: "futex FUTEX_WAIT_BITSET_PRIVATE", number: unix.SYS_FUTEX, arg: 1, mask: 1<<32 - 1, value: 9 | 128},
	{name: "futex_waitv", number: unix.SYS_FUTEX_WAITV},
}

// failing is what a filter does that lets a call fail with errno.
func failing(errno unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(errno) }

// filter meets the call with an action.
func (r refusable) filter(action uint32) []unix.SockFilter {
	const (
		number = 0 // struct seccomp_data
		arch   = 4
		args   = 16
	)
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	ret := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	test := func(k uint32) []unix.SockFilter { // else allow
		return []unix.SockFilter{{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jt: 1}, ret(unix.SECCOMP_RET_ALLOW)}
	}
	return slices.Concat(
		[]unix.SockFilter{load(arch)}, test(unix.AUDIT_ARCH_X86_64),
		[]unix.SockFilter{load(number)}, test(r.number),
		[]unix.SockFilter{load(args + 8*uint32(r.arg)), {Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: r.mask}}, test(r.value),
		[]unix.SockFilter{ret(action)})
}

// refuse installs the filter in all threads.
func (r refusable) refuse(action uint32) error {
	filter := r.filter(action)
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// The first call is about one thread, which then has to make the second: a process without
	// privileges is refused a filter (EACCES) by a thread that may still gain some. The second
	// passes both on to the other threads (TSYNC).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	thread, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if e != 0 {
		return e
	}
	if thread != 0 {
		return fmt.Errorf("thread %d has another filter", thread)
	}
	return nil
}

// seccompMain does everything with a semaphore, and prints what failed.
func seccompMain(args []string) int {
	var index, errno int
	fmt.Sscan(args[2], &index)
	fmt.Sscan(args[3], &errno)
	if err := refusables[index].refuse(failing(unix.Errno(errno))); err != nil {
		fmt.Println("seccomp", err)
		return 0
	}
	failed := func(step string, err error) bool {
		if err != nil {
			fmt.Println(step, strings.ReplaceAll(err.Error(), "\n", " "))
		}
		return err != nil
	}
	open := func() (*semaphore.Semaphore, error) {
		return semaphore.Open(args[0], semaphore.WithEngine(EngineOf(args[1])), semaphore.WithValue(1))
	}
	s, err := open()
	if failed("open", err) {
		return 0
	}
	other, err := open()
	if failed("open", err) {
		return 0
	}
	for range 3 {
		if failed("wait", s.Wait()) || failed("post", s.Post()) {
			return 0
		}
	}
	if failed("wait", s.Wait()) {
		return 0
	}
	// A virtual processor that stands still may be charged to us; one that spins is so each time.
	used := time.Duration(spinTime)
	for try := 0; try < 3 && used > spinTime/8; try++ {
		var before, after unix.Rusage
		unix.Getrusage(unix.RUSAGE_SELF, &before)
		if err := other.WaitTimeout(spinTime); !errors.Is(err, semaphore.ErrTimeout) {
			fmt.Println("waittimeout", err)
			return 0
		}
		unix.Getrusage(unix.RUSAGE_SELF, &after)
		used = time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	}
	if used > spinTime/8 {
		fmt.Printf("waittimeout used %v of processor time\n", used)
	}
	served := InBackground(func() error { return other.WaitContext(context.Background()) })
	for testhook.Inspect(other).Waiting == 0 && len(served) == 0 {
		time.Sleep(time.Millisecond)
	}
	if failed("post", s.Post()) || failed("served wait", <-served) || failed("post", other.Post()) {
		return 0
	}
	failed("close", other.Close())
	failed("close", s.Close())
	failed("unlink", semaphore.Unlink(args[0], semaphore.WithEngine(EngineOf(args[1]))))
	fmt.Println("done")
	return 0
}

func needAction(t *testing.T, action uint32) {
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action))); errno != 0 {
		Missing(t, "seccomp")
	}
}

// spinTime is how long a wait lasts in which a thread that spins is seen. A process that does not
// spin uses about a millisecond of processor time in it; one that spins used 34 to 179 beside
// seven others on two processors.
const spinTime = 200 * time.Millisecond

func TestRefusedCalls(t *testing.T) {
	UseHelper("seccomp")
	NeedCallNumbers(t)
	needAction(t, unix.SECCOMP_RET_ERRNO)
	errnos := []unix.Errno{unix.EPERM, unix.EACCES, unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP}
	for _, e := range []semaphore.Engine{semaphore.EngineFlock, semaphore.EngineNative, semaphore.EngineRecoverable, semaphore.EngineLibc} {
		t.Run(e.String(), func(t *testing.T) {
			NeedEngine(t, e)
			dir := t.TempDir()
			t.Setenv("SEMAPHORE_DIR", dir)
			var wg sync.WaitGroup
			running := make(chan struct{}, 8) // they mostly sleep
			for i, r := range refusables {
				if e == semaphore.EngineLibc && r.number == unix.SYS_FUTEX {
					continue // glibc itself ends a process in which these fail
				}
				for j, errno := range errnos {
					if !*allFaults && j != i%len(errnos) {
						continue
					}
					for _, create := range []bool{false, true} {
						name := UniqueName(t)
						running <- struct{}{}
						wg.Go(func() {
							defer func() { <-running }()
							withRefused(t, e, create, name, i, errno, func(what string) {
								t.Errorf("%s refused with %s, create=%v: %s", r.name, unix.ErrnoName(errno), create, what)
							})
						})
					}
				}
			}
			wg.Wait()
			left, _ := os.ReadDir(dir)
			// A lock file can't be removed, or found, by calls that are refused.
			left = slices.DeleteFunc(left, func(f fs.DirEntry) bool { return strings.HasPrefix(f.Name(), "rlk.") })
			if len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func withRefused(t *testing.T, e semaphore.Engine, create bool, name string, call int, errno unix.Errno, report func(string)) {
	if !create {
		s, err := semaphore.Open(name, semaphore.WithEngine(e), semaphore.WithValue(1))
		if err != nil {
			report(err.Error())
			return
		}
		s.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), Hang)
	defer cancel()
	cmd := Helper(t, "seccomp", name, e.String(), fmt.Sprint(call), fmt.Sprint(int(errno)))
	var out bytes.Buffer
	cmd.Stdout = &out
	cmd.Env = append(cmd.Env, "GOTRACEBACK=none")
	if err := cmd.Start(); err != nil {
		report(err.Error())
		return
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	defer stop()
	ended := cmd.Wait()
	defer semaphore.Unlink(name, semaphore.WithEngine(e))
	for line := range strings.Lines(out.String()) {
		line = strings.TrimSpace(line)
		step, what, _ := strings.Cut(line, " ")
		switch {
		case line == "done":
		case step == "open" || step == "close" || step == "unlink":
			if !isClear(what, name, errno, refusables[call].name) {
				report("unclear: " + line)
			}
			if *allFaults {
				t.Logf("%s refused with %s, create=%v: %s", refusables[call].name, unix.ErrnoName(errno), create, line)
			}
		default:
			report(line)
		}
	}
	if ended != nil {
		report(fmt.Sprintf("the process has died, or hung (%v)", ended))
	} else if out.Len() == 0 {
		report("the process has said nothing")
	}
	for _, dir := range []string{os.Getenv("SEMAPHORE_DIR"), "/dev/shm"} {
		if left, _ := filepath.Glob(fmt.Sprintf("%s/tmp.%d.*", dir, cmd.Process.Pid)); len(left) > 0 && refusables[call].number != unix.SYS_UNLINKAT {
			report(fmt.Sprintf("left behind: %v", left))
		}
	}
}

// isClear reports whether an error says which call was refused, or of which file, and why.
func isClear(what, name string, errno unix.Errno, call string) bool {
	if strings.Contains(what, "another process") {
		return false
	}
	if errno == unix.EPERM && strings.HasPrefix(what, "unlink") {
		errno = unix.EACCES // see store.Remove
	}
	if !strings.Contains(what, errno.Error()) && !strings.Contains(what, "not supported") {
		return false
	}
	// libc says only that its sem_open failed, and why.
	said := append(strings.Fields(call), "/", "sem_open")
	return slices.ContainsFunc(said, func(word string) bool { return strings.Contains(what, word) })
}
