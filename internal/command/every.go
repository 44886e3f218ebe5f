package command

import (
	"errors"
	"os/exec"
	"strings"
	"time"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
	"github.com/spf13/cobra"
)

// everyOf returns the time of --every, 0 without it.
func everyOf(cmd *cobra.Command, o opener) (time.Duration, error) {
	if !cmd.Flags().Changed(everyFlag) {
		return 0, nil
	}
	every, err := parsed(cmd, everyFlag, parseTime)
	switch {
	case err != nil:
	case every == 0:
		err = usageError(cmd.CommandPath(), "--every %s: a time of more than 0 is allowed", text(cmd, everyFlag))
	case o.posix:
		err = usageError(cmd.CommandPath(), "--every and --posix; only the files of recoverable semaphores keep the time of the last start")
	}
	return every, err
}

// takeEvery waits for all permits and for a moment at which a start under the name of main is allowed, and notes
// the start. Nothing is noted if usable finds that the command cannot be started.
//
// While it waits for the time it holds no permit, which would keep others of that name from running, and has no
// place in their order. When it is time it waits for a permit as all do. By the time that it has one another
// process may have started; then it gives the permit back, and waits for the time again. So the start is noted
// when it begins, by one process at a time, and there are never two within the period. Nobody is told when it is
// time, and the clock may be set, or the machine sleep, so it looks again every second.
func (all holdings) takeEvery(main *semaphore.Semaphore, every time.Duration, p patience, w *watcher, t *teller, usable func() error) error {
	began := time.Now()
	for {
		left, err := engine.StartEvery(main, every, false)
		if err != nil {
			return err
		}
		rest := p.after(began)
		if left > 0 {
			if rest.limit != forEver && left > rest.limit {
				return p.tooEarly(main.Name(), every, left)
			}
			if err := all.neverCome(rest); err != nil {
				return err // now, and not when it is time
			}
			t.turnTo(main.Name(), 1, 0)
			t.start.Store(time.Now().Add(left).Unix())
			if err := w.pause(min(left, time.Second)); err != nil {
				return err
			}
			continue
		}
		t.start.Store(0)
		if err := all.take(rest, w, t); err != nil {
			return err
		}
		if err = usable(); err == nil {
			left, err = engine.StartEvery(main, every, true)
		}
		if err == nil && left == 0 {
			return nil
		}
		if err := errors.Join(err, all.giveBack()); err != nil {
			return err
		}
	}
}

// after returns what is left of the patience with which a wait began.
func (p patience) after(began time.Time) patience {
	if p.limit != forEver {
		p.limit = max(0, p.limit-time.Since(began)).Round(time.Millisecond)
	}
	return p
}

// tooEarly is the error of a start that is not allowed yet, and will not be as long as the patience lasts.
func (p patience) tooEarly(name string, every, left time.Duration) error {
	at, layout := time.Now().Add(left), time.TimeOnly
	if left > 12*time.Hour {
		layout = time.DateTime
	}
	ago := (every - left).Round(time.Second)
	return p.gaveUp("the last start under %q was %v ago, and --every %s allows the next one at %s, in %s", name, ago, short(every), at.Format(layout), short(roundedUp(left)))
}

// short is a time as people write it: 1h, not 1h0m0s.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// roundedUp returns a time that is not less, in whole seconds if it is more than a few.
func roundedUp(d time.Duration) time.Duration {
	unit := time.Millisecond
	if d > 10*time.Second {
		unit = time.Second
	}
	down := d.Truncate(unit)
	if up := down + unit; down < d && up > d { // it does not overflow
		return up
	}
	return d
}

// unusable returns the error of a command that cannot be started, as far as that is known before it is tried.
func unusable(command *exec.Cmd) error {
	if command.Err == nil || errors.Is(command.Err, exec.ErrDot) {
		return nil
	}
	return startError(command.Args[0], command.Err)
}
