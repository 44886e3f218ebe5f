package permits

import (
	"bytes"
	"encoding/binary"
	"strings"
	"time"
)

// What a slot says for people about its owner: an Identity, and Times. No decision depends on it.

// MaxLabel is the longest label in bytes.
const MaxLabel = 32

// Times say when the owner took its last permit, Unix time in ns, and how long it had waited for
// that one, in ns. Both are 0 if that is not known: a clock is read only where a wait has blocked. It
// may have given that permit since, and hold others.
type Times struct{ Since, Waited int64 }

// Times are forgotten before a permit is taken, and written after that, since last. So at any moment
// they are not known, or are those of the last permit. That is so after a crash between two of these
// steps, too; and what it leaves is the dead owner's, until the slot's next owner forgets it.
//
// The fast paths (TakeHome, TakeLowest) write nothing but the permit's word, and cannot forget. So they take nothing while
// since is set: home then has the bit timed, which makes it higher than every limit, and Take
// runs instead. The bit is set before since is written, and cleared after since is forgotten; slow
// is held for both. A fast path that has read home before the bit was set may still take a permit
// after since was written. But then the two calls overlap, and either may be called the last.
// GiveHome does not look at the bit: to give a permit that was waited for is as fast as to give any.
const timed = 1 << 16

// Stamp writes down that a wait which began then has got its permit now. Its caller has taken the permit,
// or had it handed over, and has not told the waiter yet, so the wait still lasts.
func (o *Owner) Stamp(began time.Duration) {
	o.slow.Lock()
	defer o.slow.Unlock()
	o.stamp(began)
}

// stamp is Stamp for a caller that holds slow.
func (o *Owner) stamp(began time.Duration) {
	o.forget()
	now := Clock()
	if age := now - o.clockSet; o.clockAt == 0 || age < 0 || age > sameTime {
		both := time.Now() // one reading, lest the two be of different moments
		now = both.Sub(started)
		o.clockSet, o.clockAt = now, both.UnixNano()
	}
	o.home.Store(o.home.Load() | timed)
	slot := &o.slots[o.slot]
	slot.waited.Store(int64(now - began))
	slot.since.Store(o.clockAt + int64(now-o.clockSet))
}

// started is when Clock began, some time before anything that it is asked about. (In a bubble of testing/synctest, which has
// a time of its own, Clock is below 0.)
var started = time.Now().Add(-time.Hour)

// Clock is a clock that is never set. To read it takes half as long as time.Now, which reads the time of day, too.
func Clock() time.Duration { return time.Since(started) }

// sameTime is for how long the time of day is reckoned by Clock, and not read.
const sameTime = 100 * time.Millisecond

// forget makes the owner's times unknown. The caller holds slow.
func (o *Owner) forget() {
	if home := o.home.Load(); home&timed != 0 {
		o.slots[o.slot].since.Store(0)
		o.home.Store(home &^ timed)
	}
}

// homeWord returns the number of home's word.
func (o *Owner) homeWord() int { return int(uint16(o.home.Load())) }

// times reads the slot's times: both of one permit, or, if another one is taken meanwhile, perhaps none.
func (s *slot) times() Times {
	since := s.since.Load()
	waited := s.waited.Load()
	if since <= 0 || waited < 0 || s.since.Load() != since { // negative if the file was written over
		return Times{}
	}
	return Times{since, waited}
}

// introduce writes a new owner's Identity into its slot, and forgets the earlier owner's times. Until accept the
// slot says that it was opened at 0, for what is in it is of two owners. If the claimer dies before that, it
// says so until the next one claims the slot.
func (s *slot) introduce(id Identity) {
	s.opened.Store(0)
	s.pid.Store(uint32(id.PID))
	s.started.Store(id.Started)
	s.since.Store(0)
	s.waited.Store(0)
	byFile := uint32(0)
	if id.ByFile {
		byFile = 1
	}
	s.byFile.Store(byFile)
	var label [MaxLabel]byte
	copy(label[:], id.Label)
	for i := range s.label {
		s.label[i].Store(binary.NativeEndian.Uint64(label[8*i:]))
	}
}

// accept ends what introduce began, when the slot has its new generation.
func (s *slot) accept(id Identity) { s.opened.Store(id.Opened) }

// look returns what a slot says about its owner, and the owner's generation. It reports false while
// the slot gets a new owner: the earlier one is dead or has left, and the new one holds nothing yet.
//
// Each owner has another generation, which is written between introduce and accept. So if the generation and
// the time of opening are the same before and after the rest is read, and the time is not 0, all is of
// one owner.
func (t *Table) look(s int) (h Holder, gen uint64, ok bool) {
	slot := &t.slots[s]
	gen = slot.gen.Load()
	h.Opened = slot.opened.Load()
	h.PID, h.Started, h.Label = int(slot.pid.Load()), slot.started.Load(), slot.labelText()
	h.ByFile = slot.byFile.Load() != 0
	h.Times = slot.times()
	entry := t.line[s].Load()
	h.Waits, h.Want, h.Doing = hasPlace(entry), t.wantOf(s, entry), Step(slot.doing.Load())
	if h.Waits {
		h.Ticket, h.Arrived = ticketOf(entry), slot.arrived.Load()
	}
	return h, gen, h.Opened != 0 && slot.opened.Load() == h.Opened && slot.gen.Load() == gen
}

// labelText returns the slot's label. It is valid UTF-8, also if the file was written over.
func (s *slot) labelText() string {
	var label [MaxLabel]byte
	for i := range s.label {
		binary.NativeEndian.PutUint64(label[8*i:], s.label[i].Load())
	}
	text, _, _ := bytes.Cut(label[:], []byte{0})
	return strings.ToValidUTF8(string(text), "\uFFFD")
}
