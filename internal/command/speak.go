package command

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/spf13/cobra"
)

// A wait of more than two seconds speaks: on a terminal by one line that is drawn anew each second and is gone
// when the wait ends; with -v, where there is none, by lines of their own, whenever something has changed.

const (
	silence   = 2 * time.Second // before it speaks
	redraw    = time.Second
	moment    = time.Second / 2 // that a write to a terminal may take
	plainRest = 5 * time.Second // between lines of -v
	// handleRest is how long a process rests after a look for each handle that holds or waits. To each of them a
	// look asks for a lock, and all those that wait may look.
	handleRest = 50 * time.Millisecond
	// lookRest is how much longer than a look it rests at least.
	lookRest = 20
)

// A scene is what a look has shown about a wait. It says nothing about what is not known.
type scene struct {
	name      string
	what      string // before all else
	place, of int    // in the line, from 1 on
	got       int    // of several permits that it gathers
	holders   crowd
	rest      time.Duration // until the next look
}

// String is the text between the name and what is only known when it is printed.
func (s scene) String() string {
	text := s.what
	if s.place > 0 {
		text += fmt.Sprintf(", %s of %d", ordinal(s.place), s.of)
	}
	if s.got > 0 {
		text += fmt.Sprintf(", has %d", s.got)
	}
	return text
}

func ordinal(n int) string {
	suffix := "th"
	if n/10%10 != 1 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return fmt.Sprint(n, suffix)
}

// same reports whether two scenes have the same place, and the same holders.
func (s scene) same(t scene) bool {
	if s.name != t.name || s.String() != t.String() || s.of != t.of || len(s.holders.first) != len(t.holders.first) || s.holders.others != t.holders.others {
		return false
	}
	for i, n := range s.holders.first {
		if n.host != t.holders.first[i].host || n.pid != t.holders.first[i].pid || n.what != t.holders.first[i].what {
			return false
		}
	}
	return true
}

// line is the whole line. If it is wider than that, and width is not 0, it has less of commands, and is cut.
func (s scene) line(began time.Time, width int) (line string) {
	for _, most := range []int{mostCommand, mostCommand / 2, mostCommand / 4} {
		line = fmt.Sprintf("procsem: %s: %s, for %s%s", printable(s.name), s, ago(began), s.holders.clause("; held by ", most))
		if columnsOf(line) <= width || width == 0 {
			return line
		}
	}
	return cut(line, width)
}

// A teller speaks while a process waits, from another goroutine. What else is printed meanwhile is written by
// it, so that the line is out of its way.
type teller struct {
	subject atomic.Pointer[subject]
	began   time.Time
	to      io.Writer
	verbose bool
	look    func() scene
	opened  atomic.Int64 // when the handle was opened that waits, Unix time in ns
	full    atomic.Bool  // no slot was free
	start   atomic.Int64 // when --every allows a start, Unix time in s; 0: now
	timer   *time.Timer
	stop    chan struct{}
	ended   sync.WaitGroup

	onScreen bool // stderr is a terminal that can move the cursor
	company  company

	prepare func(io.Writer) (restore func(), err error)
	mayDraw func() bool

	mu     sync.Mutex
	drawn  bool
	last   chan struct{} // closed when what was put last is written; nil: nothing was put
	lastAt time.Time     // when that was
}

// A subject is what a wait is for: k permits of a semaphore.
type subject struct {
	name string
	k    int
}

// turnTo says that from now on the wait is for k permits of that semaphore, by the handle that was opened then.
func (t *teller) turnTo(name string, k int, opened int64) {
	t.opened.Store(opened)
	t.subject.Store(&subject{name, k})
}

// speak begins a wait for k permits of a semaphore. No goroutine is started before the wait has lasted for a while.
func (inv *invocation) speak(cmd *cobra.Command, name string, k int, look func(*teller) scene) *teller {
	t := &teller{began: time.Now(), to: inv.stderr, verbose: isSet(cmd, verboseFlag), stop: make(chan struct{}), prepare: prepareScreen}
	t.mayDraw = t.company.none
	t.turnTo(name, k, 0)
	if inv.quiet {
		return t
	}
	inv.notices = t
	t.look = func() scene { return look(t) }
	t.ended.Add(1)
	t.timer = time.AfterFunc(silence, func() {
		defer t.ended.Done()
		t.tell()
	})
	return t
}

// end ends the wait: then nothing of it is left on a terminal that takes output, and nothing more is said.
func (t *teller) end() {
	select {
	case <-t.stop:
		return
	default:
	}
	close(t.stop)
	if t.timer == nil {
		return
	}
	if t.timer.Stop() {
		t.ended.Done()
	}
	t.ended.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drawn = false // If it is still to be seen it must not be erased later, with what others have written.
}

// Write writes a notice, however long that takes. If the line is drawn it is removed first; it will be drawn again.
func (t *teller) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last != nil {
		<-t.last
	}
	if t.drawn {
		io.WriteString(t.to, clearLine)
		t.drawn = false
	}
	return t.to.Write(b)
}

// put writes what the wait says, and reports whether that is written, or on its way. A terminal that takes nothing
// (Ctrl-S) must not keep a procsem that has got its permit, or a signal, or given up: where it says that it would,
// nothing is written, and where a write turns out to take longer than a moment it is left to its goroutine, which
// writes nothing else; nor is anything put before that is done. The caller has mu.
func (t *teller) put(text string) bool {
	if t.blocked() || !takesOutput(t.to) {
		return false
	}
	last := make(chan struct{})
	t.last, t.lastAt = last, time.Now()
	go func() {
		io.WriteString(t.to, text)
		close(last)
	}()
	t.blocked()
	return true
}

