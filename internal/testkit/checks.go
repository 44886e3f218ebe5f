//go:build unix || windows

package testkit

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/testhook"
)

var names atomic.Int64

// UniqueName returns a name of this process and test, gone when the test ends.
func UniqueName(t testing.TB) string {
	name := fmt.Sprintf("%s%d", NamePrefix(), names.Add(1))
	t.Cleanup(func() { unlinkIfThere(t, name) })
	return name
}

func unlinkIfThere(t testing.TB, name string) {
	if err := semaphore.Unlink(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// direct returns the path of a directory without symbolic links, as messages about it have it.
func direct(t testing.TB, dir string) string {
	t.Helper()
	path, err := filepath.EvalSymlinks(dir)
	Must(t, err)
	return path
}

// NamePrefix returns what the names of this process's semaphores begin with.
func NamePrefix() string { return fmt.Sprintf(namePrefix, os.Getpid()) }

const namePrefix = "semtest%d."

// Open opens a semaphore of an engine, until the test ends.
func Open(t testing.TB, name string, e semaphore.Engine, opts ...semaphore.Option) *semaphore.Semaphore {
	t.Helper()
	s, err := semaphore.Open(name, append([]semaphore.Option{semaphore.WithEngine(e)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	held := s
	t.Cleanup(func() {
		held.Close()
		held = nil // its memory can go
	})
	return s
}

// WantErr fails the test if err is not want.
func WantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

// Must ends the test if there is an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Hang is how long something that should come at once may take on a busy
// machine.
var Hang = 20 * time.Second

func init() {
	flag.DurationVar(&Hang, "hang", Hang, "how long what should come at once may take")
}

// WaitFor ends the test if cond does not come true.
func WaitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(Hang); !cond(); time.Sleep(200 * time.Microsecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not after %v", what, Hang)
		}
	}
}

// Becomes waits for a value, and fails the test if it does not come.
//
// EngineLibc may take a permit for a wait that was cancelled, and hold it for a moment
// before it gives it back.
func Becomes(t testing.TB, s *semaphore.Semaphore, want int) {
	t.Helper()
	got := -1
	defer func() {
		if got != want {
			t.Errorf("value %d, want %d", got, want)
		}
	}()
	WaitFor(t, fmt.Sprint("value ", want), func() bool {
		var err error
		got, err = s.Value()
		if errors.Is(err, semaphore.ErrUnsupported) {
			got, err = countByTaking(t, s), nil
		}
		Must(t, err)
		return got == want
	})
}

// countByTaking is Value for systems that do not report the value.
func countByTaking(t testing.TB, s *semaphore.Semaphore) int {
	n := 0
	for s.TryWait() == nil {
		n++
	}
	for range n {
		Must(t, s.Post())
	}
	return n
}

// Result returns what comes from c, and ends the test if nothing comes.
func Result(t testing.TB, c <-chan error) error {
	t.Helper()
	select {
	case err := <-c:
		return err
	case <-time.After(Hang):
		t.Fatalf("no result after %v", Hang)
		return nil
	}
}

// InBackground calls f in a goroutine, and returns the channel that gets its result.
func InBackground(f func() error) <-chan error {
	c := make(chan error, 1)
	go func() { c <- f() }()
	return c
}

// Blocked starts f and returns when it waits in s's queue.
func Blocked(t testing.TB, s *semaphore.Semaphore, f func() error) <-chan error {
	t.Helper()
	before := testhook.Inspect(s).Waiting
	c := InBackground(f)
	WaitFor(t, "a blocked waiter", func() bool { return testhook.Inspect(s).Waiting > before })
	return c
}

// A SyncBuffer is a buffer that goroutines may share.
type SyncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends to the buffer.
func (b *SyncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String returns what was written.
func (b *SyncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Times is how often a test repeats something that starts processes: a tenth with
// -short, for emulators and machines on which that takes long.
func Times(n int) int {
	if testing.Short() {
		return max(1, n/10)
	}
	return n
}

// Missing skips a test that lacks a tool or a privilege. In CI, as root or on Windows,
// it fails the test.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" && os.Geteuid() <= 0 {
		t.Fatalf("missing: %s", what)
	}
	t.Skipf("missing: %s", what)
}
