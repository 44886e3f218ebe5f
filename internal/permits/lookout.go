package permits

import "time"

// The lookout of a dying owner is the one waiter that looks often at its lock. Nothing reports that the
// lock is gone, so somebody has to look. But whoever scans while an owner is dying finds it, in a
// large line hundreds, and if they all looked often they would keep the processors from the process that
// is dying, and more would find it meanwhile.
//
// The others sleep. That is safe, for the lookout goes on until it has given back what the owner held and
// called a waiter, or until it stops being the lookout and looks once more, or leaves and calls another
// waiter that has to look. It stops first: so who found that there is a lookout fell asleep relying on one that
// looks afterwards, at what this one saw, or calls somebody who does. (The owner may hold nothing, so that
// nobody needs a lookout, and then take a permit: other threads of it may still run.)
// A lookout that dies, or is stopped, is one no more after the time that it has written down: whoever looks
// next takes its place, as the safety net does at the latest.
//
// The slot says which slot's owner is the lookout, and until when, in milliseconds; or 0. Times are a few hundred
// milliseconds ahead at most; others are over, or were written by a clock that was set.
const (
	lookoutShift = 20 // the time is below it, the slot of the lookout above
	lookoutMask  = 1<<lookoutShift - 1

	// lookoutGrace is how much longer than its pause a waiter stays the lookout: others may
	// have the processors when it wants to look.
	lookoutGrace = 50 * time.Millisecond
	// lookoutLongest is more than any pause and the grace.
	lookoutLongest = time.Second
)

// LookOut reports whether the owner is the lookout of a dying one, until it has looked again
// after a pause of that length.
//
// (If the dying one is reaped in between, and its slot has a new owner that dies within the grace, that
// one is taken to have a lookout. The safety net finds it.)
func (o *Owner) LookOut(d DyingOwner, pause time.Duration) bool {
	return o.lookOut(d, pause, time.Now().UnixMilli())
}

func (o *Owner) lookOut(d DyingOwner, pause time.Duration, now int64) bool {
	lookout := &o.slots[d.Slot].lookout
	for {
		is := lookout.Load()
		left := (int64(is) - now) & lookoutMask
		if is != 0 && int(is>>lookoutShift) != o.slot && 0 < left && left <= lookoutLongest.Milliseconds() {
			return false
		}
		until := now + (pause + lookoutGrace).Milliseconds()
		if lookout.CompareAndSwap(is, uint32(o.slot)<<lookoutShift|uint32(until&lookoutMask)) {
			return true
		}
	}
}

// LookOutNoMore reports whether the owner was the lookout: then others may rely on it, and it has to look
// once more, or to leave the line and call PassOn.
func (o *Owner) LookOutNoMore(d DyingOwner) (was bool) {
	lookout := &o.slots[d.Slot].lookout
	is := lookout.Load()
	return is != 0 && int(is>>lookoutShift) == o.slot && lookout.CompareAndSwap(is, 0)
}
