package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/procsem/semaphore"
	"github.com/spf13/cobra"
)

// A patience is how long to wait for a permit, and the exit status after that.
type patience struct {
	limit  time.Duration // or forEver
	asked  time.Duration // what limit was before some of it was used up
	status int
	quiet  bool // the status says enough
}

const forEver time.Duration = -1

// gaveUp is the error of a wait that was given up.
func (p patience) gaveUp(format string, args ...any) error {
	if p.quiet {
		return commandStatus(p.status)
	}
	return &failure{p.status, fmt.Errorf(format, args...)}
}

// exhausted is the error of a wait for k permits.
func (p patience) exhausted(name string, k int) error {
	what := "no permit"
	switch {
	case k == semaphore.All:
		what = "not all permits"
	case k > 1:
		what = fmt.Sprintf("no %d permits", k)
	}
	verb := "is"
	if k != 1 {
		verb = "are"
	}
	if p.quiet {
		return p.gaveUp("")
	}
	if p.asked == 0 {
		return p.gaveUp("%s of %q %s free%s", what, name, verb, heldBy(name))
	}
	return p.gaveUp("%s of %q within %v%s", what, name, p.asked, heldBy(name))
}

// openPatiently opens the semaphore, and waits for a slot of a full table as for a permit. It
// returns what is left of the patience.
//
// Nobody is told when a slot becomes free, so it tries again, at growing intervals: a try
// asks for up to 4096 locks, and keeps others from opening meanwhile.
func openPatiently(o opener, p patience, w *watcher, t *teller) (s *semaphore.Semaphore, existed bool, left patience, err error) {
	const shortest, longest = 10 * time.Millisecond, 250 * time.Millisecond
	start := time.Now()
	left = p
	if cluster != nil {
		s, err = openStoredPatiently(o, p, w)
		left.limit = left.after(start).limit
		t.opened.Store(time.Now().UnixNano())
		return s, false, left, err
	}
	for pause := shortest; ; pause = min(2*pause, longest) {
		s, existed, err = o.open()
		if !errors.Is(err, semaphore.ErrTableFull) {
			t.opened.Store(time.Now().UnixNano())
			t.full.Store(false)
			return s, existed, left, err
		}
		t.full.Store(true)
		if p.limit != forEver {
			left.limit = max(0, p.limit-time.Since(start))
			if left.limit == 0 {
				return nil, false, left, p.gaveUp("no permit of %q: %w%s", o.name, reasonOf(err), heldBy(o.name))
			}
			pause = min(pause, left.limit)
		}
		if err := w.pause(pause); err != nil {
			return nil, false, left, err
		}
	}
}

// pause waits for that long, or until a signal comes. A signal of endSignals is the error signalled;
// others are kept for the command.
func (w *watcher) pause(d time.Duration) error {
	select {
	case sig := <-w.arrived:
		if ends(sig) {
			return signalled{sig}
		}
		w.early = append(w.early, sig)
	case <-time.After(d):
	}
	return nil
}

// awaitIdle waits until nobody holds a permit of a recoverable semaphore, or waits for one. Nobody is
// told when that is so, so it looks, at growing intervals. A name that was there at the first look and is
// removed before the next one, by unlink --idle say, is idle: nobody uses it.
func (inv *invocation) awaitIdle(cmd *cobra.Command, name string, p patience, w *watcher) error {
	const shortest, longest = 5 * time.Millisecond, 250 * time.Millisecond
	start := time.Now()
	l := lineage{fd: -1}
	if p.limit != 0 && cluster == nil {
		l = lineageOf(name)
	}
	t := inv.speak(cmd, name, 1, idleScene)
	defer t.end()
	seen := false
	var gravedigger *semaphore.Semaphore
	defer func() {
		if gravedigger != nil {
			gravedigger.Close()
		}
	}()
	for pause := shortest; ; pause = min(2*pause, longest) {
		o, err := observeUnlessSignalled(name, w)
		switch {
		case seen && errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case !o.Recoverable:
			return &failure{statusDataErr, fmt.Errorf("%q is a POSIX semaphore, a bare count, whose holders and waiters are not known", name)}
		case len(o.Handles) == 0:
			return nil
		}
		seen = true
		if cluster != nil {
			if err := bury(o, w, &gravedigger); err != nil {
				return err
			}
		}
		if held, by := l.holds(o); held > 0 {
			return &failure{statusDeadlock, fmt.Errorf("%q is held by %s, for which this procsem runs: it would wait for itself for ever; wait outside of it%s", name, by, l.without())}
		}
		if p.limit != forEver {
			left := p.limit - time.Since(start)
			if left <= 0 {
				return p.gaveUp("%q is in use: %s", name, usersOf(o))
			}
			pause = min(pause, left)
		}
		if err := w.pause(pause); err != nil {
			return err
		}
	}
}

