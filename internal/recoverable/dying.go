//go:build (linux || windows) && !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package recoverable

import (
	"slices"
	"time"

	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/testhook"
)

// A dying remembers since when the locks of dying owners are known to be held: owners
// whose exit was reported, while their lock is still there. A process's lock goes when
// its last thread is gone and its memory was freed, some milliseconds after its first
// thread; so the server looks at intervals that grow with the time that this takes, for
// a while, if no other waiter does. A lock that is still held then belongs to a program that the
// process became by exec, or to a child: it may last, and the safety net's look will do.
type dying struct {
	known []dyingSince
}

type dyingSince struct {
	permits.DyingOwner
	since time.Time
}

const (
	dyingWatch   = 10 * time.Second
	dyingDivisor = 16 // of the time since, for a pause
	dyingPause   = 20 * time.Microsecond
)

// look goes through the dying owners of a scan. It returns how long to sleep at most before the next look, 0 for
// no limit: then none is dying, or others look. If the server was the lookout of one that is not dying any more it
// reports that it has to look again before it sleeps.
func (d *dying) look(of *permits.Owner, found *permits.Findings) (pause time.Duration, again bool) {
	if len(found.Dying) == 0 && len(d.known) == 0 {
		return 0, false
	}
	now := time.Now()
	var known []dyingSince
	for _, o := range found.Dying {
		known = append(known, dyingSince{o, d.since(o, now)})
	}
	for _, k := range d.known {
		switch {
		case slices.Contains(found.Dying, k.DyingOwner):
		case found.Err != nil: // it may be one whose lock could not be asked for
			known = append(known, k)
		default:
			again = of.LookOutNoMore(k.DyingOwner) || again
		}
	}
	d.known = known
	if again {
		return 0, true
	}
	for _, k := range known {
		if age := now.Sub(k.since); watched(age) {
			next := max(age/dyingDivisor, dyingPause)
			if of.LookOut(k.DyingOwner, next, found) && (pause == 0 || next < pause) {
				pause = next
			}
		}
	}
	return pause, false
}

// watched reports whether somebody looks often at an owner that has been known to be dying for so long.
func watched(age time.Duration) bool { return age < dyingWatch || testhook.Patient.Load() }

// leave is called before the server is uncounted, as it calls nobody when it leaves if no other waiter is
// counted then. One that is counted later finds that there is no lookout.
func (d *dying) leave(of *permits.Owner) {
	for _, k := range d.known {
		of.LookOutNoMore(k.DyingOwner)
	}
}

// since returns since when a dying owner is known, now if it is not.
func (d *dying) since(o permits.DyingOwner, now time.Time) time.Time {
	for _, k := range d.known {
		if k.DyingOwner == o {
			return k.since
		}
	}
	return now
}

// recent reports whether somebody has to look often at one of the owners.
func (d *dying) recent(owners []permits.DyingOwner) bool {
	now := time.Now()
	for _, o := range owners {
		if watched(now.Sub(d.since(o, now))) {
			return true
		}
	}
	return false
}
