package command

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

const watchHelp = `Shows what "procsem show NAME", or without a NAME "procsem list", shows, drawn anew
twice a second. q or Ctrl-C ends it, and the terminal is as it was before. If not all
fits on the screen, the arrows and Page Up and Down show the rest, as j, k, b and the
space bar do.

Where standard output is no terminal it prints a line when it starts and then one per
change, each with the time: of NAME how many permits are free, how many wait and who
holds, or of all semaphores the one that has changed. A signal ends it.

If the semaphore is removed, watch says so and goes on: others may make another one.

` + statusHelp

func watchCommand(inv *invocation) *cobra.Command {
	cmd := &cobra.Command{Use: "watch [options] [NAME]", Short: "show a semaphore, or all, as they change", Long: watchHelp, RunE: inv.watch}
	inBase64(cmd)
	return cmd
}

// watchPause is from one look to the next; after a look that has taken long there is a longer one.
const watchPause = time.Second / 2

func (inv *invocation) watch(cmd *cobra.Command, args []string) error {
	look, changes := lookAtAll, allChanges()
	title := "procsem watch"
	if len(args) > 0 {
		name, err := oneName(cmd, args)
		if err != nil {
			return err
		}
		if _, err := viewOf(name); err != nil {
			return err
		}
		look, changes = func() (*table, error) { return lookAt(name) }, changesOf(name)
		title += " " + printable(name)
	} else if err := wrongDir(cmd); err != nil {
		return err
	}
	w := watch(endSignals)
	if _, _, onTerminal := sizeOf(inv.stdout); onTerminal {
		if restore, err := prepareScreen(inv.stdout); err == nil {
			defer restore()
			return inv.watchOnScreen(title, look, w)
		}
	}
	return inv.watchInLines(changes, w)
}

// lookAt makes the table of a semaphore.
func lookAt(name string) (*table, error) {
	t := &table{}
	v, err := viewOf(name)
	if err == nil {
		v.rows(t.row)
	}
	return t, err
}

// lookAtAll makes that of all.
func lookAtAll() (*table, error) {
	t := &table{}
	lines, err := summaries()
	if err == nil {
		listRows(lines, t.row)
	}
	return t, err
}

// changesOf returns a function that returns the line that describes a semaphore, if it has changed.
func changesOf(name string) func() ([]string, error) {
	var before string
	var holders []string
	return func() ([]string, error) {
		v, err := viewOf(name)
		var now []string
		line := printable(name) + ": "
		switch {
		case errors.Is(err, fs.ErrNotExist):
			line += "gone"
		case err != nil:
			line += reason(err)
		case v.Holders == nil:
			line += number(v.Free) + " free"
		default:
			line += fmt.Sprintf("%d of %d free, %d waiting", *v.Free, *v.Limit, len(v.Waiters))
			for _, h := range v.Holders {
				now = append(now, nameOf(h).who(mostCommand))
			}
		}
		if line == before && slices.Equal(now, holders) {
			return nil, nil
		}
		before, holders = line, now
		if len(now) > 0 {
			line += "; held by " + strings.Join(now, ", ")
		}
		return []string{line}, nil
	}
}

// allChanges returns a function that returns a line for each semaphore that has changed.
func allChanges() func() ([]string, error) {
	type key struct{ name, kind string }
	before := make(map[key]string)
	return func() (lines []string, err error) {
		all, err := summaries()
		if err != nil {
			return nil, err
		}
		now := make(map[key]string)
		for _, s := range all {
			k := key{s.Name, s.Kind}
			if now[k] = s.String(); s.Error != "" {
				now[k] = printable(s.Error)
			}
			if before[k] != now[k] {
				lines = append(lines, printable(s.Name)+": "+now[k])
			}
		}
		for k := range before {
			if _, there := now[k]; !there {
				lines = append(lines, printable(k.name)+": gone")
			}
		}
		before = now
		slices.Sort(lines)
		return lines, nil
	}
}

// watchInLines prints a line per change, until a signal ends it.
func (inv *invocation) watchInLines(changes func() ([]string, error), w *watcher) error {
	for {
		began := time.Now()
		lines, err := orSignal(w, changes)
		if err != nil {
			return err
		}
		for _, line := range lines {
			if _, err := fmt.Fprintln(inv.stdout, time.Now().Format(time.DateTime), line); err != nil {
				return err
			}
		}
		if err := w.pause(max(watchPause, 2*time.Since(began))); err != nil {
			return err
		}
	}
}

// A screen is a terminal that a program has for itself: its other screen, without a cursor, and keys that come one
// by one.
type screen struct {
	out    io.Writer
	keys   *os.File // nil: there are none
	before *term.State
}

// enter is also called when the program is continued, by then perhaps without having left: of SIGSTOP it knows
// nothing.
func (s *screen) enter() error {
	if s.keys != nil {
		before, err := term.MakeRaw(int(s.keys.Fd()))
		if err != nil {
			return err
		}
		if s.before == nil {
			s.before = before
		}
	}
	_, err := io.WriteString(s.out, "\x1b[?1049h\x1b[?25l")
	return err
}

func (s *screen) leave() {
	io.WriteString(s.out, "\x1b[?25h\x1b[?1049l")
	if s.before != nil {
		_ = term.Restore(int(s.keys.Fd()), s.before)
		s.before = nil
	}
}

