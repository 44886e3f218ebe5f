package recoverable

import (
	"errors"
	"runtime"
	"time"

	"golang.org/x/sys/windows"

	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/win"
)

// On Windows a server sleeps on a named semaphore, for the event, and on the handles of
// processes, to hear of their exits.

// reportExit says in our slot's liveness word that our exit will be reported: by the
// waiters that watch our process.
func (h *handle) reportExit() { h.owner.ExpectReport() }

func (h *handle) withdrawReport() {}

func (h *handle) Interrupt() {
	windows.SetEvent(h.objects.stop)
	h.kick.Send()
}

// Wake lets n waiters, on whatever word, look again, by as many tokens in the semaphore.
// No server slept that would have taken the tokens left there; one that comes to sleep
// later takes one, looks, and sleeps again.
func (h *handle) Wake(_ *uint32, n int) (woken int) {
	defer runtime.KeepAlive(h.table)
	n = min(n, mostTokens)
	before, err := win.ReleaseSemaphore(h.objects.wake, int32(n))
	for errors.Is(err, windows.ERROR_TOO_MANY_POSTS) && n > 1 {
		// There are tokens for all waiters that could miss this one, but for a few:
		// these are passed on by servers that got a permit (Leave).
		n /= 2
		before, err = win.ReleaseSemaphore(h.objects.wake, int32(n))
	}
	if err != nil {
		return 0
	}
	left, _, err := win.QuerySemaphore(h.objects.wake)
	if err != nil {
		left = before // not the right to ask, perhaps
	}
	return max(0, int(before)+n-int(left))
}

// maxWatched is how many words of owners a server looks at for their processes, of which
// it can watch mostWatched.
const maxWatched = 128

const sleepCall = "WaitForMultipleObjects"

// A sleep needs to compare with nothing: a token stays in the semaphore until a server
// takes it that looks after that, or, if it leaves without a permit, puts another one in
// its place (PassOn). There may be more tokens than are needed, and a server looks for
// nothing.
//
// A waiter that falls asleep after us may get a permit before us, and we don't watch it
// (there is no word of tickets to sleep on). Of its exit we hear only if we were notified
// meanwhile; else it is the safety net's, like processes that we may not watch, or that
// are too many for one wait.
type sleep struct{ h *handle }

func (s *sleep) begin() {}

func (s *sleep) inLine() {}

func (s *sleep) watches(words []permits.Word) (exited bool) {
	return s.h.watch.of(s.h.table, words)
}

// hears reports whether the exits that will be reported in the words end the sleep.
func (s *sleep) hears(words []permits.Word) bool { return s.h.watch.covers(s.h.table, words) }

// The objects that a server sleeps on, in their order: if several are there, the first
// one wins.
const (
	interrupted = iota
	token
	firstProcess
)

func (s *sleep) rest(d time.Duration) (w waking) {
	h := s.h
	timeout := uint32(windows.INFINITE)
	if d > 0 {
		timeout = uint32((d + time.Millisecond - 1) / time.Millisecond)
	}
	handles := append([]windows.Handle{interrupted: h.objects.stop, token: h.objects.wake}, h.watch.handles()...)
	event, err := windows.WaitForMultipleObjects(handles, false, timeout)
	switch {
	case err != nil:
		w.err = err
	case event == uint32(windows.WAIT_TIMEOUT):
		w.over = true
	default:
		what := int(event - windows.WAIT_OBJECT_0)
		w.notified = what == token
		if what >= firstProcess {
			h.watch.exited(h.table, what-firstProcess)
		}
	}
	return w
}

func (s *sleep) leave() { s.h.watch.mark(s.h.table) }

func (s *sleep) end() { s.h.watch.keep(nil) }
