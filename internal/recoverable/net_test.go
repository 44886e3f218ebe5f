//go:build (linux || windows) && !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package recoverable

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/permits"
)

// When a waiter looks by itself that relies on nobody: after a second, whatever the number
// of waiters is.
func TestNextLookOfOneThatReliesOnNobody(t *testing.T) {
	now := time.Now()
	for _, others := range []int{0, 1, 7, 100, permits.MaxSlots - 1} {
		for what, tt := range map[string]struct {
			found permits.Findings
			hears bool
		}{
			"it does not hear of exits":           {permits.Findings{Others: others}, false},
			"an exit of which nobody hears":       {permits.Findings{Others: others, Unheard: true}, true},
			"few others":                          {permits.Findings{Others: min(others, 3)}, true},
			"few others, and it hears of nothing": {permits.Findings{Others: min(others, 3)}, false},
		} {
			if got := nextLook(now, time.Time{}, tt.found, tt.hears).Sub(now); got != engine.SafetyNet {
				t.Errorf("%s, %d others: looks after %v, want %v", what, tt.found.Others, got, engine.SafetyNet)
			}
		}
	}
}

// A waiter that has noticed an exit looks within half a second, and not later than it
// would have looked otherwise.
func TestNextLookAfterAnExit(t *testing.T) {
	now := time.Now()
	for _, others := range []int{0, 7, 100, permits.MaxSlots - 1} {
		for _, ago := range []time.Duration{0, time.Second / 4, time.Second, time.Minute} {
			found := permits.Findings{Others: others, Before: others / 2}
			looked := now.Add(-ago)
			want := nextLook(looked, time.Time{}, found, true)
			if soon := now.Add(afterExit); soon.Before(want) {
				want = soon
			}
			if got := nextLook(looked, now, found, true); !got.Equal(want) {
				t.Errorf("%d others, last look %v ago: looks after %v, want %v", others, ago, got.Sub(now), want.Sub(now))
			}
		}
	}
}

// However many wait, one of them looks several times a second, and together they do not
// look often.
func TestNetIsShared(t *testing.T) {
	random := rand.New(rand.NewPCG(14, 5))
	for _, n := range []int{5, 8, 12, 40, 100, 1000, permits.MaxSlots} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			begin := time.Now().Add(netLongest) // when all have found their moments
			const during = 3 * netLongest
			var looks []time.Duration
			for i := range n {
				looked := begin.Add(-netLongest - time.Duration(random.Int64N(int64(time.Second))))
				for looked.Sub(begin) < during {
					next := nextLook(looked, time.Time{}, permits.Findings{Others: n - 1, Before: i}, true)
					// It wakes up a little before, and late on a busy machine.
					now := next.Add(-engine.NetDoubt + time.Duration(random.Int64N(int64(15*time.Millisecond))))
					if pause := now.Sub(looked); pause <= 0 || pause > netLongest+3*engine.NetDoubt {
						t.Fatalf("waiter %d pauses for %v", i, pause)
					}
					if looked = now; !looked.Before(begin) && looked.Sub(begin) < during {
						looks = append(looks, looked.Sub(begin))
					}
				}
			}
			slices.Sort(looks)
			gap := looks[0]
			for i, at := range looks[1:] {
				gap = max(gap, at-looks[i])
			}
			if gap > netShared+2*engine.NetDoubt {
				t.Errorf("nobody looks for %v", gap)
			}
			rate := float64(len(looks)) / during.Seconds()
			if most := max(4, float64(n)/netLongest.Seconds()) * 1.1; rate > most {
				t.Errorf("%.1f looks a second, want at most %.1f", rate, most)
			}
		})
	}
}
