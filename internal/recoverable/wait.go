//go:build (linux || windows) && !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package recoverable

import (
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/testhook"
)

// A sleep is how a server sleeps: wait_linux.go and wait_windows.go have each their own,
// with these methods.
//
//	begin     before the look: what the sleep compares with
//	inLine    after the server took its ticket, before the scan
//	watches   the words that the scan found are to be slept on; it reports whether
//	          an owner has exited already, so that the scan has to be repeated
//	rest      sleeps, for d if that is not 0
//	leave     the server has no waiter left: writes down what it alone has heard
//	end       frees what the sleep needed
//
// A waking is what ended a rest.
type waking struct {
	over     bool  // d has passed
	notified bool  // there was an event
	unslept  bool  // what it compares with had changed before it slept
	err      error // the system's, EINTR among them
}

// Serve sleeps until there is an event, or one of the owners exits that the scan found:
// the holders, and those next in line.
//
// No wake-up is lost. Whoever gives a permit frees its word, then reads the number of
// waiters, and if there are any makes an event. The server counts itself, notes what its
// sleep compares with, then looks, then sleeps. So either the look finds the word free,
// or the giver finds the waiter counted, and then the sleep does not begin, or ends. An
// owner that dies between freeing and notifying is watched by every server that fell
// asleep after it took the permit.
//
// From time to time the server wakes up by itself: that is the safety net, for exits
// that are not reported, for permits that lie beside it because the waiter that was woken
// for them has died, and for names that vanish. Every server does so, so none falls
// further behind in the kernel's queue by it than others. The net's time goes on between
// waits: if each is served before it is over, some server still checks the owners whose
// exit is never reported.
func (h *handle) Serve(t engine.Turn) {
	if h.polls() {
		h.servePolling(t)
		return
	}
	defer runtime.KeepAlive(h.table)
	h.owner.Join()
	now := time.Now()
	if h.netLooked.IsZero() {
		h.netLooked = now
	}
	var (
		sleep       = sleep{h: h}
		watched     [maxWatched]permits.Word
		found       permits.Findings
		net         = h.netLooked.Add(netPause(h.table.Waiters())) // when to look by itself
		netDue      bool                                           // it is time
		ticketValid bool                                           // our ticket still says where in the kernel's queue we are
		pending     bool                                           // there was an event, and no waiter here has used it yet
	)
	if net.Before(now) {
		// It was time while no goroutine waited. Not at once: a short wait rarely pays
		// for a scan of all owners, and many processes that begin to wait do not
		// all scan together.
		net = now.Add(rand.N(netSpread))
	}
	defer sleep.end()
	for {
		sleep.begin()
		served := t.Served()
		done := t.Look()
		pending = pending && t.Served() == served
		if done {
			break
		}
		if !ticketValid {
			h.owner.TakeTicket()
		}
		sleep.inLine()
		counted := h.table.Counted()
		found = h.owner.Scan(netDue, watched[:0])
		if netDue {
			h.owner.Heal(counted)
			h.netLooked = time.Now()
			net = h.netLooked.Add(netPause(h.table.Waiters()))
		}
		if found.Freed > 0 {
			if netDue {
				testhook.Rescued.Add(1)
			}
			h.owner.Notify(found.Freed - 1) // one is for us
			pending = true
		}
		if found.Freed > 0 || found.Free || found.Again {
			netDue = false
			continue
		}
		if found.Err != nil {
			h.opts.Warn("failed", "op", "looking which owners live", "error", found.Err)
		}
		if sleep.watches(found.Watch) {
			netDue = false
			continue
		}
		h.owner.Do(permits.Waiting)
		var w waking
		w, netDue = h.sleepUntil(&sleep, h.dying.pause(found.Dying), net)
		h.owner.Do(permits.Waking)
		// A wake-up stays pending until a waiter of this handle takes a permit: only we
		// know the owner that took it in our stead, and maybe no sleeping server does.
		pending = pending || w.notified
		// If what we compare with had changed before we slept, keep our ticket: if
		// we took another one each time, two servers could keep each other awake. A
		// server that has slept is behind all others.
		ticketValid = w.unslept && !w.notified
		engine.Woken(t, h.opts, sleepCall, w.err)
	}
	runtime.Gosched() // the waiter that we have just served goes first
	if h.owner.Leave() {
		sleep.leave()
		h.owner.PassOn(found.Watch, pending || h.dying.recent(found.Dying), h.dying.recent)
	}
}

const netSpread = 50 * time.Millisecond

// netPause is how long one of that many waiters sleeps before it looks by itself. What
// it finds it notifies the others of, so they need not all look once a second: some
// do, at random, several times a second together.
func netPause(waiters int) time.Duration {
	pause := min(engine.SafetyNet*time.Duration(max(1, waiters/4)), 10*engine.SafetyNet)
	if pause > engine.SafetyNet {
		pause = pause/2 + rand.N(pause/2)
	}
	return pause
}

// sleepUntil sleeps until there is something, for pause if that is not 0, or until the
// safety net's next look, which is then due.
func (h *handle) sleepUntil(s *sleep, pause time.Duration, net time.Time) (w waking, netDue bool) {
	left := max(time.Until(net)-engine.NetDoubt, 1)
	if testhook.NoSafetyNet.Load() || pause != 0 && pause < left {
		return s.rest(pause), false // after a pause: to look at a dying owner
	}
	if w = s.rest(left); !w.over {
		return w, false
	}
	h.name.Look(h.f, h.path, h.opts)
	if h.owner.Free() {
		// A giver may be just about to notify us.
		if w = s.rest(engine.NetDoubt); !w.over {
			w.unslept = false // it has slept before
			return w, false
		}
		if h.owner.Free() {
			testhook.Rescued.Add(1)
		}
	}
	return w, true
}
