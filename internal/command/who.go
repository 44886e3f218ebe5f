package command

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/procsem/semaphore/internal/engine"
)

// Lines that name holders: of a wait, of giving up, of what cannot be removed.

// A named is a process as a line names it: 4711 (make -j2) for 3m.
type named struct {
	host   string // "" if it is on this machine
	pid    int
	what   string    // its label, or its command; "": not known
	from   time.Time // since when it holds; zero: it only has the semaphore open
	atMost bool      // or later than that
}

// who returns the number and what it is, of which it cuts off all but so many columns.
func (n named) who(most int) string {
	who := pidText(n.host, n.pid)
	if n.what == "" {
		return who
	}
	return fmt.Sprintf("%s (%s)", who, cut(n.what, most))
}

func (n named) text(most int) string {
	switch {
	case n.from.IsZero():
		return n.who(most)
	case n.atMost:
		return n.who(most) + " for less than " + atMost(n.from)
	}
	return n.who(most) + " for " + ago(n.from)
}

// pidText is a process id, after the machine's name if there is one.
func pidText(host string, pid int) string {
	if host == "" {
		return strconv.Itoa(pid)
	}
	return printable(host) + ":" + strconv.Itoa(pid)
}

// mostCommand bounds how many columns a command takes in a line.
const mostCommand = 40

// nameOf names a process by its number, and by its label or else its command.
func nameOf(h handle) named {
	pid, what := h.PID, h.Label
	if what == "" && h.Host == "" {
		what = h.what()
	}
	if h.State == stateGone {
		pid, what = h.KeptBy[0].PID, h.KeptBy[0].Command
	}
	n := named{host: h.Host, pid: pid, what: printable(what)}
	if h.Permits > 0 {
		n.from, n.atMost = h.heldFrom(), h.Since.IsZero() && !h.takenAtOnce()
	}
	return n
}

// A crowd is the processes that hold permits, as a line names them.
type crowd struct {
	first  []named
	others int
}

// clause puts words before the names, if there are any.
func (c crowd) clause(words string, most int) string {
	if len(c.first) == 0 {
		return ""
	}
	var texts []string
	for _, n := range c.first {
		texts = append(texts, n.text(most))
	}
	words += strings.Join(texts, ", ")
	if c.others > 0 {
		words += fmt.Sprintf(" and %d more", c.others)
	}
	return words
}

// holdersOf names those of the handles that hold permits, but for own: the first few of them, which have held
// for longest.
func holdersOf(o observation, own *engine.ObservedHandle, most int) (c crowd) {
	var holders []engine.ObservedHandle
	for _, h := range o.Handles {
		if h.Permits > 0 && (own == nil || h.Host != "" || h.PID != own.PID || !h.Opened.Equal(own.Opened)) {
			holders = append(holders, h)
		}
	}
	slices.SortFunc(holders, func(a, b engine.ObservedHandle) int { return heldSince(a).Compare(heldSince(b)) })
	c.others = max(0, len(holders)-most)
	var locks *lockView
	for i, h := range holders[:min(most, len(holders))] {
		if i == 0 {
			locks = locksOf(o)
		}
		seen := locks.look(h)
		if seen.State == stateUnseen {
			seen = locks.amongOwners(h, seen)
		}
		c.first = append(c.first, nameOf(seen))
	}
	return c
}

// heldSince returns since when a handle has held a permit, at the earliest. It is known when it took the last one
// only if it had to wait for it; that it was opened was before that.
func heldSince(h engine.ObservedHandle) time.Time {
	if h.Since.IsZero() {
		return h.Opened
	}
	return h.Since
}

// mostNamed is how many holders the line of a wait that was given up names.
const mostNamed = 3

// heldBy says who holds permits of a recoverable semaphore, or why nobody can, "" if that is not known.
func heldBy(name string) string {
	if cluster != nil {
		return storeHeldBy(name)
	}
	o, err := observe(name)
	return heldText(o, err)
}

// storeHeldBy is heldBy of a store that may not answer.
func storeHeldBy(name string) string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	o, err := observeStoredUntil(ctx, name)
	return heldText(o, err)
}

func heldText(o observation, err error) string {
	if err != nil || !o.Recoverable {
		return ""
	}
	text := holdersOf(o, nil, mostNamed).clause("; held by ", mostCommand)
	if o.Limit == 0 {
		text += "; the limit is 0"
	}
	return text
}
