//go:build unix

// What tests need, and Windows provides in another way: see platform_windows.go.

package testkit

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/testhook"
)

// Rows are those of the conformance table.
var Rows = []Row{
	{"auto", semaphore.EngineAuto, nil},
	{"libc", semaphore.EngineLibc, nil},
	{"native", semaphore.EngineNative, nil},
	{"native without futex_waitv", semaphore.EngineNative, WithoutWaitv},
	{"flock", semaphore.EngineFlock, nil},
	{"recoverable", semaphore.EngineRecoverable, nil},
	{"recoverable without futex_waitv", semaphore.EngineRecoverable, WithoutReports},
	{"recoverable with lock files and polling", semaphore.EngineRecoverable, Portable},
}

// storeDirs are where semaphores' files may be.
var storeDirs = []string{"/dev/shm", "/tmp"}

// UnlinkFrees reports whether the name of an open semaphore can be removed.
func UnlinkFrees(semaphore.Engine) bool { return true }

// TempDir returns a directory that is removed when the test ends.
func TempDir(t testing.TB) string { return direct(t, t.TempDir()) }

// KeepAlive keeps a semaphore that no other process has open from ending.
func KeepAlive(testing.TB, string, semaphore.Engine) {}

// scratch is a directory for the whole run.
var scratch = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("", "semaphore-test-")
	if err != nil {
		panic(err)
	}
	scratchMade = dir
	return dir
})

// NeedTool skips where a program is missing.
func NeedTool(t testing.TB, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		Missing(t, tool)
	}
}

// NeedRoot skips a test that needs root if this process is not root.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "root")
	}
}

// NeedSleeping skips a test where /proc does not show what threads sleep in.
func NeedSleeping(t testing.TB) {
	t.Helper()
	if _, err := os.ReadFile("/proc/self/syscall"); err != nil {
		t.Skipf("not on this system: /proc/self/syscall")
	}
}

// SmallFilesystem makes SEMAPHORE_DIR a filesystem with room for size bytes, until the test
// ends, and returns its directory. Only root can mount one.
func SmallFilesystem(t testing.TB, size int) (dir string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("not on this system: tmpfs")
	}
	dir = t.TempDir()
	mount := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprint("size=", size), "semaphore-test", dir)
	if out, err := mount.CombinedOutput(); err != nil {
		Missing(t, fmt.Sprintf("the right to mount (%s)", strings.TrimSpace(string(out))))
	}
	// After the cleanups of semaphores that the test opens.
	t.Cleanup(func() { exec.Command("umount", "-l", dir).Run() })
	t.Setenv("SEMAPHORE_DIR", dir)
	return dir
}

// Bindfs mounts a new directory a second time, by bindfs, until the test ends. It is a
// filesystem of FUSE without O_TMPFILE, on which the kernel takes two hard links for two
// files, and it has locks and memory of its own.
func Bindfs(t testing.TB) (source, mount string) {
	t.Helper()
	NeedRoot(t)
	NeedTool(t, "bindfs")
	source, mount = t.TempDir(), t.TempDir()
	if out, err := exec.Command("bindfs", source, mount).CombinedOutput(); err != nil {
		Missing(t, fmt.Sprintf("the right to mount by FUSE (%s)", strings.TrimSpace(string(out))))
	}
	// After the cleanups of semaphores that the test opens.
	t.Cleanup(func() { exec.Command("umount", "-l", mount).Run() })
	return source, mount
}

// Threads returns how many threads this process has.
func Threads(t testing.TB) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Skip("not on this system: /proc/self/task")
	}
	return len(tasks)
}

// Sharing returns the kinds of actors that share semaphores with each other, by the name
// of their store.
func Sharing() map[string][]string {
	var glibc []string
	for _, e := range []semaphore.Engine{semaphore.EngineNative, semaphore.EngineLibc} {
		if HasEngine(e) && (e == semaphore.EngineNative || testhook.Libc.Glibc) {
			glibc = append(glibc, e.String())
		}
	}
	stores := map[string][]string{"glibc": glibc, "flock": {"flock"}}
	if glibc != nil {
		stores["glibc"] = append(glibc, "C")
		if pythonShares() {
			stores["glibc"] = append(stores["glibc"], "Python")
		}
	}
	if HasEngine(semaphore.EngineLibc) && !testhook.Libc.Glibc {
		stores["libc"] = []string{"libc"}
		if testhook.Libc.Musl {
			stores["libc"] = append(stores["libc"], "musl C")
		}
	}
	return stores
}

// pythonShares reports whether python3 is a program of our own word size and byte
// order: others have other semaphores.
var pythonShares = sync.OnceValue(func() bool {
	out, err := exec.Command("python3", "-c", `import struct, sys; print(struct.calcsize("P") * 8, sys.byteorder)`).Output()
	order := "little"
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
		order = "big"
	}
	return err != nil || strings.TrimSpace(string(out)) == fmt.Sprint(strconv.IntSize, " ", order)
})

// cProgram builds testdata/actor.c, once, muslProgram for musl.
var (
	cProgram    = sync.OnceValues(func() (string, error) { return Compile(CCompiler(), "actor.c") })
	muslProgram = sync.OnceValues(func() (string, error) { return Compile(muslCompiler, "actor.c") })
)

// compilerVariable is the C compiler, with its flags, for programs of our own machine
// and with glibc, where that is not cc.
const compilerVariable = "SEMAPHORE_TEST_CC"

// CCompiler returns the C compiler for programs of our own machine, with its flags.
func CCompiler() []string {
	if cc := strings.Fields(os.Getenv(compilerVariable)); len(cc) > 0 {
		return cc
	}
	return []string{"cc"}
}