// idleScene looks at a wait until a semaphore is idle.
func idleScene(t *teller) scene {
	began := time.Now()
	s := scene{name: t.subject.Load().name, what: "waiting until nobody uses it"}
	if o, err := observe(s.name); err == nil {
		if _, waiters := o.count(); waiters > 0 {
			s.what += " (" + waitingText(waiters) + ")"
		}
		s.holders, s.rest = holdersOf(o, nil, 1), restAfter(o, began)
	}
	return s
}

// usersOf says who holds permits, and how many wait.
func usersOf(o observation) string {
	holders, waiters := o.count()
	text := holdersOf(o, nil, mostNamed).clause("held by ", mostCommand)
	switch {
	case holders == 0:
		return waitingText(waiters)
	case waiters > 0:
		text += "; " + waitingText(waiters)
	}
	return text
}

func waitingText(waiters int) string {
	if waiters == 1 {
		return "1 waits"
	}
	return fmt.Sprintf("%d wait", waiters)
}

// take waits for k permits. A signal of endSignals ends the wait with the error
// signalled, and no permit is held then.
func take(s *semaphore.Semaphore, k int, p patience, w *watcher) (*semaphore.Permit, error) {
	return unlessSignalled(w, func(ctx context.Context) (*semaphore.Permit, error) {
		if cluster != nil {
			// A try has no context, and the store may not answer.
			defer context.AfterFunc(ctx, func() { s.Close() })()
		}
		return acquire(ctx, s, k, p)
	}, (*semaphore.Permit).Release)
}

// orSignal calls get, and returns at once when a signal of endSignals comes, whatever becomes of that.
func orSignal[T any](w *watcher, get func() (T, error)) (got T, err error) {
	done := make(chan struct{})
	var result T
	var failed error
	go func() {
		defer close(done)
		result, failed = get()
	}()
	for {
		select {
		case <-done:
			return result, failed
		case sig := <-w.arrived:
			if ends(sig) {
				return got, signalled{sig}
			}
			w.early = append(w.early, sig)
		}
	}
}

// unlessSignalled calls get. A signal of endSignals ends that with the error signalled; what it has got at that moment is
// given back.
func unlessSignalled[T any](w *watcher, get func(context.Context) (T, error), giveBack func(T) error) (none T, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	type result struct {
		got T
		err error
	}
	done := make(chan result, 1)
	go func() {
		got, err := get(ctx)
		done <- result{got, err}
	}()

	var ended os.Signal
	for {
		select {
		case sig := <-w.arrived:
			if !ends(sig) {
				w.early = append(w.early, sig)
			} else if ended == nil {
				ended = sig
				cancel()
			}
		case r := <-done:
			switch {
			case ended == nil:
				return r.got, r.err
			case r.err == nil:
				if err := giveBack(r.got); err != nil {
					return none, err
				}
			}
			return none, signalled{ended}
		}
	}
}

func acquire(ctx context.Context, s *semaphore.Semaphore, k int, p patience) (permit *semaphore.Permit, err error) {
	defer func() {
		if errors.Is(err, semaphore.ErrInvalidValue) {
			limit, _ := s.Limit()
			err = &failure{statusUsage, fmt.Errorf("-k %d is more than the limit of %q, %d", k, s.Name(), limit)}
		}
	}()
	if p.limit != forEver {
		// A free permit is taken, however short the timeout is, but of a store, which may not answer in time.
		if cluster == nil || p.limit == 0 {
			permit, err := s.TryAcquireN(k)
			if !errors.Is(err, semaphore.ErrWouldBlock) {
				return permit, err
			}
		}
		if p.limit == 0 {
			return nil, p.exhausted(s.Name(), k)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.limit)
		defer cancel()
	}
	permit, err = s.AcquireN(ctx, k)
	if err == context.DeadlineExceeded {
		err = p.exhausted(s.Name(), k)
	}
	return permit, err
}
