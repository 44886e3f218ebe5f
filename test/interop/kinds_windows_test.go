package interop_test

import (
	"fmt"
	"testing"

	"github.com/procsem/semaphore"
	. "github.com/procsem/semaphore/internal/testkit"
)

// Two kinds of one name exclude each other, also when they race.
func TestRecoverableBesideWindows(t *testing.T) {
	UseHelper("create")
	for _, kinds := range [][2]semaphore.Engine{{semaphore.EngineWindows, Recoverable}, {Recoverable, semaphore.EngineWindows}} {
		name := UniqueName(t)
		s := Open(t, name, kinds[0])
		for _, opts := range [][]semaphore.Option{nil, {semaphore.WithExclusive(true)}} {
			_, err := semaphore.Open(name, append(opts, semaphore.WithEngine(kinds[1]))...)
			WantErr(t, fmt.Sprint("Open as ", kinds[1]), err, semaphore.ErrKindMismatch)
		}
		Must(t, s.Close())
	}
	for range 5 {
		got := Race(t, UniqueName(t), false, []semaphore.Engine{semaphore.EngineWindows, Recoverable, semaphore.EngineWindows, Recoverable})
		if got["won"] != 2 || got["mismatch"] != 2 || got["windows"] != 0 && got["recoverable"] != 0 {
			t.Errorf("got %v, want two winners of one kind", got)
		}
	}
}
