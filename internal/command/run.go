package command

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/procsem/semaphore"
	"github.com/spf13/cobra"
)

func (inv *invocation) run(cmd *cobra.Command, args []string) (err error) {
	args, words := splitCommand(cmd, args)
	name, err := oneName(cmd, args)
	if err != nil {
		return err
	}
	o, err := openerOf(cmd, name, 1)
	if err != nil {
		return err
	}
	if o.label, err = parsed(cmd, labelFlag, parseLabel); err != nil {
		return err
	}
	if o.posix && cmd.Flags().Changed(labelFlag) {
		return usageError(cmd.CommandPath(), "--label and --posix; only recoverable semaphores keep labels")
	}
	p, err := patienceOf(cmd)
	if err != nil {
		return err
	}
	k, err := permitsOf(cmd, o)
	if err != nil {
		return err
	}
	every, err := everyOf(cmd, o)
	if err != nil {
		return err
	}
	newCommand, err := commandOf(cmd, name, words)
	if err != nil {
		return err
	}
	main := &holding{opener: o, k: k}
	all, err := holdingsOf(cmd, main)
	if err != nil {
		return err
	}
	if isSet(cmd, noForkFlag) {
		// procsem would not be left to give the permit back.
		switch {
		case o.posix:
			return usageError(cmd.CommandPath(), "--no-fork and --posix; only the permits of recoverable semaphores come back by themselves")
		case isSet(cmd, closeFlag):
			return usageError(cmd.CommandPath(), "--no-fork and --close; without procsem it is the command that has to keep the lock")
		case cmd.Flags().Changed(maxHoldFlag):
			return usageError(cmd.CommandPath(), "--no-fork and --max-hold; without procsem nobody is left to end the command")
		case !canBecome:
			return &failure{statusUnavailable, errors.New("--no-fork: a process cannot become another program on " + runtime.GOOS)}
		}
	}
	bound, err := boundOf(cmd)
	if err != nil {
		return err
	}

	var link *link
	if isSet(cmd, bgFlag) {
		if !canDetach {
			return &failure{statusUnavailable, errors.New("--bg: not on " + runtime.GOOS + "; \"start /b procsem run\", without --bg, runs it in the background, too")}
		}
		if link, err = newLink(); err != nil {
			return err
		}
	}

	// Signals are caught before the permit is taken, so that at no moment a signal
	// can kill procsem while it holds the permit.
	w := watch(slices.Concat(endSignals, childSignals))
	if isSet(cmd, bgFlag) && link == nil {
		return inv.detach(w)
	}
	link.watch(w)
	l, err := newLeash()
	if err != nil {
		return err
	}
	if !o.limited && k > o.limit {
		switch there, err := o.isMade(w); {
		case err != nil:
			return err
		case !there:
			return usageError(cmd.CommandPath(), "-k %d: %q does not exist, and without -n a new one has a limit of %d", k, name, o.limit)
		}
	}
	defer all.end(inv, w)
	t := inv.speak(cmd, name, k, waitScene)
	defer t.end()
	if p, err = all.open(inv, cmd, p, w, t); err != nil {
		return err
	}
	mayBeName := len(words) > 0 && words[0] != "--"
	if every == 0 {
		err = all.take(p, w, t)
	} else {
		err = all.takeEvery(main.s, every, p, w, t, func() error {
			err := unusable(newCommand())
			if mayBeName {
				err = notAName(err, name)
			}
			return err
		})
	}
	t.end()
	if err != nil {
		return err
	}
	command := newCommand()
	command.Stdin, command.Stdout, command.Stderr = inv.stdin, inv.stdout, inv.stderr
	if cluster == nil {
		command.Env, err = environmentOf(main, all)
	} else { // it asks the store
		command.Env, err = orSignal(w, func() ([]string, error) { return environmentOf(main, all) })
	}
	if err != nil {
		return err
	}
	if errors.Is(command.Err, exec.ErrDot) {
		command.Err = nil // "." in PATH is the user's choice, as in a shell; cmd.exe always searches it
	}
	if mayBeName {
		defer func() { err = notAName(err, name) }()
	}
	if isSet(cmd, noForkFlag) {
		return become(all.semaphores(), command, w)
	}
	if !isSet(cmd, closeFlag) {
		release, err := l.attach(all.semaphores())
		if err != nil {
			return err
		}
		defer release()
	}
	if cluster == nil {
		return inv.runCommand(command, w, bound)
	}
	done := make(chan struct{})
	defer close(done)
	bound.losing = all.watchLoss(done)
	bound.dies = !isSet(cmd, closeFlag)
	survivePipes()
	if !all.hold() { // the first of several was lost while the others were waited for
		return &failure{statusLost, errors.New("a permit was lost before the command could start")}
	}
	err = inv.runCommand(command, w, bound)
	left, held := all.left()
	inv.heldToEnd = held && left > 0
	return err
}