// muslCompiler is Debian's, for the machine that it is on.
var muslCompiler = []string{"musl-gcc", "-static"}

// Compile builds a program of testdata, and returns its path.
func Compile(compiler []string, source string) (string, error) {
	out := filepath.Join(scratch(), source+"-"+compiler[0])
	source, err := testdata(source)
	if err != nil {
		return "", err
	}
	args := append(compiler[1:len(compiler):len(compiler)], "-O2", "-Wall", "-Werror", "-o", out, source, "-pthread")
	cc := exec.Command(compiler[0], args...)
	if text, err := cc.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%v: %v\n%s", cc, err, text)
	}
	return out, nil
}

// foreignActor is the command of an actor that is not this program.
func foreignActor(t testing.TB, kind string) *exec.Cmd {
	t.Helper()
	switch kind {
	case "C":
		NeedTool(t, CCompiler()[0])
		path, err := cProgram()
		Must(t, err)
		return exec.Command(path)
	case "musl C":
		NeedTool(t, muslCompiler[0])
		path, err := muslProgram()
		Must(t, err)
		return exec.Command(path)
	case "Python":
		NeedTool(t, "python3")
		path, err := testdata("actor.py")
		Must(t, err)
		return exec.Command("python3", path)
	}
	return nil
}

// Sleeping reports whether the actor waits for a semaphore: no thread of it
// runs, and none sleeps in a read of its commands, from descriptor 0.
func (a *Actor) Sleeping() bool {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", a.Cmd.Process.Pid))
	Must(a.t, err)
	for _, task := range tasks {
		call, _ := os.ReadFile(task) // number and arguments, or "running"
		if f := strings.Fields(string(call)); len(f) < 2 || f[1] == "0x0" {
			return false
		}
	}
	return true
}

// platformCommand runs those commands of the actor in Go that exist only on Unix.
func platformCommand(s *semaphore.Semaphore, f []string) (answer string, err error, known bool) {
	number := func(i int) (n int) { fmt.Sscan(f[i], &n); return n }
	answer = "ok"
	switch f[0] {
	case "exec": // becomes another program, with or without the lock file
		if f[1] == "keep" {
			var lock *os.File
			if lock, err = s.LockFile(); err == nil {
				_, err = unix.FcntlInt(lock.Fd(), unix.F_SETFD, 0)
			}
		}
		if err == nil {
			fmt.Println(answer)
			err = syscall.Exec("/bin/sh", []string{"sh", "-c", "read line"}, os.Environ())
		}
	case "child": // starts a child that has the lock file
		var lock *os.File
		if lock, err = s.LockFile(); err == nil {
			child := exec.Command("sh", "-c", "read line <&4; exec 3>&-")
			child.ExtraFiles = []*os.File{lock, os.NewFile(uintptr(number(1)), "pipe")}
			if err = child.Start(); err == nil {
				answer = fmt.Sprint("ok ", child.Process.Pid)
			}
			lock.Close()
		}
	case "run": // runs a program that has the lock file, and ends at once
		var lock *os.File
		if lock, err = s.LockFile(); err == nil {
			child := exec.Command(f[1])
			child.ExtraFiles = []*os.File{lock, os.NewFile(uintptr(number(2)), "pipe")}
			err = child.Run()
			lock.Close()
		}
	case "eat": // takes memory, until there is none
		for eaten := [][]byte{}; ; {
			page := make([]byte, 1<<20)
			for i := 0; i < len(page); i += 1 << 10 {
				page[i] = 1
			}
			eaten = append(eaten, page)
		}
	case "euid":
		answer = fmt.Sprint("ok ", os.Geteuid())
	case "freeze": // stops as soon as it is woken from a wait; sent before "open"
		testhook.Trace = func(s uint32) {
			step := permits.Step(s)
			if step == permits.Waking {
				testhook.Trace = nil
				stopHere()
			}
		}
	case "die":
		unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	default:
		return "", nil, false
	}
	return answer, err, true
}

// recordLock returns the type of the lock that an F_GETLK found.
func recordLock(f *os.File, command int, kind int16) int16 {
	lock := unix.Flock_t{Type: kind}
	for {
		err := unix.FcntlFlock(f.Fd(), command, &lock)
		if err == nil {
			return lock.Type
		}
		if err != unix.EINTR {
			panic(err)
		}
	}
}

func lockRecord(f *os.File) { recordLock(f, unix.F_SETLKW, unix.F_WRLCK) }

func unlockRecord(f *os.File) { recordLock(f, unix.F_SETLK, unix.F_UNLCK) }

// recordIsLocked reports whether another process has it locked.
func recordIsLocked(f *os.File) bool {
	return recordLock(f, unix.F_GETLK, unix.F_WRLCK) != unix.F_UNLCK
}

// heedInterrupts makes this process heed interrupts that it ignores, as it does under
// nohup and in the background of a shell: helpers that an interrupt is to end would
// inherit that.
func heedInterrupts() {
	for _, sig := range []os.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
}

// testdata returns the path of a file of testdata, whatever directory a test runs in.
func testdata(name string) (string, error) {
	_, source, _, _ := runtime.Caller(0)
	path := filepath.Join(filepath.Dir(source), "testdata", name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	// The test was built with -trimpath, or the sources were moved.
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", "github.com/procsem/semaphore/internal/testkit").Output()
	if err != nil {
		return "", fmt.Errorf("where is testdata/%s? go list: %w", name, err)
	}
	return filepath.Join(strings.TrimSpace(string(dir)), "testdata", name), nil
}

// otherVariant has the locks and sleeps of other systems.
const otherVariant = "portable"

// Vary makes the recoverable engine the other variant of EachVariant.
func Vary() (restore func()) { return Portable() }
