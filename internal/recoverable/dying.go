//go:build (linux || windows) && !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package recoverable

import (
	"slices"
	"time"

	"github.com/procsem/semaphore/internal/permits"
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

// pause returns how long to sleep before the next look, 0 for no limit: then no owner is dying, or
// others look. of is the owner that looks.
func (d *dying) pause(of *permits.Owner, owners []permits.DyingOwner) (pause time.Duration) {
	if len(owners) == 0 {
		return 0
	}
	now := time.Now()
	var known []dyingSince
	for _, o := range owners {
		since := d.since(o, now)
		known = append(known, dyingSince{o, since})
		if age := now.Sub(since); age < dyingWatch {
			next := max(age/dyingDivisor, dyingPause)
			if of.LookOut(o, next) && (pause == 0 || next < pause) {
				pause = next
			}
		}
	}
	d.known = known
	return pause
}

// leave is called before the server leaves the line and calls another waiter.
func (d *dying) leave(of *permits.Owner) {
	for _, k := range d.known {
		of.LookOutNoMore(k.DyingOwner)
	}
}

// only forgets all that are not among these owners, for which nobody has to look out any more. It reports
// whether the server was the lookout of one: then it has to look again before it sleeps.
func (d *dying) only(of *permits.Owner, owners []permits.DyingOwner) (again bool) {
	d.known = slices.DeleteFunc(d.known, func(k dyingSince) bool {
		if slices.Contains(owners, k.DyingOwner) {
			return false
		}
		again = of.LookOutNoMore(k.DyingOwner) || again
		return true
	})
	return again
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
		if now.Sub(d.since(o, now)) < dyingWatch {
			return true
		}
	}
	return false
}