// The keys that end or stop a program, which the terminal does not turn into signals while they come one by one.
const (
	ctrlC         = 3
	ctrlZ         = 26
	ctrlBackslash = 28
)

// watchOnScreen draws until a key or a signal ends it.
func (inv *invocation) watchOnScreen(title string, look func() (*table, error), w *watcher) (err error) {
	s := &screen{out: inv.stdout}
	if f, isFile := inv.stdin.(*os.File); isFile && term.IsTerminal(int(f.Fd())) {
		s.keys = f
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	e := &ears{}
	e.hear()
	defer e.deaf()
	keys, noKeys := make(chan byte), make(chan error)
	if s.keys != nil {
		go func() { noKeys <- readKeys(s.keys, keys) }()
	}
	suspend := func(stop func()) error {
		s.leave()
		e.deaf()
		stop()
		e.hear()
		select { // for it is stopped an instant later, or not at all
		case <-e.heard:
		case <-time.After(watchPause):
		}
		return s.enter()
	}
	scroll := &scroller{}
	tables := make(chan looked, 1)
	var last looked
	looking, next := false, time.Now()
	for {
		var due <-chan time.Time
		switch {
		case looking:
		case time.Now().Before(next):
			due = time.After(time.Until(next))
		default:
			looking = true
			go func() {
				began := time.Now()
				t, err := look()
				tables <- looked{t, err, time.Now(), time.Since(began)}
			}()
		}
		select {
		case last = <-tables:
			looking, next = false, last.at.Add(max(watchPause-last.took, last.took))
		case <-due:
			continue
		case sig := <-w.arrived:
			return signalled{sig}
		case sig := <-e.heard:
			switch sig {
			case sigStop:
				err = suspend(stopNow)
			case sigContinue:
				err = s.enter()
			}
		case err := <-noKeys: // nor would Ctrl-C be read
			return fmt.Errorf("reading the terminal's keys: %w", err)
		case key := <-keys:
			switch key {
			case 'q', 'Q':
				return nil
			case ctrlZ:
				err = suspend(func() { sendAll(sigStop) })
			default:
				if scroll.press(key) {
					break
				}
				// The terminal would send it to the whole process group, to a script, say, that has called procsem.
				if sig := keySignals[key]; slices.Contains(w.heard, sig) {
					sendAll(sig)
					return signalled{sig}
				}
			}
		}
		if err != nil {
			return err
		}
		if last.table == nil {
			continue
		}
		if err := last.draw(s.out, title, scroll); err != nil {
			return err
		}
	}
}

// A looked is what a look has shown.
type looked struct {
	table *table
	err   error
	at    time.Time
	took  time.Duration
}

// A scroller knows which lines are shown of what does not fit on the screen.
type scroller struct {
	top, page int
	escape    string // the beginning of what a key sends that is no character
}

// scrolls says by how many lines and pages each key moves.
var scrolls = map[string]struct{ lines, pages int }{
	"j": {1, 0}, "k": {-1, 0}, " ": {0, 1}, "b": {0, -1},
	"\x1b[B": {1, 0}, "\x1b[A": {-1, 0}, "\x1bOB": {1, 0}, "\x1bOA": {-1, 0}, "\x1b[6~": {0, 1}, "\x1b[5~": {0, -1},
}

// press takes a byte from the keyboard, and reports whether it is a part of a key that scrolls.
func (s *scroller) press(b byte) bool {
	key := s.escape + string(rune(b))
	s.escape = ""
	if by, is := scrolls[key]; is {
		s.top += by.lines + by.pages*s.page
		return true
	}
	for known := range scrolls {
		if len(key) < len(known) && strings.HasPrefix(known, key) {
			s.escape = key
			return true
		}
	}
	return false
}

// view returns the lines to show, of which so many fit.
func (s *scroller) view(lines []string, height, width int) []string {
	s.page = max(1, height-1)
	if len(lines) <= height || height < 2 {
		s.top = 0
		return lines
	}
	s.top = max(0, min(s.top, len(lines)-s.page))
	shown := slices.Clone(lines[s.top : s.top+s.page])
	return append(shown, cut(fmt.Sprintf("(lines %d to %d of %d; the arrows show the others)", s.top+1, s.top+s.page, len(lines)), width))
}

// draw draws all anew, by one write, so that nothing flickers.
func (l looked) draw(out io.Writer, title string, scroll *scroller) error {
	width, height, _ := sizeOf(out)
	clock := l.at.Format(time.TimeOnly)
	lines := []string{cut(title, max(1, width-len(clock)-2)), ""}
	lines[0] += strings.Repeat(" ", max(1, width-columnsOf(lines[0])-len(clock))) + clock
	lines[0] = cut(lines[0], width)
	if l.err != nil {
		lines = append(lines, cut(message(l.err), width))
	} else {
		lines = append(lines, scroll.view(l.table.lines(width), height-len(lines), width)...)
	}
	if height > 0 && len(lines) > height { // of a screen of three lines
		lines = lines[:height]
	}
	var b strings.Builder
	b.WriteString("\x1b[H")
	for i, line := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(eraseBelow + line) // first, for a line of the whole width leaves the cursor in its last column
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// readKeys reads until it can no more, and returns why.
func readKeys(from *os.File, keys chan<- byte) error {
	b := make([]byte, 1)
	for {
		n, err := from.Read(b)
		if n == 1 {
			keys <- b[0]
		}
		if err != nil && !awaitInput(from, err) {
			return err
		}
	}
}
