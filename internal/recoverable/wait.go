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
//	watches   the words that the scan found are to be slept on; it reports whether
//	          an owner has exited already, so that the scan has to be repeated
//	hears     reports whether it will end when these words change
//	rest      sleeps, for d if that is not 0
//	leave     the server has no waiter left: writes down what it alone has heard
//	end       frees what the sleep needed
//
// A waking is what ended a rest.
type waking struct {
	over bool  // d has passed
	err  error // the system's, EINTR among them
}

// Serve sleeps until the handle is called, or one of the owners exits that the scan found:
// the holders, and those before it in the line.
//
// No wake-up is lost. Whoever gives a permit frees its word, then reads the number of
// waiters, and if there are any calls one. The server counts itself, takes its ticket, notes
// whether it is called, then looks, then sleeps unless it is called. So either the look finds the word free,
// or the giver finds the waiter in the line, and calls it or one before it. An
// owner that dies between freeing and calling is watched by every server that fell
// asleep after it took the permit. The models in spec have all of it.
//
// From time to time the server wakes up by itself: that is the safety net, for exits
// that are not reported, for permits that lie beside it because the waiter that was called
// for them has died or was stopped, and for names that vanish. It keeps its place in the line. When it is time is reckoned anew
// before each sleep (see nextLook), from what the scan has just seen. The net's time goes
// on between waits: if each is served before it is over, some server still checks the
// owners whose exit is never reported.
func (h *handle) Serve(t engine.Turn) {
	if h.polls() {
		h.servePolling(t)
		return
	}
	if h.server == nil {
		h.server = &server{handle: h, sleep: sleep{h: h}}
	}
	h.server.begin(t)
	h.server.serve(t)
}

// A server is what Serve knows between its steps. A handle has one at a time.
type server struct {
	*handle
	sleep   sleep
	watched [maxWatched]permits.Word
	found   permits.Findings
	netDue  bool          // it is time to look by itself
	pause   time.Duration // how long it sleeps at most, until it looks at a dying owner; 0 for no limit
	told    int           // how often it has called somebody for a free permit since it slept
	heard   bool          // a word that it slept on says that an owner has exited

	// If it was time while no goroutine waited: not at once. A short wait rarely pays
	// for a scan of all owners, and many processes that begin to wait do not all
	// scan together.
	notBefore time.Time

	// From one wait to the next.
	dying     dying
	netLooked time.Time // when the safety net looked last
	netExited time.Time // when it noticed an exit since then
}

func (s *server) begin(t engine.Turn) {
	s.owner.Join()
	t.Enroll(s.owner.Ticket, s.owner.Vain)
	now := time.Now()
	if s.netLooked.IsZero() {
		s.netLooked = now
	}
	s.found, s.netDue, s.told, s.heard = permits.Findings{}, false, 0, false
	s.notBefore = now.Add(rand.N(netSpread))
}

// serve serves until no waiter is left, or until another goroutine goes on.
func (s *server) serve(t engine.Turn) {
	defer runtime.KeepAlive(s.table)
	for {
		s.sleep.begin()
		done := t.Look()
		if s.heard && s.netExited.IsZero() {
			s.netExited = time.Now()
		}
		if done {
			break
		}
		if t.Pass(func() { s.serve(t) }) {
			return
		}
		if s.scan() && !s.sleep.watches(s.found.Watch) {
			engine.Woken(t, s.opts, sleepCall, s.rest())
		} else {
			s.netDue = false
		}
	}
	runtime.Gosched() // the waiter that we have just served goes first
	t.Enroll(nil, nil)
	s.sleep.end()
	s.dying.leave(s.owner)
	if s.owner.Leave() {
		s.sleep.leave()
		s.owner.PassOn(s.found.Watch, s.dying.recent(s.found.Dying), s.dying.recent)
	}
}