// blocked reports whether what was put last, a moment ago or longer, is still not written. The caller has mu.
func (t *teller) blocked() bool {
	if t.last == nil {
		return false
	}
	timer := time.NewTimer(time.Until(t.lastAt.Add(moment)))
	defer timer.Stop()
	select {
	case <-t.last:
	case <-timer.C:
	}
	select {
	case <-t.last:
		return false
	default:
		return true
	}
}

// draw leaves the cursor at the beginning of the line. If the terminal becomes narrower, and folds the line, it
// stays there, and what follows the cursor is all of the line. (Terminals that cut off instead leave it there too.)
func (t *teller) draw(s scene, width int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	// The last column stays free: in it some terminals are about to begin a new line.
	if t.put(fmt.Sprintf("\r%s%s\r", s.line(t.began, max(1, width-1)), eraseBelow)) {
		t.drawn = true
	}
}

// say prints a line that stays, and reports whether it could.
func (t *teller) say(line string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.erase()
	return !t.drawn && t.put(line+"\n")
}

// erase removes the line. The caller has mu.
func (t *teller) erase() {
	if t.drawn && t.put(clearLine) {
		t.drawn = false
	}
}

func (t *teller) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.erase()
}

// tell speaks until the wait ends. Looks are made by another goroutine, so that however long one takes a
// signal, and the end of the wait, are seen to at once.
func (t *teller) tell() {
	e := &ears{}
	if _, _, onTerminal := sizeOf(t.to); onTerminal {
		if restore, err := t.prepare(t.to); err == nil {
			t.onScreen = true
			defer t.restore(restore)
			e.hear()
			defer func() {
				if e.deaf() {
					t.clear()
					stopNow()
				}
			}()
		}
	}
	if !t.onScreen && !t.verbose {
		return
	}
	defer t.clear() // before the terminal is as it was, and does not obey any more
	looked := make(chan scene, 1)
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	var now, said scene
	var next, saidAt time.Time // when to look again, and when a line was printed
	known, looking := false, false
	for {
		width, drawn := t.screen()
		if (drawn || t.verbose) && !looking && time.Now().After(next) {
			looking = true
			go func() { looked <- t.look() }()
		}
		switch {
		case !known:
		case drawn:
			t.draw(now, width)
		case t.verbose && time.Since(saidAt) >= plainRest && (saidAt.IsZero() || !now.same(said)):
			if t.say(now.line(t.began, 0)) {
				said, saidAt = now, time.Now()
			}
		default:
			t.clear()
		}
		select {
		case <-t.stop:
			return
		case now = <-looked:
			known, looking, next = true, false, time.Now().Add(max(redraw/2, now.rest))
		case sig := <-e.heard:
			for sig == sigStop {
				t.clear()
				e.deaf()
				stopNow()
				e.hear()
				tick.Reset(redraw)
				select { // for it is stopped an instant later, or not at all
				case <-t.stop:
					return
				case sig = <-e.heard: // SIGCONT, mostly
				case <-tick.C:
					sig = nil
				}
			}
		case <-tick.C:
		}
	}
}

// restore leaves a terminal as it is on which something is still to be written: that may have to be obeyed, and a
// console may not change its mode before.
func (t *teller) restore(mode func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.blocked() {
		mode()
	}
}

// screen returns the terminal's width, and whether the line is to be drawn there: where others write too procsem would
// draw over that, and they over the line.
func (t *teller) screen() (width int, drawn bool) {
	if !t.onScreen {
		return 0, false
	}
	width, _, _ = sizeOf(t.to)
	return width, t.mayDraw()
}

// waitScene looks at a wait for permits of a semaphore.
func waitScene(t *teller) scene {
	began := time.Now()
	about := t.subject.Load()
	s := scene{name: about.name, what: "waiting"}
	start := t.start.Load()
	switch {
	case start != 0:
		s.what = "waiting until --every allows a start, at " + time.Unix(start, 0).Format(time.DateTime)
		return s
	case t.full.Load():
		s.what = "waiting until fewer processes have it open"
	case about.k > 1:
		s.what = fmt.Sprintf("waiting for %d permits", about.k)
	case about.k < 0:
		s.what = "waiting for all permits"
	}
	o, err := observe(s.name)
	if err != nil || !o.Recoverable {
		return s
	}
	if o.Limit == 0 {
		s.what += " (the limit is 0)"
	}
	own := ownHandle(o, t.opened.Load())
	if cluster != nil {
		own = ownStored(o)
	}
	if own != nil {
		s.place, s.got = placesOf(o)[own.Ticket], own.Permits
		_, s.of = o.count()
	}
	s.holders = holdersOf(o, own, 1)
	s.rest = restAfter(o, began)
	return s
}

// restAfter returns how long to rest after a look.
func restAfter(o observation, began time.Time) time.Duration {
	return max(time.Duration(len(o.Handles))*handleRest, lookRest*time.Since(began))
}

// ownHandle finds the handle of this process that waits, nil if it is not there: the name may be another
// semaphore's by now. Processes of other pid namespaces may have our id, so it is the one that was opened when ours
// was.
func ownHandle(o observation, opened int64) (own *engine.ObservedHandle) {
	best := time.Minute
	for i, h := range o.Handles {
		if off := time.Unix(0, opened).Sub(h.Opened).Abs(); h.PID == os.Getpid() && h.Waiting && off < best {
			own, best = &o.Handles[i], off
		}
	}
	return own
}
