package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/urfave/cli/v3"
)

const rootHelp = `A semaphore is a number of free permits under a name that all programs of
this machine share. Each holder takes one permit and gives it back when it
is done; a process that finds none waits.

   procsem run -n 4 build -- make -j2

runs make, at most 4 at a time, whoever starts them.

There are two kinds of semaphores. Recoverable ones, the default, have a limit,
and permits that belong to processes: when a holder dies, its permits come back.
With --posix, "run" and "create" make the other kind, a bare count that wait, try
and post change, shared with programs in C, Python and other languages. Any
process that may write to it can post, and the permit of a holder that is killed
by SIGKILL is lost. A name is of one kind; using it as the other is an error.
On Windows a POSIX semaphore is gone when no process has it open.

Recoverable semaphores are files, rec.NAME, in the directory $SEMAPHORE_DIR, else
/dev/shm, else /tmp (Windows: %ProgramData%\semaphore): programs that share one
need the same directory.

` + statusHelp

const runHelp = `Waits for a permit of the semaphore NAME, runs the command and gives the
permit back when the command has ended, however it ended, and whatever it
left running in the background. The semaphore is created if it does not exist.

LIMIT:

Without -n the limit that exists is used, and 1 for a new semaphore. A -n that
differs from the limit is an error while any process has the semaphore open, and
the new limit if none has. "procsem resize" changes the limit at any time; a
limit set that way stays, and -n is not used. A --posix semaphore that exists
keeps its value, and -n is not used. In both cases a notice says so.

At most 4096 processes can have a recoverable semaphore open at a time. run waits
for one of them to end as it waits for a permit.

A recoverable semaphore of another user is refused, also to root, unless that user
is root, or --mode lets others write; and so is one, even of root or of your own,
that others may write and --mode would not let them. To share one, all users have
to ask for it: with --mode 0666, and its creator with a umask that leaves those bits.
(Of a mode that lets others only read, or only write, they get nothing.)

WHICH PERMIT:

The command finds in its environment

   PROCSEM_SLOT   the permit's number, 0 to LIMIT-1
   PROCSEM_NAME   the semaphore's name
   PROCSEM_LIMIT  the limit when the command was started

No two holders have the same number at the same time, so that a command can choose
a port, a GPU or a database by it. With a limit of at most 64 it gets the lowest
number that is free, else any. When "procsem resize" lowers the limit, commands that
run keep their numbers, which may then be LIMIT or more. Processes that the command
leaves running in the background inherit the variables, and not the permit, whose
number is given to the next command. With --posix there are no numbers: PROCSEM_SLOT
and PROCSEM_LIMIT are then not set, and removed if procsem has inherited them.

IF PROCSEM IS KILLED:

The command inherits an open file, the semaphore's lock. If procsem is killed
by SIGKILL, its permit stays taken until the command, and all processes that the
command passed the file on to, are gone; it comes back within a second of that.
"procsem show NAME" lists these processes. With --close the command does not get
the file, and the permit comes back at once, though the command may still run.
With --no-fork procsem becomes the command, so that the two cannot end apart: the
permit comes back when the command, and all processes that it passed the file on
to, are gone. With --posix the permit is lost; "procsem post NAME" replaces it.

On Windows a process cannot leave a lock to another one. There a job object kills
the command, and what it has started, when procsem is killed, and the permit comes
back. (Programs that break away from jobs, as daemons may, run on.) The system does
both as procsem ends, but does not promise that the command is gone before the next
holder's command starts. With --close the command runs on. There is no --no-fork.

SIGNALS:

While procsem waits for the permit, SIGINT, SIGTERM, SIGHUP and SIGQUIT end
it, and it holds nothing then. While the command runs, procsem forwards
SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 to it. The command is in procsem's
process group, so the terminal sends Ctrl-C and Ctrl-\ to it directly: procsem
forwards SIGINT and SIGQUIT only while it is not in the foreground of a terminal.
It does not know which process sent a signal, nor whether the signal was meant for
the whole group. So "kill -INT" of procsem alone, in the foreground, does not reach
the command (use SIGTERM), and a SIGTERM to the whole process group reaches it
twice. If SIGINT or SIGQUIT kills the command, and procsem got it too, procsem gives
the permit back and dies of the same signal, so that Ctrl-C ends a shell script.
Signals that were ignored when procsem started (nohup, trap '' TERM) stay ignored,
also by the command; a build without cgo knows that only of SIGINT and SIGHUP. When
the command stops (SIGTSTP), procsem stops too, so that the shell takes notice, and
SIGCONT continues both. With --no-fork the command itself gets all signals as soon as
it runs.

On Windows the console reports Ctrl-C, Ctrl-Break and its own closing to all of its
processes: procsem forwards nothing, and waits for the command to end. While
procsem waits for the permit, they end it.

` + statusHelp

