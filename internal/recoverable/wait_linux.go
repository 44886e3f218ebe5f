//go:build !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package recoverable

import (
	"math"
	"syscall"
	"time"
	"unsafe"

	"github.com/procsem/semaphore/internal/futex"
	"github.com/procsem/semaphore/internal/permits"
)

// On Linux a server sleeps on futexes: its slot's entry of the line, and the
// liveness words of the owners that it watches. Robust futexes report exits.

// A sleeper is what a handle needs to sleep.
type sleeper struct {
	stop        futex.Stop // ends the server's sleep
	robustEntry futex.RobustEntry
	server      *server // if there ever was one
}

// reportExit has the kernel report our exit in our slot's liveness word.
func (h *handle) reportExit() {
	word := h.owner.Live()
	h.robustEntry.Add(word, (*uintptr)(unsafe.Add(unsafe.Pointer(word), -futex.Distance)))
}

// prepareSleep has nothing to do: the words to sleep on are in the file.
func (h *handle) prepareSleep() error { return nil }

func (h *handle) withdrawReport() { h.robustEntry.Remove() }

// Wake wakes all that sleep on the entry: only its server should, but whoever may read the file
// can.
func (h *handle) Wake(_ int, entry *uint32) bool { return futex.Wake(entry, math.MaxInt32) > 0 }

func (h *handle) Interrupt() {
	h.stop.Fire()
	h.kick.Send()
}

// maxWatched is how many owners a server watches: one wait takes futex.MaxWords, of
// which the entry is one.
const maxWatched = futex.MaxWords - 1

const sleepCall = "futex"

type sleep struct {
	h      *handle
	moment futex.Moment
	words  [futex.MaxWords]futex.Word
	n      int // of words
}

func (s *sleep) begin() { s.moment = s.h.stop.Now() }

func (s *sleep) watches(words []permits.Word) (exited bool) {
	s.words[0] = futex.Word(s.h.owner.Entry())
	for i, w := range words {
		s.words[1+i] = futex.Word(w)
	}
	s.n = 1 + len(words)
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
	default:
		w.err = err
	}
	return w
}

// leave has nothing to do: the kernel wrote down what it reported.
func (s *sleep) leave() {}

func (s *sleep) end() {}
