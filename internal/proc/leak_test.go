//go:build linux

package proc_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/shirou/gopsutil/v3/process"

	"github.com/procsem/semaphore"
)

var engines = []semaphore.Engine{semaphore.EngineAuto, semaphore.EngineLibc, semaphore.EngineNative, semaphore.EngineFlock, semaphore.EngineRecoverable}

// eachEngine runs f with a function that opens a semaphore. Only f may refer to the
// handle: a closed one that is still referred to keeps its memory.
func eachEngine(t *testing.T, f func(t *testing.T, open func() *semaphore.Semaphore)) {
	for _, e := range engines {
		t.Run(e.String(), func(t *testing.T) {
			name := fmt.Sprintf("leak%d.%v", os.Getpid(), e)
			t.Cleanup(func() {
				if err := semaphore.Unlink(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Error(err)
				}
			})
			f(t, func() *semaphore.Semaphore {
				t.Helper()
				s, err := semaphore.Open(name, semaphore.WithEngine(e))
				if errors.Is(err, semaphore.ErrUnsupported) {
					t.Skipf("not in this build: engine %v", e)
				}
				if err != nil {
					t.Fatal(err)
				}
				return s
			})
		})
	}
}

// usage counts what a process may leak.
type usage struct {
	Descriptors int
	Mappings    int
	Threads     int
}

// usageOf returns the usage of a process.
func usageOf(pid int) (usage, error) {
	p, err := process.NewProcess(int32(pid))
	if err != nil {
		return usage{}, err
	}
	fds, err := p.NumFDs()
	if err != nil {
		return usage{}, err
	}
	maps, err := p.MemoryMaps(false)
	if err != nil {
		return usage{}, err
	}
	threads, err := p.NumThreads()
	return usage{int(fds), len(*maps), int(threads)}, err
}

// mayMap is how many mappings there may be if those in use are as many as before, but for a few: a thread that libc has made,
// which Go keeps, has a stack with a guard, and memory of its own for malloc.
func (before usage) mayMap(now usage, few int) int {
	return before.Mappings + few + 4*max(0, now.Threads-before.Threads)
}

// settles waits until the usage is what it was before, except for a few mappings that the
// runtime may need.
func settles(t *testing.T, before usage) {
	t.Helper()
	const slack = 10
	var now usage
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		runtime.GC()
		var err error
		if now, err = usageOf(os.Getpid()); err != nil {
			t.Fatal(err)
		}
		if now.Descriptors <= before.Descriptors && now.Mappings <= before.mayMap(now, slack) {
			return
		}
	}
	t.Errorf("after: %+v, before: %+v", now, before)
}

func TestOpenAndCloseLeakNothing(t *testing.T) {
	eachEngine(t, func(t *testing.T, open func() *semaphore.Semaphore) {
		open().Close() // allocates what a process needs only once
		before, err := usageOf(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		for range 500 {
			a, b := open(), open()
			if err := a.Wait(); err != nil {
				t.Fatal(err)
			}
			if err := a.Post(); err != nil {
				t.Fatal(err)
			}
			p, err := b.TryAcquire()
			if err != nil {
				t.Fatal(err)
			}
			a.Close()
			b.Close()
			p.Release()
		}
		settles(t, before)
	})
}

func TestCancelledWaitersLeakNothing(t *testing.T) {
	eachEngine(t, func(t *testing.T, open func() *semaphore.Semaphore) {
		s := open()
		if err := s.Wait(); err != nil {
			t.Fatal(err)
		}
		goroutines := runtime.NumGoroutine()
		before, err := usageOf(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for i := range 20 {
			s := open()
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error)
			for range 50 {
				go func() { done <- s.WaitContext(ctx) }()
			}
			if i%2 == 0 {
				s.Close()
			}
			cancel()
			for range 50 {
				if err := <-done; err == nil {
					t.Fatal("a wait got the permit, which is taken")
				}
			}
			s.Close()
		}
		settles(t, before)
		for deadline := time.Now().Add(20 * time.Second); runtime.NumGoroutine() > goroutines; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), goroutines)
			}
		}
	})
}

// withoutCollector switches the garbage collector off, which otherwise runs when it likes.
func withoutCollector(t *testing.T) {
	percent := debug.SetGCPercent(-1)
	t.Cleanup(func() { debug.SetGCPercent(percent) })
	runtime.GC() // after one that was in progress
}

// The garbage collector unmaps the memory of closed handles. A program that opens and closes
// one semaphore has one mapping, also while it does not run.
func TestHandlesOfOneFileShareAMapping(t *testing.T) {
	eachEngine(t, func(t *testing.T, open func() *semaphore.Semaphore) {
		open().Close()
		withoutCollector(t)
		before, err := usageOf(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		collections := stats.NumGC
		var first, last *semaphore.Semaphore
		for i := range 5000 {
			s := open()
			if err := s.TryWait(); err != nil {
				t.Fatal(err)
			}
			if err := s.Post(); err != nil {
				t.Fatal(err)
			}
			switch i {
			case 0:
				first = s // stays open for a while
			case 4999:
				last = s
			default:
				s.Close()
			}
			if i == 1000 {
				first.Close()
			}
		}
		defer last.Close()
		now, err := usageOf(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		const slack = 20 // the heap grows
		if now.Mappings > before.mayMap(now, slack) {
			t.Errorf("after 5000 handles of one file: %+v, before: %+v", now, before)
		}
		runtime.ReadMemStats(&stats)
		if n := stats.NumGC - collections; n > 0 {
			t.Errorf("the garbage collector was made to run %d times", n)
		}
	})
}

// A file that was made anew is none that is mapped still, also if its inode's number is that
// of the one that was removed.
func TestRecreatedFileIsMappedAnew(t *testing.T) {
	t.Setenv("SEMAPHORE_DIR", t.TempDir())
	eachEngine(t, func(t *testing.T, open func() *semaphore.Semaphore) {
		withoutCollector(t)
		for range 100 {
			s := open()
			if n, err := s.Value(); n != 1 || err != nil {
				t.Fatalf("a new semaphore has the value %d, %v; want 1", n, err)
			}
			if err := s.TryWait(); err != nil {
				t.Fatal(err)
			}
			again := open()
			if n, err := again.Value(); n != 0 || err != nil {
				t.Fatalf("a second handle says %d, %v; want 0", n, err)
			}
			if err := s.Unlink(); err != nil {
				t.Fatal(err)
			}
			s.Close()
			again.Close()
		}
	})
}