// A bound is how long the command may run with the permit, and what follows.
type bound struct {
	hold      time.Duration // 0: as long as it takes
	killAfter time.Duration // after that; 0: never
	losing    <-chan loss   // nil: no permit can be lost
	dies      bool          // with procsem
}

func boundOf(cmd *cobra.Command) (b bound, err error) {
	for _, flag := range []struct {
		name string
		to   *time.Duration
	}{{maxHoldFlag, &b.hold}, {killAfterFlag, &b.killAfter}} {
		if !cmd.Flags().Changed(flag.name) {
			continue
		}
		if *flag.to, err = parsed(cmd, flag.name, parseTime); err != nil {
			return b, err
		}
		if *flag.to == 0 {
			return b, usageError(cmd.CommandPath(), "--%s 0: a time of more than 0 is allowed", flag.name)
		}
	}
	if b.killAfter != 0 && b.hold == 0 {
		return b, usageError(cmd.CommandPath(), "--kill-after without --max-hold, after which it is reckoned")
	}
	return b, nil
}

// A clock runs while the command does, and says when its time is over, and then when it is to be
// killed.
type clock struct {
	bound
	voice
	over  bool
	lost  bool // the command was ended because of that
	timer <-chan time.Time
}

func (b bound) start(notices io.Writer) *clock {
	c := &clock{bound: b, voice: voice{to: notices}}
	if b.hold != 0 {
		c.timer = time.After(b.hold)
	}
	return c
}

// strike ends the command, first as it likes and then at once. It is called when the timer says so. It speaks after
// that: a terminal that takes no output (Ctrl-S) must not keep the command's permit.
func (c *clock) strike(p child) {
	c.timer = nil
	if c.over {
		p.kill()
		c.say("--kill-after: the command runs on after %v, and is killed", c.killAfter)
		return
	}
	c.over = true
	p.end()
	c.say("--max-hold: the command has had the permit for %v, and is ended", c.hold)
	if c.killAfter != 0 {
		c.timer = time.After(c.killAfter)
	}
}

// status is that of timeout(1) if the command's time was over.
func (c *clock) status(err error) error {
	switch {
	case c.lost:
		return commandStatus(statusLost)
	case c.over:
		return commandStatus(statusTimedOut)
	}
	return err
}

// permitsOf returns how many permits the command is to hold.
func permitsOf(cmd *cobra.Command, o opener) (int, error) {
	k, err := parsed(cmd, permitsFlag, parsePermits)
	switch given := text(cmd, permitsFlag); {
	case err != nil:
	case k != 1 && o.posix:
		err = usageError(cmd.CommandPath(), "-k %s and --posix; only the permits of recoverable semaphores have owners, so that several can be taken at once", given)
	case o.limited && k > o.limit:
		err = usageError(cmd.CommandPath(), "-k %d is more than the limit, -n %d", k, o.limit)
	}
	return k, err
}

// noticeLimit prints a notice if the limit that was asked for, by that option, is not used.
func (inv *invocation) noticeLimit(s *semaphore.Semaphore, existed bool, asked int, option string) {
	if s.Engine() == semaphore.EngineRecoverable || s.Engine() == semaphore.EngineDriver {
		if limit, err := s.Limit(); err == nil && limit != asked {
			complain(inv.notices, "%s: procsem resize has set its limit to %d, %s is not used; %s resize %s --default ends that", printable(s.Name()), limit, option, toType(), shellWord(s.Name()))
		}
	} else if existed {
		free := ""
		if n, err := s.Value(); err == nil {
			free = fmt.Sprintf(" (%d free now)", n)
		}
		complain(inv.notices, "%s exists: its value stands%s, %s is not used", printable(s.Name()), free, option)
	}
}

// splitCommand splits what follows the options of run: the semaphore's name, and the words of
// the command to run, with the "--" before it if there is one.
func splitCommand(cmd *cobra.Command, args []string) (names, command []string) {
	if len(args) == 0 {
		return nil, nil
	}
	return args[:1], args[1:]
}

