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
//	hears     reports whether it will end when these words change
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
// further behind in the kernel's queue by it than others. When it is time is reckoned anew
// before each sleep (see nextLook), from what the scan has just seen. The net's time goes
// on between waits: if each is served before it is over, some server still checks the
// owners whose exit is never reported.
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
		netDue      bool  // it is time to look by itself
		heard       bool  // a word that it slept on says that an owner has exited
		ticketValid bool  // our ticket still says where in the kernel's queue we are
		unsure      = now // since when we may hear of no exit (see nextLook); 0 if we do
		pending     bool  // there was an event, and no waiter here has used it yet

		// If it was time while no goroutine waited: not at once. A short wait rarely pays
		// for a scan of all owners, and many processes that begin to wait do not all
		// scan together.
		notBefore = now.Add(rand.N(netSpread))
	)
	defer sleep.end()
	for {
		sleep.begin()
		served := t.Served()
		done := t.Look()
		pending = pending && t.Served() == served
		if heard && h.netExited.IsZero() {
			h.netExited = time.Now()
		}
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
			h.netLooked, h.netExited, unsure = time.Now(), time.Time{}, time.Time{}
		}
		if ticketValid && unsure.IsZero() {
			unsure = time.Now()
		}
		if h.netExited.IsZero() && (heard || found.Again || h.dying.recent(found.Dying)) {
			h.netExited = time.Now() // also if it heard while it looked by itself
		}
		heard = false
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
		pause := h.dying.pause(found.Dying)
		net := nextLook(h.netLooked, h.netExited, unsure, found, sleep.hears(found.Watch))
		if net.Before(notBefore) {
			net = notBefore
		}
		w, netDue = h.sleepUntil(&sleep, pause, net)
		heard = found.Exited()
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

const (
	// afterExit is how long after an exit a server looks by itself.
	afterExit = engine.SafetyNet / 2
	// Waiters that share the net's work look so often together, and none more seldom than
	// once in netLongest.
	netShared  = engine.SafetyNet / 4
	netLongest = 10 * engine.SafetyNet
)

// nextLook returns when a server looks by itself that did so last at looked, has noticed
// an exit since at exited, if at all, and has been unsure since then whether it hears of
// any. found is what its scan has seen, and hears says that exits that are reported will
// end its sleep.
//
// A look finds what was lost for all waiters, and notifies them. So waiters that hear of
// each other's exits share the work: each has a moment in a period that grows with their
// number, given by the clock and the order of their slots, and all together look every
// netShared. The clocks of all processes are the same, and if they are not the looks come
// less evenly.
//
// But then those that sleep long rely on others that may die, and on the kernel to say so.
// It wakes one sleeper for each exit. If many processes are killed together that may be
// a thread of one that is dying too, and whose own exit was reported before: that wake-up
// is lost, and so perhaps the one for the permit. A waiter that noticed one exit may have
// missed others. It looks soon, for by then the dying are dead; if it finds another one it
// does so again. A waiter that does not hear of exits, or knows of an owner whose exit is
// not reported, relies on nobody.
//
// So each waiter has to be the first sleeper on somebody's liveness word. It is, on that
// of the last waiter that fell asleep before it, if that one sleeps in the order of its
// ticket. One that kept its ticket has fallen asleep behind a later ticket: these two watch
// each other, and whoever sleeps behind them hears of neither. So it is unsure, and looks
// after a second, for then it gets another ticket. Others can't know; but it happens mostly
// when many begin to wait together. Therefore the first look of each wait comes after a
// second, too.
func nextLook(looked, exited, unsure time.Time, found permits.Findings, hears bool) time.Time {
	next := looked.Add(engine.SafetyNet)
	period := min(netShared*time.Duration(found.Others+1), netLongest)
	if hears && !found.Unheard && period > engine.SafetyNet {
		moment := period / time.Duration(found.Others+1) * time.Duration(found.Before)
		// A look begins a little before its moment.
		done := looked.Add(2 * engine.NetDoubt)
		since := (time.Duration(done.UnixNano()) - moment) % period
		next = done.Add(period - since)
	}
	if soon := exited.Add(afterExit); !exited.IsZero() && soon.Before(next) {
		next = soon
	}
	if soon := unsure.Add(engine.SafetyNet); !unsure.IsZero() && soon.Before(next) {
		next = soon
	}
	return next
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
