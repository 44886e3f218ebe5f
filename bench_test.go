//go:build unix || windows

package semaphore_test

import (
	"context"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/testhook"
	. "github.com/procsem/semaphore/internal/testkit"
)

func benchEngines(b *testing.B, f func(b *testing.B, e semaphore.Engine)) {
	for _, row := range Rows {
		if HasEngine(row.Engine) && row.Before == nil {
			b.Run(row.Name, func(b *testing.B) { f(b, row.Engine) })
		}
	}
}

func BenchmarkWaitPost(b *testing.B) {
	benchEngines(b, func(b *testing.B, e semaphore.Engine) {
		s := Open(b, UniqueName(b), e)
		b.ReportAllocs()
		for b.Loop() {
			if s.Wait() != nil || s.Post() != nil {
				b.Fatal("failed")
			}
		}
	})
}

// 10,000 goroutines wait on one handle and are cancelled, all at once. The
// benchmark reports how many threads the process has while they wait, and how
// long it takes until all have returned.
func BenchmarkWaiters10000(b *testing.B) {
	const waiters = 10_000
	benchEngines(b, func(b *testing.B, e semaphore.Engine) {
		s := Open(b, UniqueName(b), e)
		Must(b, s.Wait())
		goroutines := runtime.NumGoroutine()
		var threads int
		var cancelling time.Duration
		for b.Loop() {
			ctx, cancel := context.WithCancel(context.Background())
			errs := make(chan error, waiters)
			for range waiters {
				go func() { errs <- s.WaitContext(ctx) }()
			}
			WaitFor(b, "all in the queue", func() bool { return testhook.Inspect(s).Waiting == waiters })
			if tasks, err := os.ReadDir("/proc/self/task"); err == nil {
				threads = max(threads, len(tasks))
			}
			start := time.Now()
			cancel()
			for range waiters {
				if err := <-errs; err != context.Canceled {
					b.Fatal(err)
				}
			}
			cancelling += time.Since(start)
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(float64(threads), "threads")
		b.ReportMetric(cancelling.Seconds()*1000/float64(b.N), "ms/cancel")
		WaitFor(b, "all gone", func() bool { return runtime.NumGoroutine() <= goroutines })
	})
}

// TryWait and TryAcquire while another handle holds the only permit.
func BenchmarkInVain(b *testing.B) {
	benchEngines(b, func(b *testing.B, e semaphore.Engine) {
		name := UniqueName(b)
		Must(b, Open(b, name, e).Wait())
		s := Open(b, name, e)
		for what, try := range map[string]func() error{
			"TryWait":    s.TryWait,
			"TryAcquire": func() error { _, err := s.TryAcquire(); return err },
		} {
			b.Run(what, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if try() == nil {
						b.Fatal("a permit")
					}
				}
			})
		}
	})
}

func BenchmarkAcquireRelease(b *testing.B) {
	benchEngines(b, func(b *testing.B, e semaphore.Engine) {
		s := Open(b, UniqueName(b), e)
		b.ReportAllocs()
		for b.Loop() {
			p, err := s.Acquire(b.Context())
			if err != nil || p.Release() != nil {
				b.Fatal("failed")
			}
		}
	})
}
