//go:build unix

// Actors: processes that a test drives over a pipe, a command a line. There is
// one in C, one in Python, and one in Go for each engine, and all understand
// the same commands.

package semaphore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/permits"
)

type actor struct {
	t     testing.TB
	kind  string
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string
}

// sharing are the kinds of actors that share semaphores with each other.
func sharing() map[string][]string {
	var glibc []string
	for _, e := range []semaphore.Engine{semaphore.EngineNative, semaphore.EngineLibc} {
		if hasEngine(e) {
			glibc = append(glibc, e.String())
		}
	}
	if glibc != nil {
		glibc = append(glibc, "C")
		if strconv.IntSize == pythonBits {
			glibc = append(glibc, "Python")
		}
	}
	return map[string][]string{"glibc": glibc, "flock": {"flock"}}
}

// pythonBits is the word size of Debian's python3 on the machines that this
// runs on. A program of another word size has other semaphores.
const pythonBits = 64

// cProgram builds testdata/actor.c, once.
var cProgram = sync.OnceValues(func() (string, error) {
	return compile(cCompiler(), "actor.c")
})

// cCompiler returns the C compiler for programs of our own word size.
func cCompiler() string {
	if runtime.GOARCH == "386" {
		return cc386
	}
	return "cc"
}

const cc386 = "i686-linux-gnu-gcc"

// compile builds a program of testdata.
func compile(compiler, source string) (string, error) {
	out := filepath.Join(scratch(), source+"-"+compiler)
	args := []string{"-O2", "-Wall", "-Werror", "-o", out, filepath.Join("testdata", source), "-pthread"}
	if compiler == cc386 {
		args = append(args, "-static") // its libraries are not installed for running
	}
	cc := exec.Command(compiler, args...)
	if text, err := cc.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%v: %v\n%s", cc, err, text)
	}
	return out, nil
}

func startActor(t testing.TB, kind string, files ...*os.File) *actor {
	t.Helper()
	var cmd *exec.Cmd
	switch kind {
	case "C":
		needTool(t, cCompiler())
		path, err := cProgram()
		must(t, err)
		cmd = exec.Command(path)
	case "Python":
		needTool(t, "python3")
		cmd = exec.Command("python3", "testdata/actor.py")
	default:
		cmd = helper(t, "actor", kind)
	}
	cmd.ExtraFiles = files
	return startActorCommand(t, kind, cmd)
}