const listHelp = `Lists the semaphores in the directory $SEMAPHORE_DIR, else /dev/shm, else /tmp
(Windows: %ProgramData%\semaphore) and, on Linux, the POSIX semaphores in
/dev/shm. On other systems POSIX semaphores cannot be listed: show finds them
by name.

KIND is recoverable, posix, or flock (a count in a file, of builds that have
nothing better). HOLDERS counts the handles that hold permits, WAITING those
that wait; posix and flock semaphores record neither, and have no limit. If a
semaphore cannot be read, its line says why.

With --json: an array of objects with the fields name, kind, limit, free,
holders, waiting (numbers, null if not known) and, if it could not be read,
error. A name may have any bytes, and JSON has Unicode only: an object whose name
is not valid UTF-8 also has name_base64, which show, value and unlink take with
--base64, and its name has U+FFFD for what is not valid.

` + statusHelp

const showHelp = `Shows the holders and the waiters, with the age of their handles, which is
mostly that of their processes, and their labels ("procsem run --label"). HELD is for
how long a holder has had its permit (of several the one that it took last), and
WAITED how long it had waited for that; both are "-" for one that did not have to wait.

A holder is "gone" if its process has ended but other processes still have its
lock (see "procsem run --help"): they are listed below it, and the permit comes
back when the last of them ends. It is "unseen" if there is no such process and
no visible process has its lock: it may be another user's (root sees more), or be
in another pid namespace. Locks can be seen only on Linux.

With --json: an object with the fields name (and name_base64, as list --json has
it), kind, limit, free (numbers, null if not known), holders and waiters (arrays, null if not known). Their elements
have pid (as seen from here, else as the process saw its own), state ("running",
"gone" or "unseen"), command, user, started (the process), opened (the handle),
permits, waiting, label, since (when it took its permit) and waited_seconds (how long
it had waited for that; a number), and if state is "gone" kept_by, an array of objects
with pid, command, user and started. A holder that did not have to wait has neither
since nor waited_seconds, and one without a label no label. Times are as in RFC 3339; the start of a process is
exact to a second. What is not known of a process is left out.

` + statusHelp

const createHelp = `A semaphore that exists keeps its mode and its limit (or value), and a notice
says so. But a -n that differs from the limit of a recoverable one is an error
while any process has the semaphore open, and the new limit if none has. A limit
that "procsem resize" has set stays in any case.

On Windows --posix is an error unless the semaphore exists: a new one would be gone
when procsem ends.`

const resizeHelp = `The limit becomes N, 0 to 65535, at once and for all processes. Raising it lets
waiters take the new permits at once. Lowering it takes no permit from its holder:
no waiter gets a permit until fewer than N are held. With 0 no waiter gets one. The
limit stays, whatever -n says, until the next resize or unlink. resize takes no
slot: it works also while 4096 processes have the semaphore open.`

const waitHelp = `The permit stays taken when procsem ends; post adds one. If SIGINT, SIGTERM,
SIGHUP or SIGQUIT ends the wait, no permit was taken. Signals that were ignored
when procsem started stay ignored, as SIGINT in "procsem wait NAME &" of a shell
script.`

