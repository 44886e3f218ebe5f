package engine

import (
	"testing"
	"time"
)

// A process that is stopped for longer than its patience has not tried for that long.
func TestRetryAfterAStop(t *testing.T) {
	const patience, most = 10 * time.Millisecond, 100 * time.Microsecond
	calls := 0
	done, err := Retry(patience, most, most, func() (bool, error) {
		calls++
		if calls == 1 {
			time.Sleep(2 * patience) // as if it were stopped
		}
		return false, nil
	})
	if done || err != nil || calls < 2 {
		t.Errorf("%v, %v after %d calls; want it to give up, but not at the first one", done, err, calls)
	}
}