func startActorCommand(t testing.TB, kind string, cmd *exec.Cmd) *actor {
	t.Helper()
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	a := &actor{t: t, kind: kind, cmd: cmd, in: in, lines: make(chan string)}
	ended := make(chan struct{})
	go func() {
		defer close(a.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			select {
			case a.lines <- s.Text():
			case <-ended:
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(ended)
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return a
}

func (a *actor) send(format string, args ...any) {
	a.t.Helper()
	if _, err := fmt.Fprintf(a.in, format+"\n", args...); err != nil {
		a.t.Fatalf("%s actor: %v", a.kind, err)
	}
}

func (a *actor) answer() string {
	a.t.Helper()
	select {
	case line, open := <-a.lines:
		if !open {
			a.t.Fatalf("%s actor died", a.kind)
		}
		return line
	case <-time.After(2 * hang):
		a.t.Fatalf("%s actor: no answer after %v", a.kind, 2*hang)
		return ""
	}
}

// expect sends a command and wants that answer.
func (a *actor) expect(want, format string, args ...any) {
	a.t.Helper()
	a.send(format, args...)
	if got := a.answer(); got != want {
		a.t.Fatalf("%s actor, %s: got %q, want %q", a.kind, fmt.Sprintf(format, args...), got, want)
	}
}

func (a *actor) ok(format string, args ...any) {
	a.t.Helper()
	a.expect("ok", format, args...)
}

// sleeping reports whether the actor waits for a semaphore: no thread of it
// runs, and none sleeps in a read of its commands, from descriptor 0.
func (a *actor) sleeping() bool {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", a.cmd.Process.Pid))
	must(a.t, err)
	for _, task := range tasks {
		call, _ := os.ReadFile(task) // number and arguments, or "running"
		if f := strings.Fields(string(call)); len(f) < 2 || f[1] == "0x0" {
			return false
		}
	}
	return true
}

// actorMain is the actor in Go.
func actorMain(args []string) int {
	var engine semaphore.Engine
	for engine = semaphore.EngineAuto; engine.String() != args[0]; engine++ {
	}
	var s *semaphore.Semaphore
	var witness *witness
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		f := strings.Fields(lines.Text())
		number := func(i int) (n int) { fmt.Sscan(f[i], &n); return n }
		var err error
		answer := "ok"
		switch f[0] {
		case "create":
			s, err = semaphore.Open(f[1], semaphore.WithEngine(engine), semaphore.WithExclusive(true), semaphore.WithValue(number(2)))
		case "open":
			s, err = semaphore.Open(f[1], semaphore.WithEngine(engine), semaphore.WithCreate(false))
		case "rounds":
			if witness == nil {
				witness = newWitness(f[3])
			}
			most := 0
			for range number(1) {
				var p *semaphore.Permit
				if p, err = s.Acquire(context.Background()); err != nil {
					break
				}
				most = max(most, witness.enter())
				witness.leave()
				if err = p.Release(); err != nil {
					break
				}
			}
			if most > number(2) {
				answer = fmt.Sprint(most, " inside")
			}
		case "waits":
			for range number(1) {
				err = errors.Join(err, s.Wait())
			}
		case "posts":
			for range number(1) {
				err = errors.Join(err, s.Post())
			}
		case "trywait":
			err = s.TryWait()
		case "value":
			var n int
			n, err = s.Value()
			answer = fmt.Sprint("ok ", n)
		case "unlink":
			err = s.Unlink()
		case "limit":
			err = s.SetLimit(number(1))
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
		case "child": // starts one that has the lock file
			var lock *os.File
			if lock, err = s.LockFile(); err == nil {
				child := exec.Command("sh", "-c", "read line <&4; exec 3>&-")
				child.ExtraFiles = []*os.File{lock, os.NewFile(uintptr(number(1)), "pipe")}
				if err = child.Start(); err == nil {
					answer = fmt.Sprint("ok ", child.Process.Pid)
				}
				lock.Close()
			}
		case "run": // a program that has the lock file, and ends at once
			var lock *os.File
			if lock, err = s.LockFile(); err == nil {
				child := exec.Command(f[1])
				child.ExtraFiles = []*os.File{lock, os.NewFile(uintptr(number(2)), "pipe")}
				err = child.Run()
				lock.Close()
			}
		case "eat": // memory, until there is none
			for eaten := [][]byte{}; ; {
				page := make([]byte, 1<<20)
				for i := 0; i < len(page); i += 1 << 10 {
					page[i] = 1
				}
				eaten = append(eaten, page)
			}
		case "freeze": // as soon as it is woken from a wait; before the open
			permits.Trace = func(step permits.Step) {
				if step == permits.Waking {
					permits.Trace = nil
					unix.Kill(os.Getpid(), unix.SIGSTOP)
					time.Sleep(10 * time.Millisecond) // another thread may be the first to stop
				}
			}
		case "die":
			unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		case "pid":
			answer = fmt.Sprint("ok ", os.Getpid())
		case "close":
			err = s.Close()
		default:
			return 9
		}
		var errno syscall.Errno
		switch {
		case err == nil:
			fmt.Println(answer)
		case errors.Is(err, fs.ErrNotExist):
			fmt.Println("ENOENT")
		case errors.Is(err, fs.ErrExist):
			fmt.Println("EEXIST")
		case errors.Is(err, fs.ErrPermission):
			fmt.Println("EACCES")
		case errors.Is(err, semaphore.ErrWouldBlock):
			fmt.Println("EAGAIN")
		case errors.As(err, &errno):
			fmt.Println(errno.Error())
		default:
			fmt.Println(err)
		}
	}
	return 0
}

// A witness tells how many are inside. A process holds a POSIX record lock on a
// file of its own while it is: taken after it got the permit, dropped before it
// gives that back, and at its death dropped by the kernel before anything that
// could let another one in. Who comes and who goes does so under the lock of a
// gate, so that the count is of one moment: without it one could be counted who
// leaves during the count, and with him the one who comes for him.
type witness struct {
	dir       string
	own, gate *os.File
}

func newWitness(dir string) *witness {
	file := func(name string) *os.File {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			panic(err)
		}
		return f
	}
	return &witness{dir, file(fmt.Sprint(os.Getpid())), file(".gate")}
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

// enter returns how many are inside, the caller among them.
func (w *witness) enter() int {
	recordLock(w.gate, unix.F_SETLKW, unix.F_WRLCK)
	defer recordLock(w.gate, unix.F_SETLK, unix.F_UNLCK)
	recordLock(w.own, unix.F_SETLK, unix.F_WRLCK)
	inside := 1
	paths, err := filepath.Glob(filepath.Join(w.dir, "[0-9]*"))
	if err != nil {
		panic(err)
	}
	for _, path := range paths {
		if path == w.own.Name() {
			continue // closing a second descriptor would unlock it
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			panic(err)
		}
		if recordLock(f, unix.F_GETLK, unix.F_WRLCK) != unix.F_UNLCK {
			inside++
		}
		f.Close()
	}
	return inside
}

func (w *witness) leave() {
	recordLock(w.gate, unix.F_SETLKW, unix.F_WRLCK)
	defer recordLock(w.gate, unix.F_SETLK, unix.F_UNLCK)
	recordLock(w.own, unix.F_SETLK, unix.F_UNLCK)
}
