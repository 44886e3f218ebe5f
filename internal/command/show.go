package command

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/proc"
	"github.com/procsem/semaphore/internal/store"
	"github.com/spf13/cobra"
)

// A view is what show shows. Its JSON fields, and those of handles and processes,
// are documented (showHelp) and stay as they are.
type view struct {
	Name    string   `json:"name"`
	Base64  string   `json:"name_base64,omitempty"` // see base64Of
	Kind    string   `json:"kind"`
	Limit   *int     `json:"limit"` // nil: not known
	Free    *int     `json:"free"`
	Holders []handle `json:"holders"` // nil: not known; those that have held for longest first
	Waiters []handle `json:"waiters"` // in their order

	// Of a bare count, the processes that have it open; nil: not known.
	OpenIn []process `json:"open_in,omitzero"`
}

type handle struct {
	Host string `json:"host,omitempty"` // the machine's name, of one in a store
	process
	State   string    `json:"state"`
	Opened  time.Time `json:"opened,omitzero"`
	Permits int       `json:"permits"`
	Numbers []int     `json:"numbers,omitempty"` // of the permits
	Waiting bool      `json:"waiting"`
	Want    int       `json:"want"`                   // -1: all; 0 if it does not wait
	Place   int       `json:"place,omitempty"`        // in the line, from 1 on
	Arrived time.Time `json:"waiting_since,omitzero"` // of one that waits
	Run     string    `json:"run,omitempty"`          // of procsem run, the command that it runs or will run
	Child   *process  `json:"child,omitempty"`        // and its process
	Label   string    `json:"label,omitempty"`
	Since   time.Time `json:"since,omitzero"`           // zero: not known, and so is Waited
	Waited  *float64  `json:"waited_seconds,omitempty"` // of waited
	KeptBy  []process `json:"kept_by,omitempty"`
	waited  time.Duration
	atOnce  bool // it took its permits when it was opened, or its child was started, unless it had to wait
}

type process struct {
	PID     int       `json:"pid"`
	Command string    `json:"command,omitempty"`
	User    string    `json:"user,omitempty"`
	Started time.Time `json:"started,omitzero"`
	args    []string
}

func processOf(p proc.Process) process {
	return process{PID: p.PID, Command: p.Command, User: p.User, Started: p.Started, args: p.Args}
}

// The states of a handle's process.
const (
	stateRunning = "running"
	stateGone    = "gone"   // ended, but other processes have its lock
	stateUnseen  = "unseen" // not found, and no process that we can see has its lock
	stateLost    = "lost"   // of a store: gone, or out of touch; what it holds counts on for a while
	stateRemote  = "remote" // of a store: its process may be on any machine, and is not looked for
)

func (inv *invocation) show(cmd *cobra.Command, args []string) error {
	name, err := oneName(cmd, args)
	if err != nil {
		return err
	}
	v, err := viewOf(name)
	if err != nil {
		return err
	}
	if isSet(cmd, jsonFlag) {
		return writeJSON(inv.stdout, v)
	}
	return writeTable(inv.stdout, widthOf(cmd, inv.stdout), v.rows)
}

// widthOf returns how wide lines may be; 0 is no bound.
func widthOf(cmd *cobra.Command, stream any) int {
	if isSet(cmd, wideFlag) {
		return 0
	}
	width, _, _ := sizeOf(stream)
	return width
}

// mostLooks bounds how often show begins anew because a process has ended while it looked.
const mostLooks = 10

func viewOf(name string) (view, error) {
	for looks := 1; ; looks++ {
		o, err := observe(name)
		if err != nil {
			return view{}, err
		}
		v := view{Name: name, Base64: base64Of(name), Kind: o.kind, Free: &o.Value}
		if !o.Recoverable {
			v.OpenIn = openIn(o)
			return v, nil
		}
		v.Limit = &o.Limit
		seen, ended, err := handlesOf(name, o)
		if err != nil {
			return v, err
		}
		if ended && looks < mostLooks {
			continue // the permits that it held are free now
		}
		v.Holders, v.Waiters = []handle{}, []handle{} // not nil: it is known that there are none
		for _, h := range seen {
			if h.Permits > 0 {
				v.Holders = append(v.Holders, h)
			}
			if h.Waiting {
				v.Waiters = append(v.Waiters, h)
			}
		}
		slices.SortStableFunc(v.Holders, func(a, b handle) int { return a.heldFrom().Compare(b.heldFrom()) })
		slices.SortStableFunc(v.Waiters, func(a, b handle) int { return cmp.Compare(a.Place, b.Place) })
		return v, nil
	}
}

