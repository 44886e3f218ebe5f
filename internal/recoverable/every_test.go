//go:build ((unix && !aix && !filelock_fcntl) || windows) && !mips && !mipsle && (!arm || arm.7)

package recoverable_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
	. "github.com/procsem/semaphore/internal/testkit"
)

// Of many handles that want to start at the same time one does, and others hear for how long they have to wait.
func TestStartEveryOfMany(t *testing.T) {
	const handles = 4
	var wg sync.WaitGroup
	for range Times(200) {
		name := UniqueName(t)
		var all []*semaphore.Semaphore
		for range handles {
			s, err := semaphore.Open(name, semaphore.WithRecovery(true))
			Must(t, err)
			all = append(all, s)
		}
		var starts atomic.Int64
		ready := make(chan struct{})
		for _, s := range all {
			wg.Go(func() {
				<-ready
				left, err := engine.StartEvery(s, time.Hour, true)
				if err != nil {
					t.Error(err)
				}
				if left == 0 {
					starts.Add(1)
				} else if left > time.Hour || left < 50*time.Minute {
					t.Errorf("%v are left of an hour", left)
				}
			})
		}
		close(ready)
		wg.Wait()
		for _, s := range all {
			Must(t, s.Close())
		}
		if n := starts.Load(); n != 1 {
			t.Fatalf("%d starts in an hour, want one", n)
		}
	}
}

func TestStartEveryErrors(t *testing.T) {
	s := Open(t, UniqueName(t), Recoverable)
	Must(t, s.Close())
	_, err := engine.StartEvery(s, time.Hour, true)
	WantErr(t, "StartEvery of a closed handle", err, semaphore.ErrClosed)
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		if Owns(e) {
			return
		}
		_, err := engine.StartEvery(Open(t, UniqueName(t), e), time.Hour, true)
		WantErr(t, "StartEvery", err, semaphore.ErrUnsupported)
	})
}
