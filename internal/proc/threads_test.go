//go:build linux && !race && (amd64 || arm64 || ppc64le || riscv64 || s390x)

// Not with the race detector, which ends a program of more than 8,128 goroutines, nor where
// so many threads have no room.

package proc_test

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/procsem/semaphore"
)

// Go's runtime ends a program of 10,000 threads. A program learns before that that too
// many of its handles wait.
func TestManyHandlesThatWait(t *testing.T) {
	const most, more = 5000, 10
	name := fmt.Sprintf("leak%d.threads", os.Getpid())
	open := func(opts ...semaphore.Option) *semaphore.Semaphore {
		s, err := semaphore.Open(name, append(opts, semaphore.WithEngine(semaphore.EngineNative), semaphore.WithValue(0))...)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := open()
	defer first.Unlink()
	defer first.Close()
	var handles []*semaphore.Semaphore
	ended := make(chan error, most+more)
	for range most + more {
		s := open(semaphore.WithCreate(false))
		handles = append(handles, s)
		go func() { ended <- s.Wait() }()
	}
	expect := func(n int, want error) {
		t.Helper()
		deadline := time.After(2 * time.Minute)
		for i := range n {
			select {
			case err := <-ended:
				if !errors.Is(err, want) {
					t.Fatalf("a wait ended with %v, want %v", err, want)
				}
			case <-deadline:
				t.Fatalf("%d waits have ended, want %d", i, n)
			}
		}
	}
	expect(more, semaphore.ErrTooManyWaiters)
	for _, s := range handles {
		s.Close()
	}
	expect(most, semaphore.ErrClosed)
}
