package recoverable

import (
	"time"

	"golang.org/x/sys/windows"

	"github.com/procsem/semaphore/internal/permits"
)

// On Windows a server sleeps on a named event, by which it is called, and on the handles of
// processes, to hear of their exits.

// reportExit says in our slot's liveness word that our exit will be reported: by the
// waiters that watch our process.
func (h *handle) reportExit() { h.owner.ExpectReport() }

func (h *handle) withdrawReport() {}

func (h *handle) Interrupt() {
	windows.SetEvent(h.objects.stop)
	h.kick.Send()
}

// Wake sets the event of a slot, on which its server sleeps, or will. It has none if it has ended.
func (h *handle) Wake(slot int, _ *uint32) bool {
	name, err := windows.UTF16PtrFromString(h.callName(slot))
	if err != nil {
		return false
	}
	event, err := windows.OpenEvent(windows.EVENT_MODIFY_STATE, false, name)
	if err != nil {
		return false
	}
	defer windows.CloseHandle(event)
	return windows.SetEvent(event) == nil
}

// maxWatched is how many words of owners a server looks at for their processes, of which
// it can watch mostWatched.
const maxWatched = 128

const sleepCall = "WaitForMultipleObjects"

// A sleep needs to compare with nothing: the event stays set until the server has slept on
// it.
type sleep struct{ h *handle }

func (s *sleep) begin() {}

func (s *sleep) watches(words []permits.Word) (exited bool) {
	return s.h.watch.of(s.h.table, words)
}

// hears reports whether the exits that will be reported in the words end the sleep.
func (s *sleep) hears(words []permits.Word) bool { return s.h.watch.covers(s.h.table, words) }

// The objects that a server sleeps on, in their order: if several are there, the first
// one wins.
const (
	interrupted = iota
	call
	firstProcess
)

func (s *sleep) rest(d time.Duration) (w waking) {
	h := s.h
	timeout := uint32(windows.INFINITE)
	if d > 0 {
		timeout = uint32((d + time.Millisecond - 1) / time.Millisecond)
	}
	handles := append([]windows.Handle{interrupted: h.objects.stop, call: h.objects.call}, h.watch.handles()...)
	event, err := windows.WaitForMultipleObjects(handles, false, timeout)
	switch {
	case err != nil:
		w.err = err
	case event == uint32(windows.WAIT_TIMEOUT):
		w.over = true
	default:
		what := int(event - windows.WAIT_OBJECT_0)
		if what >= firstProcess {
			h.watch.exited(h.table, what-firstProcess)
		}
	}
	return w
}

func (s *sleep) leave() { s.h.watch.mark(s.h.table) }

func (s *sleep) end() { s.h.watch.keep(nil) }
