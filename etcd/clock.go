package etcd

import (
	"sync"
	"time"
)

// A lease that a holder has is over when the time by its own clock says so. What others may do after a lost holder's time waits
// for the time by theirs. The first must not be late, the second not early, also if a machine was suspended or its clock was set.

var started = time.Now()

// latest returns a time that is not less than what has passed since the program started.
func latest() time.Duration {
	if t, ok := sinceBoot(); ok {
		return t
	}
	return passed.now()
}

// passed is the time of systems without a clock that runs on while the machine is suspended. Of two readings the greater difference counts:
// the one clock stands still meanwhile, and the other may be set, back too.
var passed = elapsed{last: started}

type elapsed struct {
	mu   sync.Mutex
	last time.Time
	sum  time.Duration
}

func (e *elapsed) now() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	e.sum += max(now.Sub(e.last), now.Round(0).Sub(e.last.Round(0)), 0)
	e.last = now
	return e.sum
}

// least returns a time of which no more passes than really does.
func least() time.Duration {
	if t, ok := sinceBoot(); ok {
		return t
	}
	return time.Since(started)
}

// thisMachine names the machine, since it was started last, whose programs have one sinceBoot; "" if it is not known.
var thisMachine = sync.OnceValue(machineSinceBoot)
