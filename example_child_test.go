//go:build unix && !aix && !filelock_fcntl

package semaphore_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/testhook"
	. "github.com/procsem/semaphore/internal/testkit"
)

// A parent hands data to a child through a file that both have mapped, and a
// semaphore lets the child go on when the data is there. The child is this program
// again; see childMain in the source.
func Example_parentAndChild() {
	dir, err := os.MkdirTemp("", "semaphore-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err != nil {
		log.Fatal(err)
	}
	name := filepath.Base(dir)
	child := exec.Command(self, name, filepath.Join(dir, "shared"))
	child.Env = append(os.Environ(), "SEMAPHORE_TEST_HELPER=child")
	if err := parent(name, filepath.Join(dir, "shared"), child, os.Stdout); err != nil {
		log.Fatal(err)
	}
	// Output:
	// the child read: hi there :)
	// the child ended: signal: interrupt
}

// parent holds the semaphore, starts the child, writes, posts, and ends the
// child after a second.
func parent(name, path string, child *exec.Cmd, out io.Writer) error {
	s, err := semaphore.OpenLimit(name, 1, semaphore.WithExclusive(true))
	if err != nil {
		return err
	}
	defer s.Unlink()
	defer s.Close()
	if err := s.Wait(); err != nil {
		return err
	}
	shared, err := mapShared(path)
	if err != nil {
		return err
	}
	defer unix.Munmap(shared)

	stdout, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	copy(shared, "hi there :)")
	if err := s.Post(); err != nil {
		return err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return err
	}
	fmt.Fprint(out, "the child read: ", line)
	time.Sleep(time.Second)
	if err := child.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	fmt.Fprintln(out, "the child ended:", child.Wait())
	return nil
}

// A wrapper runs a command with a permit. The command inherits the lock file, so that if the wrapper is killed alone
// the permit stays taken for as long as the command runs.
func ExampleSemaphore_LockFile() {
	s, err := semaphore.OpenLimit("example-lock-file", 1)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Unlink()
	defer s.Close()
	p, err := s.Acquire(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer p.Release() // also if the command has left processes behind that have the file

	lock, err := s.LockFile()
	if err != nil {
		log.Fatal(err)
	}
	command := exec.Command("echo", "with a permit")
	command.Stdout = os.Stdout
	command.ExtraFiles = []*os.File{lock}
	err = command.Start()
	lock.Close() // the command has its own
	if err == nil {
		err = command.Wait()
	}
	if err != nil {
		log.Fatal(err)
	}
	// Output: with a permit
}

func init() { helpers["child"] = childMain }

// childMain waits until the parent has written, prints what it reads, and works until a
// signal ends it. What it holds comes back then.
func childMain(args []string) int {
	s, err := semaphore.OpenLimit(args[0], 1, semaphore.WithCreate(false))
	if err != nil {
		log.Fatal(err)
	}
	shared, err := mapShared(args[1])
	if err != nil {
		log.Fatal(err)
	}
	if err := s.Wait(); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", bytes.TrimRight(shared, "\x00"))
	select {}
}

func mapShared(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(4096); err != nil {
		return nil, err
	}
	return unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

// The example once more, and a look at the semaphore afterwards: the child gave its
// permit back.
func TestParentAndChild(t *testing.T) {
	name := UniqueName(t)
	path := filepath.Join(t.TempDir(), "shared")
	child := Helper(t, "child", name, path)
	out := &openingWriter{t: t, name: name}
	Must(t, parent(name, path, child, out))
	if want := "the child read: hi there :)\nthe child ended: signal: interrupt\n"; out.String() != want {
		t.Errorf("got %q, want %q", out, want)
	}
	status := child.ProcessState.Sys().(syscall.WaitStatus)
	if !status.Signaled() || status.Signal() != syscall.SIGINT {
		t.Errorf("%v, want it to die of SIGINT", child.ProcessState)
	}
	Becomes(t, out.s, 1)
}

// An openingWriter opens a semaphore at the first Write: parent has unlinked it when it returns.
type openingWriter struct {
	strings.Builder
	t    *testing.T
	name string
	s    *semaphore.Semaphore
}

func (w *openingWriter) Write(b []byte) (int, error) {
	if w.s == nil {
		var err error
		w.s, err = semaphore.OpenLimit(w.name, 1, semaphore.WithCreate(false))
		Must(w.t, err)
		w.t.Cleanup(func() { w.s.Close() })
	}
	return w.Builder.Write(b)
}

// Ctrl-C ends a Wait, and nothing else: the program goes on.
func ExampleWithRetryOnEINTR() {
	s, err := semaphore.Open("example-interrupt", semaphore.WithValue(0), semaphore.WithRetryOnEINTR(false, os.Interrupt))
	if err != nil {
		log.Fatal(err)
	}
	defer s.Unlink()
	defer s.Close()

	go pressCtrlC(s) // somebody does, while the program waits
	if err := s.Wait(); errors.Is(err, semaphore.ErrInterrupted) {
		fmt.Println("interrupted: no permit")
	}
	// Output: interrupted: no permit
}

// Waiters of EngineFlock try again and again. A program that shares its processor with many others may choose longer pauses
// than the 20 ms that they have at most, and a number of tries after which it gives up.
func ExampleWithBackoff() {
	backoff := func() func(attempt int) time.Duration { // one for each Wait
		return func(attempt int) time.Duration {
			if attempt == 3 {
				return -1
			}
			return time.Duration(attempt) * time.Millisecond
		}
	}
	s, err := semaphore.Open("example-backoff", semaphore.WithValue(0), semaphore.WithEngine(semaphore.EngineFlock), semaphore.WithBackoff(backoff))
	if err != nil {
		log.Fatal(err)
	}
	defer s.Unlink()
	defer s.Close()
	if err := s.Wait(); errors.Is(err, semaphore.ErrTimeout) {
		fmt.Println("no permit in three tries")
	}
	// Output: no permit in three tries
}

// pressCtrlC sends this process SIGINT as soon as it waits. (A second one could come after
// the handle was closed, and end the process.)
func pressCtrlC(s *semaphore.Semaphore) {
	for testhook.Inspect(s).Waiting == 0 {
		runtime.Gosched()
	}
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Signal(os.Interrupt)
	}
	if err != nil {
		log.Fatal(err)
	}
}
