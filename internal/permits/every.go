package permits

import "sync/atomic"

// The start of something that is started at most once in a period, by whichever process: when the last
// one was, by two clocks.
//
// The clock of the boot counts from a boot on and is never set, so as long as that lasts it alone decides.
// A file on a disk outlives it; then, and where no such clock is known, the time of day does. If that says that
// the last start is yet to come, it was set back, nobody knows by how much, and the last start counts as if it
// were now: then the next one comes too late, by a period at most, and never too early. (If
// the time of day is set forward, one may come too early.)
//
// Whoever looks or writes has the lock of the claim, which the kernel drops when it dies. It writes in
// such an order that after a crash between two steps the start is that of before, or the new one: first boot
// becomes 0, so that the time of day decides, then that is written, in one step.
type start struct {
	wall atomic.Int64  // Unix time in ns; 0: none
	up   atomic.Int64  // ns since the boot
	boot atomic.Uint64 // which boot that was, 0 if not known
}

// A Moment is now by these clocks.
type Moment struct {
	Wall int64
	Up   int64
	Boot uint64
}

// StartEvery returns how many ns are left until a start is allowed that is allowed once in a period, 0 if it
// is now; then it notes, if begin is set, that it is now. The caller has the lock of the claim.
//
// One that dies after that, and before it has started anything, has used up the period: the time is noted
// before the start, so that there is never a start which nobody knows of.
func (t *Table) StartEvery(now Moment, period int64, begin bool) (left int64) {
	passed, ever := t.started.since(now)
	if ever && passed < period {
		return period - passed
	}
	if begin {
		t.started.note(now)
	}
	return 0
}

// since returns how long ago the last start was, and whether there was one.
func (s *start) since(now Moment) (passed int64, ever bool) {
	wall, up, boot := s.wall.Load(), s.up.Load(), s.boot.Load()
	switch {
	case wall == 0:
		return 0, false
	case boot != 0 && boot == now.Boot:
		passed = now.Up - up
	default:
		passed = now.Wall - wall
	}
	if passed < 0 || wall < 0 || up < 0 { // set back; or the file was written over
		s.note(now)
		passed = 0
	}
	return passed, true
}

func (s *start) note(now Moment) {
	s.boot.Store(0)
	s.wall.Store(max(1, now.Wall))
	s.up.Store(now.Up)
	s.boot.Store(now.Boot)
}