func newRoot(inv *invocation) *cli.Command {
	root := &cli.Command{
		Name:        "procsem",
		Usage:       "limit how many processes do a thing at once",
		Description: rootHelp,
		Version:     version(),
		Reader:      inv.stdin,
		ErrWriter:   inv.stderr,
		// Otherwise the parser exits by itself on errors of its own.
		ExitErrHandler: func(context.Context, *cli.Command, error) {},
		Commands: []*cli.Command{
			{
				Name:        "run",
				Usage:       "run a command while holding a permit",
				UsageText:   "procsem run [options] NAME -- command [arguments]\nprocsem run [options] -c 'shell line' NAME",
				Description: runHelp,
				Flags: []cli.Flag{
					&cli.StringFlag{Name: limitFlag, Aliases: []string{"n", "jobs", "j"}, Usage: "at most `N` at a time (default: the limit that exists, else 1)"},
					timeout(), conflictStatus(), mode(),
					&cli.StringFlag{Name: labelFlag, Usage: "tell whoever looks (procsem show) what this is: `TEXT` of at most 32 bytes"},
					&cli.BoolFlag{Name: closeFlag, Aliases: []string{"o"}, Usage: "do not pass the lock on to the command (Windows: let it outlive procsem): if procsem is killed the permit comes back at once"},
					&cli.BoolFlag{Name: noForkFlag, Aliases: []string{"F"}, Usage: "become the command instead of waiting for it (not on Windows)"},
					&cli.StringFlag{Name: shellFlag, Usage: "run `LINE` by sh -c (Windows: cmd /c), instead of a command after --"},
					posix(),
				},
				Action: inv.run,
			},
			{
				Name:        "create",
				Usage:       "create a semaphore",
				UsageText:   "procsem create [options] NAME",
				Description: createHelp,
				Flags: []cli.Flag{
					&cli.StringFlag{Name: limitFlag, Aliases: []string{"n", "jobs", "j"}, Value: "1", Usage: "create it with `N` permits, 1 to 65535; with --posix also 0, for a semaphore by which processes signal each other"},
					mode(),
					&cli.BoolFlag{Name: exclusiveFlag, Aliases: []string{"x"}, Usage: "fail if it exists"},
					posix(),
				},
				Action: inv.create,
			},
			{
				Name:        "list",
				Usage:       "list all semaphores",
				UsageText:   "procsem list [--json]",
				Description: listHelp,
				Flags:       []cli.Flag{asJSON()},
				Action:      inv.list,
			},
			{
				Name:        "show",
				Usage:       "show the holders and waiters of a semaphore",
				UsageText:   "procsem show [options] NAME",
				Description: showHelp,
				Flags:       []cli.Flag{asJSON(), inBase64()},
				Action:      inv.show,
			},
			{
				Name:        "resize",
				Usage:       "change a recoverable semaphore's limit",
				UsageText:   "procsem resize NAME N",
				Description: resizeHelp,
				Action:      inv.resize,
			},
			{
				Name:        "wait",
				Usage:       "take a permit of a POSIX semaphore and keep it, waiting for one",
				UsageText:   "procsem wait [options] NAME",
				Description: waitHelp,
				Flags:       []cli.Flag{timeout(), conflictStatus()},
				Action:      inv.wait,
			},
			{
				Name:        "try",
				Usage:       "take a permit of a POSIX semaphore and keep it, if one is free now",
				UsageText:   "procsem try [options] NAME",
				Description: "The permit stays taken when procsem ends; post adds one.",
				Flags:       []cli.Flag{conflictStatus()},
				Action:      inv.try,
			},
			{
				Name:        "post",
				Usage:       "add a permit to a POSIX semaphore, whoever took it",
				UsageText:   "procsem post NAME",
				Description: "A waiter takes it and goes on; without one the value grows by one.",
				Action:      inv.post,
			},
			{
				Name:        "value",
				Usage:       "print the number of free permits",
				UsageText:   "procsem value [options] NAME",
				Flags:       []cli.Flag{inBase64()},
				Description: "It may have changed before it is printed.",
				Action:      inv.value,
			},
			{
				Name:        "unlink",
				Usage:       "remove a semaphore's name",
				UsageText:   "procsem unlink [options] NAME",
				Flags:       []cli.Flag{inBase64()},
				Description: "Processes that have the semaphore open go on with it; the next run or create makes a new one.\nOn Windows the name of a POSIX semaphore cannot be removed while a process has it open,\nand is gone by itself after that.",
				Action:      inv.unlink,
			},
		},
		Action: func(_ context.Context, cmd *cli.Command) error {
			names := make([]string, 0, len(cmd.Commands))
			for _, c := range cmd.VisibleCommands() {
				names = append(names, c.Name)
			}
			allowed := "allowed are " + strings.Join(names, ", ")
			if !cmd.Args().Present() {
				return usageError("procsem", "no command given; %s", allowed)
			}
			return usageError("procsem", "unknown command %q; %s", cmd.Args().First(), allowed)
		},
		OnUsageError: parserError,
	}
	for _, c := range root.Commands {
		c.HideHelpCommand = true // or a semaphore named "help" would be taken for that command
		c.OnUsageError = parserError
	}
	return root
}

const (
	limitFlag     = "limit"
	timeoutFlag   = "timeout"
	statusFlag    = "conflict-exit-code"
	shellFlag     = "c"
	modeFlag      = "mode"
	exclusiveFlag = "exclusive"
	posixFlag     = "posix"
	closeFlag     = "close"
	noForkFlag    = "no-fork"
	labelFlag     = "label"
	jsonFlag      = "json"
	base64Flag    = "base64"
)

func timeout() cli.Flag {
	return &cli.StringFlag{Name: timeoutFlag, Aliases: []string{"w"}, Usage: "give up after `TIME`: seconds (30, 0.5) or 1m30s; 0 tries once (default: wait for ever)"}
}