// openIn returns the processes that have the file of a bare count open, as far as they can be seen.
func openIn(o observation) []process {
	if runtime.GOOS != "linux" || o.File == nil {
		return nil
	}
	users := []process{} // not nil: there are none
	for _, pid := range proc.UsersOf(o.Path, o.File) {
		if p, err := proc.Look(pid); err == nil {
			users = append(users, processOf(p))
		}
	}
	return users
}

// locksHeldBy looks at one process, and ownersOf at all.
var (
	locksHeldBy = (*proc.Locks).HeldBy
	ownersOf    = (*proc.Locks).Owners
)

// handlesOf finds the processes of handles. It looks at their own entries in /proc first, and
// at those of all other processes only for handles whose process is not there but which
// live on: someone has their lock. ended says that a handle has ended meanwhile.
func handlesOf(name string, o observation) (seen []handle, ended bool, err error) {
	locks := locksOf(o)
	lost := false
	places := placesOf(o)
	for _, h := range o.Handles {
		own := locks.look(h)
		own.Place = places[h.Ticket]
		seen = append(seen, own)
		lost = lost || own.State == stateUnseen
	}
	if !lost {
		return seen, false, nil
	}
	now, err := observe(name)
	if err != nil {
		return nil, false, err
	}
	for i, h := range o.Handles {
		if seen[i].State != stateUnseen {
			continue
		}
		if !slices.ContainsFunc(now.Handles, func(n engine.ObservedHandle) bool { return n.PID == h.PID && n.Opened.Equal(h.Opened) }) {
			ended = true
			continue
		}
		seen[i] = locks.amongOwners(h, seen[i])
	}
	return seen, ended, nil
}

// A lockView says which processes have the lock of a handle.
type lockView struct {
	locks  *proc.Locks // nil: not known
	held   map[int]heldLocks
	owners proc.Owners // nil: nobody has looked at all processes yet
}

// heldLocks are the locks of a process, which may have many handles.
type heldLocks struct {
	bytes proc.Bytes
	err   error
}

func (l *lockView) heldBy(pid int) heldLocks {
	held, known := l.held[pid]
	if !known {
		held.bytes, held.err = locksHeldBy(l.locks, pid)
		l.held[pid] = held
	}
	return held
}

// locksOf finds the locks of the handles of a semaphore; a handle is alive while its lock
// is held. Where locks cannot be seen the view is empty.
func locksOf(o observation) *lockView {
	f, info, err := store.ReadRegular(o.Path)
	if err != nil {
		return &lockView{}
	}
	defer f.Close()
	if !os.SameFile(info, o.File) {
		return &lockView{} // it was removed, and another one made
	}
	locks, err := proc.LocksOf(f, permits.SpareByte)
	if err != nil {
		return &lockView{}
	}
	return &lockView{locks: locks, held: make(map[int]heldLocks)}
}

// look finds the process of a handle under its own id. The id alone proves nothing: ids are
// reused, and each pid namespace has its own.
func (l *lockView) look(h engine.ObservedHandle) handle {
	seen := handle{
		process: process{PID: h.PID, Started: h.Started},
		State:   stateUnseen,
		Opened:  h.Opened,
		Permits: h.Permits,
		Numbers: h.Numbers,
		Waiting: h.Waiting,
		Arrived: h.Arrived,
		Want:    h.Want,
		Label:   h.Label,
		Since:   h.Since,
		atOnce:  h.ByFile,
	}
	if !h.Since.IsZero() {
		waited := h.Waited.Seconds()
		seen.Waited, seen.waited = &waited, h.Waited
	}
	if h.Host != "" {
		seen.Host, seen.State = h.Host, stateRemote
		if h.Lost {
			seen.State = stateLost
		}
		return seen
	}
	// The process with that id may be the handle's if it started when the handle's did or,
	// where the start is not recorded, before the handle was opened.
	p, err := proc.Look(h.PID)
	if err != nil || h.Started.IsZero() && p.Started.After(h.Opened) || !h.Started.IsZero() && !p.StartedAt(h.Started) {
		return seen
	}
	if l.locks != nil && h.LockAt != 0 {
		// It is the handle's if it has the lock. If we may not see its descriptors, it is
		// taken for the handle's.
		held := l.heldBy(h.PID)
		if !errors.Is(held.err, fs.ErrPermission) && !held.bytes.Has(h.LockAt) {
			return seen
		}
	}
	seen.runs(processOf(p))
	return seen
}

// runs notes that the handle's process runs. Of one that is "procsem run" it notes the command.
func (h *handle) runs(p process) {
	h.process, h.State = p, stateRunning
	words, every := commandIn(p.args)
	if words == nil {
		return
	}
	h.Run, h.atOnce = strings.Join(words, " "), !every
	if h.Permits == 0 || h.Waiting {
		return
	}
	for _, pid := range proc.ChildrenOf(p.PID) {
		if child, err := proc.Look(pid); err == nil {
			c := processOf(child)
			h.Child, h.Run, h.atOnce = &c, c.Command, true
			return
		}
	}
}

