package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
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
	Holders []handle `json:"holders"` // nil: not known
	Waiters []handle `json:"waiters"`
}

type handle struct {
	process
	State   string    `json:"state"`
	Opened  time.Time `json:"opened"`
	Permits int       `json:"permits"`
	Waiting bool      `json:"waiting"`
	Want    int       `json:"want"` // -1: all; 0 if it does not wait
	Label   string    `json:"label,omitempty"`
	Since   time.Time `json:"since,omitzero"`           // zero: not known, and so is Waited
	Waited  *float64  `json:"waited_seconds,omitempty"` // of waited
	KeptBy  []process `json:"kept_by,omitempty"`
	waited  time.Duration
}

type process struct {
	PID     int       `json:"pid"`
	Command string    `json:"command,omitempty"`
	User    string    `json:"user,omitempty"`
	Started time.Time `json:"started,omitzero"`
}

// The states of a handle's process.
const (
	stateRunning = "running"
	stateGone    = "gone"   // ended, but other processes have its lock
	stateUnseen  = "unseen" // not found, and no process that we can see has its lock
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
	return inv.print(v)
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
		return v, nil
	}
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
	for _, h := range o.Handles {
		own := locks.look(h)
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
	var owners proc.Owners
	for i, h := range o.Handles {
		if seen[i].State != stateUnseen {
			continue
		}
		if !slices.ContainsFunc(now.Handles, func(n engine.ObservedHandle) bool { return n.PID == h.PID && n.Opened.Equal(h.Opened) }) {
			ended = true
			continue
		}
		if locks.locks == nil || h.LockAt == 0 {
			continue
		}
		if owners == nil {
			owners = ownersOf(locks.locks)
		}
		seen[i] = amongOwners(h, seen[i], owners.Of(h.LockAt))
	}
	return seen, ended, nil
}

// A lockView says which processes have the lock of a handle.
type lockView struct {
	locks *proc.Locks // nil: not known
	held  map[int]heldLocks
}

// heldLocks are the locks of a process, which may have many handles.
type heldLocks struct {
	bytes proc.Bytes
	err   error
}

func (l lockView) heldBy(pid int) heldLocks {
	held, known := l.held[pid]
	if !known {
		held.bytes, held.err = locksHeldBy(l.locks, pid)
		l.held[pid] = held
	}
	return held
}

// locksOf finds the locks of the handles of a semaphore; a handle is alive while its lock
// is held. Where locks cannot be seen the view is empty.
func locksOf(o observation) lockView {
	f, info, err := store.ReadRegular(o.Path)
	if err != nil {
		return lockView{}
	}
	defer f.Close()
	if !os.SameFile(info, o.File) {
		return lockView{} // it was removed, and another one made
	}
	locks, err := proc.LocksOf(f, permits.SpareByte)
	if err != nil {
		return lockView{}
	}
	return lockView{locks, make(map[int]heldLocks)}
}

// look finds the process of a handle under its own id. The id alone proves nothing: ids are
// reused, and each pid namespace has its own.
func (l lockView) look(h engine.ObservedHandle) handle {
	seen := handle{
		process: process{PID: h.PID, Started: h.Started},
		State:   stateUnseen,
		Opened:  h.Opened,
		Permits: h.Permits,
		Waiting: h.Waiting,
		Want:    h.Want,
		Label:   h.Label,
		Since:   h.Since,
	}
	if !h.Since.IsZero() {
		waited := h.Waited.Seconds()
		seen.Waited, seen.waited = &waited, h.Waited
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
	seen.process, seen.State = process(p), stateRunning
	return seen
}

// amongOwners finds the process of a handle among those that have its lock: in a pid
// namespace of its own it has another id for us. If they are others, these have inherited
// the lock, and the process is gone.
func amongOwners(h engine.ObservedHandle, seen handle, pids []int) handle {
	var others []process
	for _, pid := range pids {
		p, err := proc.Look(pid)
		switch {
		case err != nil:
		case proc.OwnID(pid) == h.PID && (h.Started.IsZero() || p.StartedAt(h.Started)):
			seen.process, seen.State = process(p), stateRunning
			return seen
		default:
			others = append(others, process(p))
		}
	}
	if others != nil {
		seen.State, seen.KeptBy = stateGone, others
	}
	return seen
}

func (inv *invocation) print(v view) error {
	return writeTable(inv.stdout, func(row func(cells ...string)) {
		row("name", printable(v.Name))
		row("kind", v.Kind)
		row("limit", number(v.Limit))
		row("free", number(v.Free))
		if v.Holders == nil {
			return // bare counts
		}
		if len(v.Holders) > 0 {
			row()
			row("HOLDER", "USER", "AGE", "HELD", "WAITED", "PERMITS", "LABEL", "COMMAND")
		}
		for _, h := range v.Holders {
			h.print(row, h.held(), h.waitedFor(), strconv.Itoa(h.Permits))
		}
		if len(v.Waiters) > 0 {
			row()
			row("WAITER", "USER", "AGE", "WANTS", "LABEL", "COMMAND")
		}
		for _, h := range v.Waiters {
			h.print(row, permitsText(h.Want))
		}
	})
}

// print writes the row of a handle: between its age and its label those cells.
func (h handle) print(row func(cells ...string), cells ...string) {
	command := printable(h.Command)
	switch h.State {
	case stateGone:
		command = "(gone; these still have its lock:)"
	case stateUnseen:
		command = "(gone, or not to be seen from here; root sees more)"
	}
	line := func(pid, user, age string, cells []string, label, command string) {
		row(slices.Concat([]string{pid, printable(orDash(user)), age}, cells, []string{label, command})...)
	}
	line(strconv.Itoa(h.PID), h.User, ago(h.Opened), cells, printable(orDash(h.Label)), command)
	for _, p := range h.KeptBy {
		line(fmt.Sprintf("  %d", p.PID), p.User, "", make([]string, len(cells)), "", printable(orDash(p.Command)))
	}
}

// ago returns how long ago a time is, to a second; 0s if it is in the future.
func ago(t time.Time) string { return max(0, time.Since(t)).Truncate(time.Second).String() }

func (h handle) held() string {
	if h.Since.IsZero() {
		return orDash("")
	}
	return ago(h.Since)
}

// waitedFor returns how long the holder had waited, to a thousandth of a second if it was more than that.
func (h handle) waitedFor() string {
	if h.Waited == nil {
		return orDash("")
	}
	if h.waited < time.Millisecond {
		return h.waited.Truncate(time.Microsecond).String()
	}
	return h.waited.Truncate(time.Millisecond).String()
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
