package command

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A holding is what run is to hold of one semaphore, and then what it holds.
type holding struct {
	opener
	option  string // --also and its argument, "" of NAME
	k       int    // permits
	s       *semaphore.Semaphore
	opened  int64             // when that was, Unix time in ns
	unwatch func()            // of watchName
	permit  *semaphore.Permit // nil: none yet
}

// holdings are those of one run, in ascending order of their names. NAME's is among them.
//
// Two that use the same names cannot wait for each other: everything that one waits for has its place in one order,
// which is the same for all of them, and each waits only for what comes after all that it has. That is,
// in this order: the slots of the tables, by name (a full table is waited for, too), and then the permits, by
// name. Several permits of one name are one thing, which is taken all or nothing.
type holdings []*holding

// holdingsOf returns what NAME and the flags ask for.
func holdingsOf(cmd *cobra.Command, main *holding) (holdings, error) {
	also := cmd.Flags().Lookup(alsoFlag).Value.(pflag.SliceValue).GetSlice()
	if len(also) > 0 && main.posix {
		return nil, usageError(cmd.CommandPath(), "--also and --posix; only recoverable semaphores can be taken together, for their permits come back by themselves")
	}
	all := holdings{main}
	for _, given := range also {
		var err error
		h := &holding{opener: opener{limit: 1, mode: main.mode, label: main.label}, option: "--also " + given, k: 1}
		name := given
		// The last "=", as a name may contain one.
		if i := strings.LastIndex(given, "="); i >= 0 {
			name, h.limited = given[:i], true
			if h.limit, err = parseLimit(1, permits.MaxPermits)("--also "+given+": the limit", given[i+1:]); err != nil {
				return nil, usageError(cmd.CommandPath(), "%w", err)
			}
		}
		if h.name, err = cleanName(cmd, name); err != nil {
			return nil, err
		}
		switch i := slices.IndexFunc(all, func(other *holding) bool { return other.name == h.name }); {
		case i == 0:
			return nil, usageError(cmd.CommandPath(), "--also %s: that is the NAME, too; -k 2 takes two permits of it", given)
		case i > 0:
			return nil, usageError(cmd.CommandPath(), "--also %s: %q is there twice; one --also for each name is allowed", given, h.name)
		}
		all = append(all, h)
	}
	slices.SortFunc(all, func(a, b *holding) int { return cmp.Compare(a.name, b.name) })
	return all, nil
}

// open opens the semaphores. It returns what is left of the patience. Those that are open are closed by
// end, also if it fails.
func (all holdings) open(inv *invocation, cmd *cobra.Command, p patience, w *watcher, t *teller) (patience, error) {
	for _, h := range all {
		t.turnTo(h.name, h.k, 0)
		fresh := cluster == nil && !h.exists()
		var existed bool
		var err error
		if h.s, existed, p, err = openPatiently(h.opener, p, w, t); err != nil {
			return p, err
		}
		h.opened = t.opened.Load()
		h.unwatch = inv.watchName(h.s)
		if fresh && !existed {
			inv.noticeMode(cmd, h.s, h.mode)
		}
		if h.limited {
			inv.noticeLimit(h.s, existed, h.limit, cmp.Or(h.option, fmt.Sprint("-n ", h.limit)))
		}
	}
	return p, nil
}

// take takes the permits, or says why not. What it has taken by then is given back by end.
func (all holdings) take(p patience, w *watcher, t *teller) error {
	start := time.Now()
	if err := all.neverCome(p); err != nil {
		return err // none is taken
	}
	for _, h := range all {
		t.turnTo(h.name, h.k, h.opened)
		var err error
		if h.permit, err = take(h.s, h.k, p.after(start), w); err != nil {
			return err
		}
	}
	return nil
}

// neverCome returns an error if some of the permits will never come, and would be waited for.
func (all holdings) neverCome(p patience) error {
	if p.limit == 0 {
		return nil
	}
	for _, h := range all {
		if err := selfDeadlock(h.s, h.k); err != nil {
			return err
		}
	}
	return nil
}

// giveBack gives back what is held.
func (all holdings) giveBack() (err error) {
	for _, h := range slices.Backward(all) {
		if h.permit != nil {
			err = errors.Join(err, h.permit.Release())
			h.permit = nil
		}
	}
	return err
}

// end gives back what is held, and closes the semaphores. A store may not answer: then it takes as long as the permits are held, or until
// another signal comes, and they come back by themselves.
func (all holdings) end(inv *invocation, w *watcher) {
	if cluster == nil {
		all.close(inv)
		return
	}
	ended := make(chan struct{})
	go func() { all.close(inv); close(ended) }()
	for {
		select {
		case <-ended:
			return
		case sig := <-w.arrived:
			if ends(sig) {
				return
			}
		}
	}
}

func (all holdings) close(inv *invocation) {
	switch err := all.giveBack(); {
	case err == nil, inv.lost:
	case errors.Is(err, semaphore.ErrLost) && inv.heldToEnd:
		complain(inv.notices, "the permit comes back by itself: %s does not answer", clusterBy)
	case errors.Is(err, semaphore.ErrLost):
		complain(inv.stderr, "the permit was lost before the command had ended: more than the limit may have run at a time (%v)", err)
	default:
		complain(inv.stderr, "the permit could not be given back: %v", err)
	}
	for _, h := range all {
		if h.s != nil {
			h.unwatch()
			h.s.Close() // see takeAndKeep
		}
	}
}

// semaphores returns those that are open.
func (all holdings) semaphores() (open []*semaphore.Semaphore) {
	for _, h := range all {
		open = append(open, h.s)
	}
	return open
}