// commandIn returns the command that "procsem run" was called with, nil if args are of something else, and whether it
// may have had the semaphore open before it wanted a permit (--every).
func commandIn(args []string) (words []string, every bool) {
	if len(args) < 2 || !isProcsem(args[0]) {
		return nil, false
	}
	if args = afterDirectory(args[1:]); len(args) == 0 || args[0] != "run" {
		return nil, false
	}
	run := newRun(&invocation{})
	directoryOption(run.Flags())
	storeOptions(run.Flags())
	if run.ParseFlags(args[1:]) != nil {
		return nil, false
	}
	_, words = splitCommand(run, run.Flags().Args())
	switch {
	case run.Flags().Changed(shellFlag):
		words = []string{text(run, shellFlag)}
	case len(words) > 0 && (words[0] == "--" || words[0] == "-c"):
		words = words[1:]
	}
	if len(words) == 0 {
		return nil, false
	}
	return words, run.Flags().Changed(everyFlag)
}

// isProcsem reports whether a program is procsem, by its name.
func isProcsem(program string) bool {
	name := strings.TrimSuffix(filepath.Base(program), ".exe")
	return name == "procsem" || slices.Contains(slices.Collect(maps.Values(stores)), name) || name == strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe")
}

// placesOf returns the places of tickets in the line, from 1 on.
func placesOf(o observation) map[uint64]int {
	var tickets []uint64
	for _, h := range o.Handles {
		if h.Waiting {
			tickets = append(tickets, h.Ticket)
		}
	}
	slices.Sort(tickets)
	places := make(map[uint64]int, len(tickets))
	for i, t := range tickets {
		places[t] = i + 1
	}
	return places
}

// amongOwners finds the process of a handle among those that have its lock: in a pid
// namespace of its own it has another id for us. If they are others, these have inherited
// the lock, and the process is gone.
func (l *lockView) amongOwners(h engine.ObservedHandle, seen handle) handle {
	if l.locks == nil || h.LockAt == 0 {
		return seen
	}
	if l.owners == nil {
		l.owners = ownersOf(l.locks)
	}
	var others []process
	for _, pid := range l.owners.Of(h.LockAt) {
		p, err := proc.Look(pid)
		switch {
		case err != nil:
		case proc.OwnID(pid) == h.PID && (h.Started.IsZero() || p.StartedAt(h.Started)):
			seen.runs(processOf(p))
			return seen
		default:
			others = append(others, processOf(p))
		}
	}
	if others != nil {
		seen.State, seen.KeptBy = stateGone, others
	}
	return seen
}

// barely says why a bare count shows no holders.
const barely = "A POSIX semaphore is a bare count: nobody can tell who holds a permit of it, or waits for one."

// rows makes the table of a semaphore.
func (v view) rows(row func(cells ...string)) {
	row("name", printable(v.Name))
	row("kind", v.Kind)
	row("limit", number(v.Limit))
	row("free", number(v.Free))
	if v.Holders == nil {
		v.bareRows(row)
		return
	}
	if n := len(v.Holders); n > 0 {
		row("holders", strconv.Itoa(n))
	}
	if n := len(v.Waiters); n > 0 {
		row("waiters", strconv.Itoa(n))
	}
	if len(v.Holders) > 0 {
		row()
		row("HOLDER", "USER", "HELD", "WAITED", "PERMIT", "LABEL", "CHILD", "COMMAND")
	}
	for _, h := range v.Holders {
		child := ""
		if h.Child != nil {
			child = strconv.Itoa(h.Child.PID)
		}
		h.rows(row, h.held(), h.waitedFor(), h.permitText(), printable(orDash(h.Label)), orDash(child))
	}
	if len(v.Waiters) > 0 {
		row()
		row("WAITER", "USER", "PLACE", "WAITING", "WANTS", "LABEL", "COMMAND")
	}
	for _, h := range v.Waiters {
		h.rows(row, strconv.Itoa(h.Place), ago(h.Arrived), permitsText(h.Want), printable(orDash(h.Label)))
	}
}

func (v view) bareRows(row func(cells ...string)) {
	if len(v.OpenIn) > 0 {
		row()
		row("OPEN IN", "USER", "COMMAND")
	}
	for _, p := range v.OpenIn {
		row(strconv.Itoa(p.PID), printable(orDash(p.User)), printable(orDash(p.Command)))
	}
	row()
	row(barely)
}