// scan looks what there is but permits for our waiters, and reports whether the server may
// sleep now.
func (s *server) scan() bool {
	counted := s.table.Counted()
	found := s.owner.Scan(s.netDue, s.watched[:0])
	s.found = found
	if s.netDue {
		s.owner.Heal(counted)
		s.owner.CountAgain()
		s.netLooked, s.netExited = time.Now(), time.Time{}
	}
	if s.netExited.IsZero() && (s.heard || found.Again || s.dying.recent(found.Dying)) {
		s.netExited = time.Now() // also if it heard while it looked by itself
	}
	s.heard = false
	if found.Freed > 0 && s.netDue {
		testhook.Rescued.Add(1)
	}
	s.owner.Notify(found.Back())
	if found.Freed > 0 || found.Again {
		return false
	}
	// A permit is free that we have not taken: it is not our turn, or it came just now.
	if found.Free && !s.owner.Rely() {
		if s.told++; s.told < mostTold {
			s.owner.Notify(1)
			return false
		}
	}
	if found.Err != nil {
		s.opts.Warn("failed", "op", "looking which owners live", "error", found.Err)
	}
	pause, again := s.dying.look(s.owner, &s.found)
	s.pause = pause
	return !again
}

// rest sleeps. It returns the system's error, EINTR among them.
func (s *server) rest() error {
	s.owner.Do(permits.Waiting)
	var w waking
	pause := s.pause
	if s.told == mostTold {
		pause = time.Millisecond
	}
	s.told = 0
	net := nextLook(s.netLooked, s.netExited, s.found, s.sleep.hears(s.found.Watch))
	if net.Before(s.notBefore) {
		net = s.notBefore
	}
	w, s.netDue = s.sleepUntil(pause, net)
	s.heard = s.found.Exited()
	s.owner.Do(permits.Waking)
	return w.err
}

const netSpread = 50 * time.Millisecond

// mostTold bounds how often a server in a row calls somebody for a permit that it finds free,
// and does not sleep: newcomers may take it each time, and the file may be damaged.
const mostTold = 1000

const (
	// afterExit is how long after an exit a server looks by itself.
	afterExit = engine.SafetyNet / 2
	// Waiters that share the net's work look so often together, and none more seldom than
	// once in netLongest.
	netShared  = engine.SafetyNet / 4
	netLongest = 10 * engine.SafetyNet
)

// nextLook returns when a server looks by itself that did so last at looked, and has noticed
// an exit since at exited, if at all. found is what its scan has seen, and hears says that exits
// that are reported will end its sleep.
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
// is lost, and so perhaps the one for the permit. What stays is what the kernel wrote into the
// liveness word, and sleepUntil compares its words once a second; it also sees then whether most
// of the others have left, on which it relied, and the server scans anew. A waiter that noticed one
// exit may have missed others, of owners that it does not watch. It looks soon, for by then the
// dying are dead; if it finds another one it does so again. A waiter that does not hear of exits,
// or knows of an owner whose exit is not reported, relies on nobody.
func nextLook(looked, exited time.Time, found permits.Findings, hears bool) time.Time {
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
	return next
}

// sleepUntil sleeps until there is something, for pause if that is not 0, or until the
// safety net's next look, which is then due.
func (s *server) sleepUntil(pause time.Duration, net time.Time) (w waking, netDue bool) {
	left := max(time.Until(net)-engine.NetDoubt, 1)
	if testhook.NoSafetyNet.Load() || pause != 0 && pause < left {
		return s.sleep.rest(pause), false // after a pause: to look at a dying owner
	}
	for ; left > engine.SafetyNet; left = max(time.Until(net)-engine.NetDoubt, 1) {
		// To fall asleep again compares all words: see nextLook. And a permit may be free that was for
		// others, which are stopped.
		if w = s.sleep.rest(engine.SafetyNet); !w.over || s.owner.Fewer(&s.found) || s.owner.Free() {
			return w, false
		}
	}
	if w = s.sleep.rest(left); !w.over {
		return w, false
	}
	s.name.Look(s.f, s.path, s.opts)
	if s.owner.Free() {
		// A giver may be just about to notify us.
		if w = s.sleep.rest(engine.NetDoubt); !w.over {
			return w, false
		}
		if s.owner.Free() && !s.owner.Rely() {
			testhook.Rescued.Add(1)
		}
	}
	return w, true
}
