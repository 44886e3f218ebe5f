//go:build unix || windows

// Actors: processes that a test drives over a pipe, a command a line. There is
// one in C, on Unix one in Python, and one in Go for each engine, and all
// understand the same commands.

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
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/procsem/semaphore"
)

type actor struct {
	t     testing.TB
	kind  string
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string
}

func startActor(t testing.TB, kind string, files ...*os.File) *actor {
	t.Helper()
	cmd := foreignActor(t, kind)
	if cmd == nil {
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

// A witness tells how many are inside. A process holds a record lock on a
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

// enter returns how many are inside, the caller among them.
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
