//go:build unix || windows

// Package testkit is what the tests of several packages share: actors (processes that a
// test drives), helper processes, the rows of the conformance table, and what differs
// between systems. It knows package semaphore's API and internal/testhook, and is imported
// by external test packages, which call Main from TestMain.
package testkit

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
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/procsem/semaphore"
)

// An Actor is a process that a test drives over a pipe, a command a line. There is one in
// C, on Unix one in Python, and one in Go for each engine, and all understand the same
// commands.
type Actor struct {
	Kind  string
	Cmd   *exec.Cmd
	In    io.WriteCloser
	Lines chan string // that it prints

	t testing.TB
}

// StartActor starts the actor of a kind: "C", "musl C", "Python", or the name of an engine.
func StartActor(t testing.TB, kind string, files ...*os.File) *Actor {
	t.Helper()
	cmd := foreignActor(t, kind)
	if cmd == nil {
		cmd = Helper(t, "actor", kind)
	}
	cmd.ExtraFiles = files
	return StartActorCommand(t, kind, cmd)
}

// StartActorCommand starts an actor with the given command.
func StartActorCommand(t testing.TB, kind string, cmd *exec.Cmd) *Actor {
	t.Helper()
	in, err := cmd.StdinPipe()
	Must(t, err)
	out, err := cmd.StdoutPipe()
	Must(t, err)
	cmd.Stderr = os.Stderr
	Must(t, cmd.Start())
	a := &Actor{t: t, Kind: kind, Cmd: cmd, In: in, Lines: make(chan string)}
	ended := make(chan struct{})
	go func() {
		defer close(a.Lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			select {
			case a.Lines <- s.Text():
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

// Send sends a command.
func (a *Actor) Send(format string, args ...any) {
	a.t.Helper()
	if _, err := fmt.Fprintf(a.In, format+"\n", args...); err != nil {
		a.t.Fatalf("%s actor: %v", a.Kind, err)
	}
}

// Answer returns the next line that the actor prints.
func (a *Actor) Answer() string {
	a.t.Helper()
	select {
	case line, open := <-a.Lines:
		if !open {
			a.t.Fatalf("%s actor died", a.Kind)
		}
		return line
	case <-time.After(2 * Hang):
		a.t.Fatalf("%s actor: no answer after %v", a.Kind, 2*Hang)
		return ""
	}
}

// Expect sends a command, and ends the test unless the answer is want.
func (a *Actor) Expect(want, format string, args ...any) {
	a.t.Helper()
	a.Send(format, args...)
	if got := a.Answer(); got != want {
		a.t.Fatalf("%s actor, %s: got %q, want %q", a.Kind, fmt.Sprintf(format, args...), got, want)
	}
}

// OK sends a command and wants the answer "ok".
func (a *Actor) OK(format string, args ...any) {
	a.t.Helper()
	a.Expect("ok", format, args...)
}

// ActorMain is the helper "actor", the actor in Go, whose argument is the engine.
func ActorMain(args []string) int {
	var engine semaphore.Engine
	for engine = semaphore.EngineAuto; engine.String() != args[0]; engine++ {
	}
	var s *semaphore.Semaphore
	var witness *witness
	var permit *semaphore.Permit
	var where []semaphore.Option // create and open it
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		f := strings.Fields(lines.Text())
		number := func(i int) (n int) { fmt.Sscan(f[i], &n); return n }
		var err error
		answer := "ok"
		switch f[0] {
		case "dir":
			where = []semaphore.Option{semaphore.WithDir(strings.Join(f[1:], " "))}
		case "chdir":
			err = os.Chdir(strings.Join(f[1:], " "))
		case "create":
			s, err = semaphore.Open(f[1], append(where, semaphore.WithEngine(engine), semaphore.WithExclusive(true), semaphore.WithValue(number(2)))...)
		case "open":
			label := strings.Join(f[2:], " ")
			s, err = semaphore.Open(f[1], append(where, semaphore.WithEngine(engine), semaphore.WithCreate(false), semaphore.WithLabel(label))...)
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
		case "waitcontext":
			ctx, cancel := context.WithTimeout(context.Background(), 2*Hang)
			err = s.WaitContext(ctx)
			cancel()
		case "posts":
			for range number(1) {
				err = errors.Join(err, s.Post())
			}
		case "acquire":
			if permit, err = s.AcquireN(context.Background(), number(1)); err == nil {
				answer = fmt.Sprint("ok ", permit.Slots())
			}
		case "release":
			err = permit.Release()
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
		case "pid":
			answer = fmt.Sprint("ok ", os.Getpid())
		case "close":
			err = s.Close()
		default:
			var known bool
			if answer, err, known = platformCommand(s, f); !known {
				return 9
			}
		}
		var errno syscall.Errno
		switch {
		case err == nil:
			fmt.Println(answer)
		case errors.Is(err, fs.ErrNotExist):
			fmt.Println("ENOENT")
		case errors.Is(err, fs.ErrExist):
			fmt.Println("EEXIST")
		case errors.Is(err, syscall.EPERM):
			fmt.Println("EPERM")
		case errors.Is(err, semaphore.ErrKindMismatch):
			fmt.Println("mismatch")
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

// A witness counts the processes that are inside. A process holds a record lock on a
// file of its own while it is inside: it takes the lock after it got the permit, and
// drops it before it gives the permit back; when the process dies, the kernel drops
// the lock before anything that could let another process in. Processes enter and
// leave under the lock of a gate, so that the count is of one moment: without the gate
// it could include a process that leaves during the count as well as the process that
// enters in its stead.
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

// enter returns how many processes are inside, including this one.
func (w *witness) enter() int {
	lockRecord(w.gate)
	defer unlockRecord(w.gate)
	lockRecord(w.own)
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
		if recordIsLocked(f) {
			inside++
		}
		f.Close()
	}
	return inside
}

func (w *witness) leave() {
	lockRecord(w.gate)
	defer unlockRecord(w.gate)
	unlockRecord(w.own)
}
