//go:build !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package recoverable

import (
	"time"

	"github.com/procsem/semaphore/internal/futex"
	"github.com/procsem/semaphore/internal/permits"
)

// SleepOn sleeps on the words as the server of a handle does whose scan has found that, and whose
// next look is that far away.
// It reports whether it slept until then.
func SleepOn(backend any, words []futex.Word, next time.Duration, found permits.Findings) (looks bool) {
	h := backend.(*handle)
	s := server{handle: h, sleep: sleep{h: h}, found: found}
	s.sleep.n = copy(s.sleep.words[:], words)
	for end := time.Now().Add(next); ; {
		if w, due := s.sleepUntil(0, end); due || w.err == nil { // or interrupted
			return due
		}
	}
}

var HasLostName = hasLostName
