package recoverable

import (
	"os"
	"slices"

	"golang.org/x/sys/windows"

	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/testhook"
)

// A processWatch has the processes whose exit a server waits for.
type processWatch []process

type process struct {
	permits.Process
	h     windows.Handle
	words []permits.Word // that are about it
}

// mostWatched is how many objects one can wait for at a time, MAXIMUM_WAIT_OBJECTS,
// less ours.
const mostWatched = 64 - firstProcess

// of watches the processes that words are about, as many as can be, and no others. It
// reports whether some have ended: their words are marked, and have to be read again.
func (w *processWatch) of(t *permits.Table, words []permits.Word) (exited bool) {
	var now processWatch
	me := permits.Process{PID: os.Getpid(), Started: ownStart()}
	for _, word := range words {
		p := t.ProcessOf(word)
		if p == me {
			continue // does not end before us
		}
		if i := now.index(p); i >= 0 {
			now[i].words = append(now[i].words, word)
			continue
		}
		if len(now) == mostWatched || testhook.Unwatched.Load() {
			break
		}
		var h windows.Handle
		if i := w.index(p); i >= 0 {
			h = (*w)[i].h
		} else if opened, lives := openProcess(p); !lives {
			t.Mark(word)
			exited = true
			continue
		} else if opened == 0 {
			continue
		} else {
			h = opened
		}
		now = append(now, process{p, h, []permits.Word{word}})
	}
	w.keep(now)
	return exited
}

// covers reports whether the processes of all these words are watched, or are ours.
func (w processWatch) covers(t *permits.Table, words []permits.Word) bool {
	me := permits.Process{PID: os.Getpid(), Started: ownStart()}
	return !slices.ContainsFunc(words, func(word permits.Word) bool {
		p := t.ProcessOf(word)
		return p != me && w.index(p) < 0
	})
}

func (w processWatch) index(p permits.Process) int {
	return slices.IndexFunc(w, func(q process) bool { return q.Process == p })
}

// keep watches the processes of now, and lets go of the others.
func (w *processWatch) keep(now processWatch) {
	for _, p := range *w {
		if now.index(p.Process) < 0 {
			windows.CloseHandle(p.h)
		}
	}
	*w = now
}

// exited marks what is about a process that has ended.
func (w *processWatch) exited(t *permits.Table, i int) {
	p := (*w)[i]
	for _, word := range p.words {
		t.Mark(word)
	}
	windows.CloseHandle(p.h)
	*w = slices.Delete(*w, i, i+1)
}

// mark marks all processes that have ended. A server that leaves does that, for it hears
// of one thing at a time: of an exit that came together with the end of its wait no other
// waiter may know.
func (w *processWatch) mark(t *permits.Table) {
	for len(*w) > 0 {
		event, err := windows.WaitForMultipleObjects(w.handles(), false, 0)
		if err != nil || event == uint32(windows.WAIT_TIMEOUT) {
			return
		}
		w.exited(t, int(event-windows.WAIT_OBJECT_0))
	}
}

func (w processWatch) handles() (hs []windows.Handle) {
	for _, p := range w {
		hs = append(hs, p.h)
	}
	return hs
}

// openProcess returns a handle by which a process can be watched, 0 if we may not do
// that. lives is false if it has ended; its start tells whether another one has its
// number by now.
func openProcess(p permits.Process) (h windows.Handle, lives bool) {
	h, err := windows.OpenProcess(windows.SYNCHRONIZE|windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(p.PID))
	if err != nil {
		return 0, err != windows.ERROR_INVALID_PARAMETER // no such process
	}
	if started, err := startOf(h); err == nil && started != p.Started {
		windows.CloseHandle(h)
		return 0, false
	}
	return h, true
}