// commandOf returns a function that makes the command to run, from the words after the
// name, where -c may be as in flock(1). It is called when the permit is held, so that the program is searched for
// only then: the previous holder may have been a build that made it.
func commandOf(cmd *cobra.Command, name string, words []string) (func() *exec.Cmd, error) {
	wrong := func(format string, args ...any) (func() *exec.Cmd, error) {
		return nil, usageError(cmd.CommandPath(), format, args...)
	}
	line, shell := text(cmd, shellFlag), cmd.Flags().Changed(shellFlag)
	if len(words) > 0 && words[0] == "-c" && !shell {
		if len(words) == 1 {
			return wrong("-c needs an argument: LINE")
		}
		line, shell, words = words[1], true, words[2:]
	}
	switch {
	case shell && len(words) > 0:
		return wrong("both -c \"%s\" and a command (%s); one of them is allowed. A LINE of several words is quoted, and gets no arguments: they can be in the environment, or use sh -c LINE sh ARGUMENT... as the command", printable(line), strings.Join(words, " "))
	case shell:
		return func() *exec.Cmd { return shellCommand(line) }, nil
	case len(words) == 0:
		return wrong("no command to run after the NAME, %q; or a shell line: -c LINE", name)
	case words[0] == "--":
		if words = words[1:]; len(words) == 0 {
			return wrong("no command after --")
		}
	case strings.HasPrefix(words[0], "-"):
		return wrong("%s after the NAME, %q: options come before it, and after it the command (one that begins with - after --)", words[0], name)
	}
	return func() *exec.Cmd { return programCommand(words[0], words[1:]...) }, nil
}

// runCommand runs the command to its end, in our process group, and returns how
// procsem is to end then.
func (inv *invocation) runCommand(command *exec.Cmd, w *watcher, b bound) error {
	if err := w.link.begin(); err != nil {
		return err
	}
	// A signal of endSignals that came before the command started is not for the
	// command: it was sent to a process that only waited, and ends procsem.
	for _, sig := range w.pending() {
		if ends(sig) {
			return signalled{sig}
		}
		w.early = append(w.early, sig)
	}
	if b.dies {
		runtime.LockOSThread() // what the command dies with is the thread that starts it
	}
	a := expect()
	p, err := startChild(command, b.dies)
	if script := interpreted(command, err); script != nil {
		command = script
		p, err = startChild(command, b.dies)
	}
	if err != nil {
		return startError(command.Args[0], err)
	}
	w.link.say(started)
	// Signals that came since then may have come before the command existed, so that
	// the terminal could not send them to it. They are forwarded without asking for
	// the foreground: a command that has just begun had better get a signal twice
	// than never.
	for _, sig := range append(w.early, w.pending()...) {
		w.received[sig] = true
		p.forward(sig)
	}
	c := b.start(inv.notices)
	defer c.end()
	err = a.attend(p, w, c)
	if inv.lost = c.lost; c.lost {
		p.endRest(c.losing)
	}
	return c.status(err)
}

// deliver forwards a signal that came while the command runs.
func (w *watcher) deliver(p child, sig os.Signal) {
	w.received[sig] = true
	if !terminalSends(sig) || !inForeground() {
		p.forward(sig)
	}
}

// startError says why a command could not be run, as a shell would.
func startError(name string, err error) error {
	reason := err
	var path *fs.PathError
	var look *exec.Error
	switch {
	case errors.As(err, &path):
		reason = path.Err
	case errors.As(err, &look):
		reason = look.Err
	}
	switch {
	case isShortage(err):
		return fmt.Errorf("%q could not be started: %w", name, reason)
	case name == "" || errors.Is(err, exec.ErrNotFound) && !isThere(name):
		return &failure{statusNotFound, fmt.Errorf("%q: command not found", name)}
	case errors.Is(err, fs.ErrNotExist):
		return &failure{statusNotFound, fmt.Errorf("%q: %w", name, reason)}
	case errors.Is(err, exec.ErrNotFound):
		reason = fs.ErrPermission // it is there, but not executable
	}
	return &failure{statusCannotExec, fmt.Errorf("%q: %w", name, reason)}
}

// notAName says why a word was taken for a command that is not found: it may have been meant for a
// second name.
func notAName(err error, name string) error {
	if f, ok := err.(*failure); ok && f.status == statusNotFound {
		return &failure{f.status, fmt.Errorf("%w; the NAME is the word before it, %q", f.err, name)}
	}
	return err
}

// isThere reports whether a command's file exists. exec.LookPath returns ErrNotFound
// also for a file that exists but cannot be executed.
func isThere(name string) bool {
	if filepath.Base(name) != name {
		_, err := os.Stat(name)
		return err == nil
	}
	for _, dir := range searchPath() {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && !info.IsDir() {
			return true
		}
	}
	return false
}