func mode() cli.Flag {
	return &cli.StringFlag{Name: modeFlag, Value: "0600", Usage: "permission bits in `OCTAL`, less the umask, of a new one; group and others get the rights to read and write only together"}
}

func conflictStatus() cli.Flag {
	return &cli.StringFlag{Name: statusFlag, Aliases: []string{"E"}, Value: fmt.Sprint(statusTempFail), Usage: "exit with `STATUS`, 0 to 255, when giving up"}
}

func posix() cli.Flag {
	return &cli.BoolFlag{Name: posixFlag, Usage: "a POSIX semaphore, a bare count, instead of a recoverable one"}
}

func asJSON() cli.Flag { return &cli.BoolFlag{Name: jsonFlag, Usage: "print JSON"} }

func inBase64() cli.Flag {
	return &cli.BoolFlag{Name: base64Flag, Usage: "NAME is in base64, as name_base64 of list --json"}
}

// parserError turns an error of the parser into one line, as all our errors are.
func parserError(_ context.Context, cmd *cli.Command, err error, _ bool) error {
	return usageError(cmd.FullName(), "%v", err)
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(unknown)"
}

// oneName returns the semaphore's name.
func oneName(cmd *cli.Command) (string, error) {
	args := cmd.Args().Slice()
	switch {
	case len(args) == 0:
		return "", usageError(cmd.FullName(), "the semaphore's NAME is missing")
	case len(args) > 1 && cmd.Name == "run":
		return "", usageError(cmd.FullName(), "%d names (%s); one NAME is allowed, and the command comes after --", len(args), strings.Join(args, ", "))
	case len(args) > 1:
		return "", usageError(cmd.FullName(), "%d names (%s); one NAME is allowed", len(args), strings.Join(args, ", "))
	}
	name := args[0]
	if cmd.Bool(base64Flag) {
		b, err := base64.StdEncoding.DecodeString(name)
		if err != nil {
			return "", usageError(cmd.FullName(), "--base64 %q: it is not base64, which list --json prints as name_base64", name)
		}
		name = string(b)
	}
	return cleanName(cmd, name)
}

// cleanName checks a name, and returns it without the leading slash that it may have.
func cleanName(cmd *cli.Command, name string) (string, error) {
	if err := semaphore.CheckName(name); err != nil {
		return "", usageError(cmd.FullName(), "the name %s", message(err))
	}
	return strings.TrimPrefix(name, "/"), nil
}

// parsed returns the value that parse reads from a flag's text.
func parsed[T any](cmd *cli.Command, flag string, parse func(flag, s string) (T, error)) (T, error) {
	name := "--" + flag
	if len(flag) == 1 {
		name = "-" + flag
	}
	v, err := parse(name, cmd.String(flag))
	if err != nil {
		return v, usageError(cmd.FullName(), "%w", err)
	}
	return v, nil
}

// patienceOf returns how long to wait, and what to exit with after that.
func patienceOf(cmd *cli.Command) (patience, error) {
	p := patience{limit: forEver}
	var err error
	if cmd.IsSet(timeoutFlag) {
		if p.limit, err = parsed(cmd, timeoutFlag, parseTimeout); err != nil {
			return p, err
		}
	}
	p.status, err = parsed(cmd, statusFlag, parseStatus)
	return p, err
}

func (inv *invocation) create(_ context.Context, cmd *cli.Command) error {
	name, err := oneName(cmd)
	if err != nil {
		return err
	}
	o, err := openerOf(cmd, name, 0)
	if err != nil {
		return err
	}
	s, err := o.create()
	// A semaphore of the other kind is an error, as it is not what was to be
	// created. But a flock-counter is a POSIX semaphore too.
	exists := errors.Is(err, fs.ErrExist) || o.posix && errors.Is(err, semaphore.ErrKindMismatch)
	if exists && !cmd.Bool(exclusiveFlag) {
		before := currentLimit(name)
		s, _, err = o.open()
		if errors.Is(err, semaphore.ErrTableFull) {
			// Its limit is the one that was asked for, or stands in any case.
			inv.noticeExists(name, before, before)
			return nil
		}
		if err != nil {
			return err
		}
		defer s.Close()
		if o.posix {
			complain(inv.stderr, "%s exists: its value and mode stand", s.Name())
			return nil
		}
		limit, err := s.Limit()
		if err != nil {
			return err
		}
		inv.noticeExists(s.Name(), before, limit)
		return nil
	}
	if err != nil {
		return err
	}
	inv.noticeMode(cmd, s, o.mode)
	return s.Close()
}

