//go:build !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package recoverable

import (
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/procsem/semaphore/internal/futex"
	"github.com/procsem/semaphore/internal/permits"
)

// On Linux a server sleeps on futexes: the table's event, the word of tickets, and the
// liveness words of the owners that it watches. Robust futexes report exits.

// A sleeper is what a handle needs to sleep.
type sleeper struct {
	stop        futex.Stop // ends the server's sleep
	robustEntry futex.RobustEntry
	dying       dying     // the server's
	netLooked   time.Time // the server's: when the safety net looked last
	netExited   time.Time // the server's: when it noticed an exit since then
}

// reportExit has the kernel report our exit in our slot's liveness word.
func (h *handle) reportExit() {
	word := h.owner.Live()
	h.robustEntry.Add(word, (*uintptr)(unsafe.Add(unsafe.Pointer(word), -futex.Distance)))
}

func (h *handle) withdrawReport() { h.robustEntry.Remove() }

func (h *handle) Wake(word *uint32, n int) int { return futex.Wake(word, n) }

func (h *handle) Interrupt() {
	h.stop.Fire()
	h.kick.Send()
}

// maxWatched is how many owners a server watches: one wait takes futex.MaxWords, of
// which event and tickets are two.
const maxWatched = futex.MaxWords - 2

const sleepCall = "futex"

type sleep struct {
	h              *handle
	moment         futex.Moment
	event, tickets uint32 // the words' values
	words          [futex.MaxWords]futex.Word
	n              int // of words
}

func (s *sleep) begin() {
	s.moment = s.h.stop.Now()
	s.event = atomic.LoadUint32(s.h.table.Event())
}

// inLine notes the last ticket: a server must not fall asleep behind one that took its
// ticket later and that the scan did not see.
func (s *sleep) inLine() { s.tickets = atomic.LoadUint32(s.h.table.Tickets()) }

func (s *sleep) watches(words []permits.Word) (exited bool) {
	s.words[0] = futex.Word{Addr: s.h.table.Event(), Value: s.event}
	s.words[1] = futex.Word{Addr: s.h.table.Tickets(), Value: s.tickets}
	for i, w := range words {
		s.words[2+i] = futex.Word(w)
	}
	s.n = 2 + len(words)
	return false
}

// hears reports whether the exits that will be reported in the words end the sleep.
func (s *sleep) hears([]permits.Word) bool { return futex.SleepsOnAll() }

func (s *sleep) rest(d time.Duration) (w waking) {
	switch err := s.h.stop.WaitAny(s.words[:s.n], s.moment, d); err {
	case nil:
	case syscall.ETIMEDOUT:
		w.over = true
	case syscall.EAGAIN:
		w.unslept = true
	default:
		w.err = err
	}
	// An event after this read is not lost on us: we are awake, and look before we
	// sleep again and compare with the new value.
	w.notified = atomic.LoadUint32(s.h.table.Event()) != s.event
	return w
}

// leave has nothing to do: the kernel wrote down what it reported.
func (s *sleep) leave() {}

func (s *sleep) end() {}
