package permits

import (
	"time"

	"github.com/procsem/semaphore/internal/futex"
)

// The lookout of a dying owner is the one waiter that looks often at its lock. Nothing reports that the
// lock is gone, so somebody has to look. But whoever scans while an owner is dying finds it, in a
// large line hundreds, and if they all looked often they would keep the processors from the process that
// is dying, and more would find it meanwhile.
//
// The others sleep, which is safe: the lookout goes on until it has given back what the owner held and
// called a waiter, or until it stops being the lookout. It does that first, and then looks once more, or leaves and
// calls another waiter, which looks. So whatever a waiter saw that relied on it is looked at after that.
// (An owner that is dying and holds nothing needs no lookout, and may then take a permit: other threads of it may still run.)
// The others sleep on the lookout's liveness word, too, so one of them hears if it dies, and takes its place. A lookout
// that is stopped is none any more after the time that it has written down: whoever looks next takes its
// place, as the safety net does at the latest.
//
// The slot says which slot's owner is the lookout, and until when, in milliseconds; or 0. Times are less than
// a second ahead; others are over, or were written by a clock that was set.
const (
	lookoutShift = 20 // the time is below it, the slot of the lookout above
	lookoutMask  = 1<<lookoutShift - 1

	// lookoutGrace is how much longer than its pause a waiter stays the lookout: others may
	// have the processors when it wants to look.
	lookoutGrace = 50 * time.Millisecond
	// lookoutLongest is more than any pause and the grace.
	lookoutLongest = time.Second
)

// LookOut makes the owner the lookout of a dying one, if it has none, until it has looked again after a
// pause of that length. It reports whether the owner has to look then. If it has not, because another one is
// the lookout, it adds that one's liveness word to those to sleep on, if there is room.
//
// (If the dying one is reaped in between, and its slot has a new owner that dies within the grace, that
// one is taken to have a lookout. The safety net finds it.)
func (o *Owner) LookOut(d DyingOwner, pause time.Duration, f *Findings) bool {
	return o.lookOut(d, pause, f, time.Now().UnixMilli())
}

func (o *Owner) lookOut(d DyingOwner, pause time.Duration, f *Findings, now int64) bool {
	slot := &o.slots[d.Slot]
	if slot.gen.Load() != d.Gen {
		return false // the slot's next owner has given back what this one held, and has called others
	}
	const tries = 10 // others are as fast, or the file is being written over: to look is never wrong
	for range tries {
		is := slot.lookout.Load()
		if other, lives := o.lookoutLives(is, now); lives {
			if len(f.Watch) < cap(f.Watch) && exitWillBeReported(other.Value) {
				f.Watch = append(f.Watch, other)
			}
			return false
		}
		until := now + (pause + lookoutGrace).Milliseconds()
		if slot.lookout.CompareAndSwap(is, uint32(o.slot)<<lookoutShift|uint32(until&lookoutMask)) {
			break
		}
	}
	return true
}

// lookoutLives reports whether another owner is the lookout that a slot says, and waits, as far as is known. It
// returns its liveness word with the value that this is known from.
func (o *Owner) lookoutLives(is uint32, now int64) (live Word, lives bool) {
	s := int(is >> lookoutShift)
	if is == 0 || s == o.slot || s >= o.slotsInUse() {
		return Word{}, false
	}
	if left := (int64(is) - now) & lookoutMask; left == 0 || left > lookoutLongest.Milliseconds() {
		return Word{}, false
	}
	live = Word{addressOf(&o.slots[s].live), o.slots[s].live.Load()}
	entry := o.line[s].Load()
	return live, live.Value&futex.OwnerDied == 0 && entry != 0 && entry&idleBit == 0
}

// LookOutNoMore reports whether the owner was the lookout: then others may rely on it, and it has to look
// once more, or to leave the line and call PassOn.
func (o *Owner) LookOutNoMore(d DyingOwner) (was bool) {
	lookout := &o.slots[d.Slot].lookout
	is := lookout.Load()
	return is != 0 && int(is>>lookoutShift) == o.slot && lookout.CompareAndSwap(is, 0)
}
