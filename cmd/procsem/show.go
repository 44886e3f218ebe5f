package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/proc"
	"github.com/urfave/cli/v3"
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
	KeptBy  []process `json:"kept_by,omitempty"`
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

func (inv *invocation) show(_ context.Context, cmd *cli.Command) error {
	return withExisting(cmd, openExisting, func(s *semaphore.Semaphore) error {
		v, err := viewOf(s)
		if err != nil {
			return err
		}
		if cmd.Bool(jsonFlag) {
			return writeJSON(inv.stdout, v)
		}
		return inv.print(v)
	})
}

func viewOf(s *semaphore.Semaphore) (view, error) {
	v := view{Name: s.Name(), Base64: base64Of(s.Name()), Kind: kindOf(s)}
	if v.Kind != kindRecoverable {
		n, err := s.Value()
		v.Free = known(n, err)
		return v, err
	}
	c, err := count(s)
	if err != nil {
		return v, err
	}
	v.Limit, v.Free = &c.limit, &c.free
	v.Holders, v.Waiters = []handle{}, []handle{} // not nil: it is known that there are none
	locks := locksOf(s)
	var now []semaphore.Holder // the holders read again, if that is needed
	for _, h := range c.handles {
		seen := locks.look(h)
		if seen.State == stateUnseen {
			// It may have ended since the handles were read.
			if now == nil {
				if now, err = s.Holders(); err != nil {
					return v, err
				}
			}
			if !slices.ContainsFunc(now, func(n semaphore.Holder) bool { return n.PID == h.PID && n.Opened.Equal(h.Opened) }) {
				continue
			}
		}
		if h.Permits > 0 {
			v.Holders = append(v.Holders, seen)
		}
		if h.Waiting {
			v.Waiters = append(v.Waiters, seen)
		}
	}
	return v, nil
}

// A lockView says which processes have the lock of a handle.
type lockView struct {
	table *permits.Table
	locks *proc.Locks // nil: not known
}

// locksOf finds the processes that have the locks of the handles of s; a handle is
// alive while its lock is held. Where locks cannot be seen the view is empty.
func locksOf(s *semaphore.Semaphore) lockView {
	f, err := s.LockFile()
	if err != nil {
		return lockView{}
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return lockView{}
	}
	locks, err := proc.LocksOf(info)
	if err != nil || !ownLockIn(locks) {
		return lockView{}
	}
	// The table is read after the locks. If it were older, the lock of a new handle
	// could be attributed to the handle that had the slot before.
	table, err := permits.Read(f)
	if err != nil {
		return lockView{}
	}
	return lockView{table, locks}
}

// ownLockIn reports whether the lock of our own handle was seen. If not, the kernel
// does not show locks, and those of other processes were not seen either.
func ownLockIn(locks *proc.Locks) bool {
	for _, pids := range locks.Owners {
		if slices.Contains(pids, os.Getpid()) {
			return true
		}
	}
	return false
}

// owners returns the visible processes that have the lock of a handle.
func (l lockView) owners(h semaphore.Holder) []int {
	if l.locks == nil {
		return nil
	}
	at, ok := l.table.LockOf(h.PID, h.Opened.UnixNano())
	if !ok {
		return nil
	}
	return l.locks.Owners[at]
}

// look finds the process of a handle. The process id alone proves nothing: ids are
// reused, and each pid namespace has its own.
func (l lockView) look(h semaphore.Holder) handle {
	seen := handle{
		process: process{PID: h.PID, Started: h.Started},
		State:   stateUnseen,
		Opened:  h.Opened,
		Permits: h.Permits,
		Waiting: h.Waiting,
	}
	var others []process
	for _, pid := range l.owners(h) {
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
		return seen
	}
	if l.locks != nil && !l.locks.Hidden[h.PID] {
		return seen // if it ran, we would have seen it have the lock
	}
	// Without locks, the process with that id is the handle's if it started when the
	// handle's did or, where the start is not recorded, before the handle was opened.
	p, err := proc.Look(h.PID)
	if err == nil && (h.Started.IsZero() && !p.Started.After(h.Opened) || !h.Started.IsZero() && p.StartedAt(h.Started)) {
		seen.process, seen.State = process(p), stateRunning
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
			row("HOLDER", "USER", "AGE", "PERMITS", "COMMAND")
		}
		for _, h := range v.Holders {
			h.print(row, strconv.Itoa(h.Permits))
		}
		if len(v.Waiters) > 0 {
			row()
			row("WAITER", "USER", "AGE", "", "COMMAND")
		}
		for _, h := range v.Waiters {
			h.print(row, "")
		}
	})
}

func (h handle) print(row func(cells ...string), permits string) {
	command := printable(h.Command)
	switch h.State {
	case stateGone:
		command = "(gone; these still have its lock:)"
	case stateUnseen:
		command = "(gone, or not to be seen from here; root sees more)"
	}
	age := max(0, time.Since(h.Opened)).Truncate(time.Second)
	row(strconv.Itoa(h.PID), printable(orDash(h.User)), age.String(), permits, command)
	for _, p := range h.KeptBy {
		row(fmt.Sprintf("  %d", p.PID), printable(orDash(p.User)), "", "", printable(orDash(p.Command)))
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
