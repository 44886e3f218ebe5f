//go:build (linux || windows) && !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package semaphore

import (
	"math/rand/v2"
	"time"

	"github.com/procsem/semaphore/internal/permits"
)

// What waiters do beside sleeping until they are woken.

// netPause is how long one of so many waiters sleeps before it looks by itself. What
// one finds it tells the others, so they need not all look once a second: some
// do, at random, several times a second together.
func netPause(waiters int) time.Duration {
	pause := min(safetyNet*time.Duration(max(1, waiters/4)), 10*safetyNet)
	if pause > safetyNet {
		pause = pause/2 + rand.N(pause/2)
	}
	return pause
}

// deaths remembers since when the lock of those was held who were told dead. A
// process's lock goes when its last thread is gone and its memory was freed, some
// milliseconds after its first thread; so we look at intervals that grow with the
// time that it takes, for a while. If it is still held then, it is that of a program
// that the dead one became by exec, or of a child: it may last, and the safety net's
// look will do.
type deaths struct {
	known []death
}

type death struct {
	permits.DyingOwner
	since time.Time
}

const (
	deathWatch  = 10 * time.Second
	deathPauses = 16 // by which the time since is divided for a pause
	deathPause  = 20 * time.Microsecond
)

// pause returns how long to sleep before the next look, 0 for no limit.
func (d *deaths) pause(dying []permits.DyingOwner) (pause time.Duration) {
	if len(dying) == 0 && len(d.known) == 0 {
		return 0
	}
	now := time.Now()
	var known []death
	for _, m := range dying {
		since := d.since(m, now)
		known = append(known, death{m, since})
		if age := now.Sub(since); age < deathWatch {
			next := max(age/deathPauses, deathPause)
			if pause == 0 || next < pause {
				pause = next
			}
		}
	}
	d.known = known
	return pause
}

// since returns since when a mortal is known, now if it is not.
func (d *deaths) since(m permits.DyingOwner, now time.Time) time.Time {
	for _, k := range d.known {
		if k.DyingOwner == m {
			return k.since
		}
	}
	return now
}

// recent reports whether some of them are looked at often.
func (d *deaths) recent(dying []permits.DyingOwner) bool {
	now := time.Now()
	for _, m := range dying {
		if now.Sub(d.since(m, now)) < deathWatch {
			return true
		}
	}
	return false
}