// noticeExists prints what create has changed of a recoverable semaphore.
func (inv *invocation) noticeExists(name string, before, limit int) {
	if before != 0 && before != limit {
		complain(inv.stderr, "%s exists: its limit was %d and is %d now, and its mode stands", name, before, limit)
	} else {
		complain(inv.stderr, "%s exists: its limit is %d, and its mode stands", name, limit)
	}
}

// currentLimit returns the limit of a recoverable semaphore, 0 if it is not known.
func currentLimit(name string) int {
	o, err := observe(name)
	if err != nil {
		return 0
	}
	return o.Limit // 0 of a bare count
}

// noticeMode prints a notice if a new semaphore's mode is less than was asked for: the umask
// has its part, and a class of users that would be left with one right of two gets none.
func (inv *invocation) noticeMode(cmd *cli.Command, s *semaphore.Semaphore, mode fs.FileMode) {
	if !cmd.IsSet(modeFlag) {
		return
	}
	mask := umask()
	if runtime.GOOS == "darwin" && s.Engine() == semaphore.EngineLibc {
		mask = 0 // its sem_open does not heed it
	}
	whole := engine.BothOrNeither(mode)
	if whole != mode {
		complain(inv.stderr, "%s: of the mode %04o it has %04o at most: the group, and others, get the rights to read and to write only together", s.Name(), mode, whole)
	}
	if left := engine.BothOrNeither(whole &^ mask); left != whole {
		complain(inv.stderr, "%s: the umask, %04o, has left %04o of the mode %04o; \"umask 0\" before procsem leaves all of it", s.Name(), mask, left, whole)
	}
}

// openerOf returns the opener that the flags ask for. The value of a POSIX semaphore
// must be at least leastPOSIX.
func openerOf(cmd *cli.Command, name string, leastPOSIX int) (o opener, err error) {
	o = opener{name: name, posix: cmd.Bool(posixFlag), limit: 1, limited: cmd.IsSet(limitFlag)}
	if o.mode, err = parsed(cmd, modeFlag, parseMode); err != nil {
		return o, err
	}
	parse := parseValue(1, permits.MaxPermits)
	if o.posix {
		parse = parseValue(leastPOSIX, semaphore.MaxValue)
	}
	if o.limited {
		o.limit, err = parsed(cmd, limitFlag, parse)
	}
	return o, err
}

func (inv *invocation) resize(_ context.Context, cmd *cli.Command) error {
	args := cmd.Args().Slice()
	if len(args) != 2 {
		return usageError(cmd.FullName(), "arguments: %d; NAME and N are needed", len(args))
	}
	name, err := cleanName(cmd, args[0])
	if err != nil {
		return err
	}
	n, err := parseValue(0, permits.MaxPermits)("N", args[1])
	if err != nil {
		return usageError(cmd.FullName(), "%w", err)
	}
	return setLimit(name, n)
}

func (inv *invocation) wait(_ context.Context, cmd *cli.Command) error {
	p, err := patienceOf(cmd)
	if err != nil {
		return err
	}
	return takeAndKeep(cmd, p)
}

func (inv *invocation) try(_ context.Context, cmd *cli.Command) error {
	status, err := parsed(cmd, statusFlag, parseStatus)
	if err != nil {
		return err
	}
	return takeAndKeep(cmd, patience{limit: 0, status: status})
}

func takeAndKeep(cmd *cli.Command, p patience) error {
	name, err := oneName(cmd)
	if err != nil {
		return err
	}
	w := watch(endSignals)
	s, err := openBare(name)
	if err != nil {
		return err
	}
	// After a wait that was given up, a thread may still wait in libc (EngineLibc):
	// Close makes it return, and gives back a permit that it may have got meanwhile.
	defer s.Close()
	_, err = take(s, p, w)
	return err
}

func (inv *invocation) post(_ context.Context, cmd *cli.Command) error {
	name, err := oneName(cmd)
	if err != nil {
		return err
	}
	s, err := openBare(name)
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Post()
}

func (inv *invocation) value(_ context.Context, cmd *cli.Command) error {
	name, err := oneName(cmd)
	if err != nil {
		return err
	}
	o, err := observe(name)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(inv.stdout, o.Value)
	return err
}

func (inv *invocation) unlink(_ context.Context, cmd *cli.Command) error {
	name, err := oneName(cmd)
	if err != nil {
		return err
	}
	if !posixLasts {
		if s, err := openExistingPOSIX(name); err == nil {
			s.Close()
			return &failure{statusUnavailable, fmt.Errorf("%q is a POSIX semaphore: on %s it is gone when nobody has it open, and its name cannot be removed before", name, runtime.GOOS)}
		}
	}
	return semaphore.Unlink(name)
}
