package command

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/permits"
)

// A command that waits for a permit that is held by what runs it waits for itself. PROCSEM_HELD tells it what
// that is:
//
//	NAME=COUNT@PID.OPENED[/NAME=COUNT@PID.OPENED...]
//
// one for each semaphore, outermost first; no name contains a slash. PID and OPENED (Unix time in ns) are those of the
// handle, as its slot in the semaphore's table says them, and are taken for its identity: a handle of another
// semaphore, of the same name in another directory or after a removal, has others.
//
// What the variable says may be over: a daemon has it that a command has left behind. So it proves nothing by
// itself. What counts is that the table shows the handle, now, as one that holds permits and lives.

// An ancestor is a handle that what runs this procsem has, or had.
type ancestor struct {
	name   string
	count  int
	pid    int
	opened int64
}

func (a ancestor) String() string {
	return fmt.Sprintf("%s=%d@%d.%d", a.name, a.count, a.pid, a.opened)
}

// ancestors returns what the environment says. What is not of the form above is left out.
func ancestors() (all []ancestor) {
	for _, text := range strings.Split(os.Getenv(heldVariable), "/") {
		at := strings.LastIndex(text, "@")
		equals := strings.LastIndex(text[:max(0, at)], "=")
		if equals < 0 {
			continue
		}
		pid, opened, _ := strings.Cut(text[at+1:], ".")
		a := ancestor{name: text[:equals]}
		a.count, _ = strconv.Atoi(text[equals+1 : at])
		a.pid, _ = strconv.Atoi(pid)
		a.opened, _ = strconv.ParseInt(opened, 10, 64)
		if a.String() == text {
			all = append(all, a)
		}
	}
	return all
}

// heldWith returns PROCSEM_HELD for a command that runs with these, "" if there is nothing to say.
func heldWith(all holdings) (string, error) {
	var texts []string
	for _, a := range ancestors() {
		texts = append(texts, a.String())
	}
	for _, h := range all {
		if kindOf(h.s) != kindRecoverable {
			continue // whoever took it, anybody may post
		}
		opened, err := engine.OpenedAt(h.s)
		if err != nil {
			return "", err
		}
		texts = append(texts, ancestor{h.s.Name(), len(h.permit.Slots()), os.Getpid(), opened.UnixNano()}.String())
	}
	return strings.Join(texts, "/"), nil
}

// A lineage is what may hold permits of one semaphore, of all that runs this procsem.
type lineage struct {
	handles []ancestor
	fd      int // of an open file to which procsem lock has given a permit; -1: none
}

func lineageOf(name string) lineage {
	handles := slices.DeleteFunc(ancestors(), func(a ancestor) bool { return a.name != name })
	return lineage{handles, handedToUs(name)}
}

// without says how procsem is called where it is none that the caller waits for: without the descriptor.
func (l lineage) without() string {
	if l.fd < 0 {
		return ""
	}
	return fmt.Sprintf("; of a command that is not waited for, close the descriptor: procsem ... %d>&-", l.fd)
}

func (l lineage) empty() bool { return len(l.handles) == 0 && l.fd < 0 }

// holds returns how many permits it holds, and says who that is.
func (l lineage) holds(o observation) (held int, by string) {
	var whom []string
	for _, h := range o.Handles {
		if h.Permits > 0 && slices.ContainsFunc(l.handles, func(a ancestor) bool {
			return a.pid == h.PID && a.opened == h.Opened.UnixNano()
		}) {
			held += h.Permits
			whom = append(whom, fmt.Sprintf("process %d", h.PID))
		}
	}
	// The permit of an open file comes back when its last descriptor is closed, and procsem has one. If
	// it has several, they may be of one file: they are counted as one.
	if l.fd >= 0 {
		held++
		whom = append(whom, fmt.Sprintf("descriptor %d", l.fd))
	}
	return held, strings.Join(whom, " and ")
}

// selfDeadlock returns an error if a wait for k permits would never end, because so many of the limit are held by what runs
// this procsem, and waits for it, that the others are too few.
func selfDeadlock(s *semaphore.Semaphore, k int) error {
	if kindOf(s) != kindRecoverable {
		return nil
	}
	if free, err := s.Value(); err != nil || k != permits.All && free >= k {
		return nil // it need not wait
	}
	l := lineageOf(s.Name())
	if l.empty() {
		return nil
	}
	o, err := observe(s.Name())
	if err != nil || o.Limit == 0 || k > o.Limit {
		return nil // it waits for a resize, or fails
	}
	held, by := l.holds(o)
	if held == 0 || k != permits.All && o.Limit-held >= k {
		return nil
	}
	what := fmt.Sprintf("the only permit of %q is", s.Name())
	if o.Limit > 1 {
		what = fmt.Sprintf("%d of the %d permits of %q are", held, o.Limit, s.Name())
	}
	wanted, remedy := "", "leave out the inner procsem"
	if k != 1 {
		wanted = fmt.Sprintf(", -k %s", permitsText(k))
	}
	if k != permits.All {
		remedy += fmt.Sprintf(", or raise the limit: %s resize %s %d", toType(), s.Name(), held+k)
	}
	return &failure{statusDeadlock, fmt.Errorf("%s held by %s, for which this procsem runs%s: it would wait for itself for ever; %s%s", what, by, wanted, remedy, l.without())}
}