// rows writes the row of a handle, with those cells between its user and its command.
func (h handle) rows(row func(cells ...string), cells ...string) {
	command := h.what()
	switch h.State {
	case stateGone:
		command = "(gone; these still have its lock:)"
	case stateUnseen:
		command = "(gone, or not to be seen from here; root sees more)"
	}
	line := func(pid, user string, cells []string, command string) {
		row(slices.Concat([]string{pid, printable(orDash(user))}, cells, []string{command})...)
	}
	line(pidText(h.Host, h.PID), h.User, cells, command)
	for _, p := range h.KeptBy {
		line(fmt.Sprintf("  %d", p.PID), p.User, make([]string, len(cells)), printable(orDash(p.Command)))
	}
}

// permitText has the numbers of a holder's permits, or how many there are where they have no numbers.
func (h handle) permitText() string {
	if h.Host != "" {
		return fmt.Sprintf("(%d)", h.Permits)
	}
	return numbersText(h.Numbers)
}

// what says what the handle's process is, without what is procsem's own.
func (h handle) what() string {
	switch {
	case h.State == stateLost:
		return "(lost; its permits come back after a while)"
	case h.State == stateRemote:
		return orDash("")
	case h.Run != "":
		return printable(h.Run)
	}
	return printable(h.Command)
}

// ago returns how long ago a time is, and atMost a bound; 0s if it is in the future.
func ago(t time.Time) string    { return spell(since(t)) }
func atMost(t time.Time) string { return spell(since(t) + time.Second) }

func since(t time.Time) time.Duration { return max(0, time.Since(t)).Truncate(time.Second) }

// takenAtOnce reports whether it is known when the handle took its permits, though that is not noted: that of a
// descriptor did when it was made, and procsem run, which does not gather them yet, when it was opened or, with
// --every, when its command was started.
func (h handle) takenAtOnce() bool { return h.atOnce && !h.Waiting }

// startDoubt is how much later a command may seem to be started than it was.
const startDoubt = 2 * time.Second

// heldFrom returns since when the handle has held a permit, at the earliest.
func (h handle) heldFrom() time.Time {
	switch {
	case !h.Since.IsZero():
		return h.Since
	case h.Child != nil && h.Child.Started.After(h.Opened.Add(startDoubt)):
		return h.Child.Started
	}
	return h.Opened
}

// held returns for how long the handle has held its permit, "<" before it if it is at most so long.
func (h handle) held() string {
	if h.Since.IsZero() && !h.takenAtOnce() {
		return "<" + atMost(h.Opened)
	}
	return ago(h.heldFrom())
}

// waitedFor returns how long the holder had waited.
func (h handle) waitedFor() string {
	switch {
	case h.Waited != nil:
		return spell(h.waited)
	case h.Run != "" && h.takenAtOnce():
		return "0s"
	}
	return orDash("")
}

// spell returns a duration in its two greatest units: 2d3h, 3m5s, 3m, 1.5s, 12ms.
func spell(d time.Duration) string {
	const day = 24 * time.Hour
	for _, step := range []struct{ least, unit time.Duration }{
		{day, time.Hour}, {time.Hour, time.Minute}, {10 * time.Second, time.Second}, {time.Second, time.Second / 10}, {time.Millisecond, time.Millisecond},
	} {
		if d >= step.least {
			d = d.Truncate(step.unit)
			break
		}
	}
	text := ""
	if days := d / day; days > 0 {
		text, d = fmt.Sprintf("%dd", days), d%day
	}
	rest := d.String()
	if d >= time.Minute || text != "" { // 1h0m0s
		for _, zero := range []string{"0s", "0m"} {
			if before, found := strings.CutSuffix(rest, zero); found && (before == "" || strings.HasSuffix(before, "h") || strings.HasSuffix(before, "m")) {
				rest = before
			}
		}
	}
	return text + rest
}

// mostNumbers bounds how many columns the numbers of permits take.
const mostNumbers = 16

// numbersText returns the numbers of permits: 0,3-5.
func numbersText(numbers []int) string {
	var parts []string
	for i := 0; i < len(numbers); {
		j := i
		for j+1 < len(numbers) && numbers[j+1] == numbers[j]+1 {
			j++
		}
		part := strconv.Itoa(numbers[i])
		if j > i {
			part += "-" + strconv.Itoa(numbers[j])
		}
		parts = append(parts, part)
		i = j + 1
	}
	text := strings.Join(parts, ",")
	if len(text) > mostNumbers {
		return fmt.Sprintf("%s,… (%d)", parts[0], len(numbers))
	}
	return orDash(text)
}

// permitsText says how many permits a waiter wants.
func permitsText(n int) string {
	if n == permits.All {
		return "all"
	}
	return strconv.Itoa(n)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
