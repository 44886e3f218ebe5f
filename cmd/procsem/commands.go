package main

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/procsem/semaphore"
	"github.com/urfave/cli/v3"
)

const rootHelp = `A semaphore is a number of free permits under a name that all programs of
this machine share. Each holder takes one permit and gives it back when it
is done; who finds none waits.

   procsem run -n 4 build -- make -j2

runs make, at most 4 at a time, whoever starts them. The semaphores are
those of POSIX: anybody who may write to one can post to it, and the permit
of a holder that is killed by SIGKILL is lost.

` + statusHelp

const runHelp = `Waits for a permit of the semaphore NAME, runs the command and gives the
permit back when the command has ended, however it ended. The semaphore is
created if it does not exist. If it exists its value stands, and -n is not
used.

procsem outlives its command, but if procsem itself is killed by SIGKILL (or
dies of SIGABRT) its permit is lost for good; "procsem post NAME" replaces
it. What the command leaves running in the background does not keep the
permit.

SIGNALS:

While procsem waits for the permit, SIGINT, SIGTERM, SIGHUP and SIGQUIT end
it, and it holds nothing then. While the command runs, procsem passes
SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 on to it. The command is in procsem's
process group, so that Ctrl-C and Ctrl-\ of the terminal reach it by
themselves: SIGINT and SIGQUIT are passed on only while procsem is not in
the foreground of a terminal. procsem cannot tell who sent a signal, nor to
whom. So "kill -INT" of procsem alone, in the foreground, does not reach the
command (use SIGTERM), and a SIGTERM to the whole process group reaches it
twice. SIGINT and SIGHUP that were ignored when procsem started (nohup) stay
ignored, also by the command.

` + statusHelp

func newRoot(inv *invocation) *cli.Command {
	root := &cli.Command{
		Name:        "procsem",
		Usage:       "limit how many processes do a thing at once",
		Description: rootHelp,
		Version:     version(),
		Reader:      inv.stdin,
		Writer:      inv.stdout,
		ErrWriter:   inv.stderr,
		// The parser would exit by itself on errors of its own.
		ExitErrHandler: func(context.Context, *cli.Command, error) {},
		Commands: []*cli.Command{
			{
				Name:        "run",
				Usage:       "run a command while holding a permit",
				UsageText:   "procsem run [options] NAME -- command [arguments]\nprocsem run [options] -c 'shell line' NAME",
				Description: runHelp,
				Flags: []cli.Flag{
					&cli.StringFlag{Name: limitFlag, Aliases: []string{"n", "jobs", "j"}, Usage: "create the semaphore with `N` permits, 1 or more (default: 1)"},
					timeout(), conflictStatus(),
					&cli.StringFlag{Name: shellFlag, Usage: "run `LINE` by sh -c, instead of a command after --"},
					posix(),
				},
				Action: inv.run,
			},
			{
				Name:        "create",
				Usage:       "create a semaphore",
				UsageText:   "procsem create [options] NAME",
				Description: "If the semaphore exists, its value and mode stand, and a notice says so.",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: limitFlag, Aliases: []string{"n"}, Value: "1", Usage: "create it with `N` free permits; 0 makes a semaphore that signals"},
					&cli.StringFlag{Name: modeFlag, Value: "0600", Usage: "permission bits in `OCTAL`, less the umask; who shares it must read and write"},
					&cli.BoolFlag{Name: exclusiveFlag, Aliases: []string{"x"}, Usage: "fail if it exists"},
					posix(),
				},
				Action: inv.create,
			},
			{
				Name:        "wait",
				Usage:       "take a permit and keep it, waiting for one",
				UsageText:   "procsem wait [options] NAME",
				Description: "The permit stays taken when procsem ends; post gives one. If SIGINT, SIGTERM, SIGHUP or SIGQUIT ends the wait, nothing was taken. SIGINT and SIGHUP that were ignored when procsem started stay ignored, as in \"procsem wait NAME &\" of a shell script.",
				Flags:       []cli.Flag{timeout(), conflictStatus()},
				Action:      inv.wait,
			},
			{
				Name:        "try",
				Usage:       "take a permit and keep it, if one is free now",
				UsageText:   "procsem try [options] NAME",
				Description: "The permit stays taken when procsem ends; post gives one.",
				Flags:       []cli.Flag{conflictStatus()},
				Action:      inv.try,
			},
			{
				Name:        "post",
				Usage:       "give a permit, whoever took it",
				UsageText:   "procsem post NAME",
				Description: "A process that waits goes on; else the value grows by one.",
				Action:      inv.post,
			},
			{
				Name:        "value",
				Usage:       "print the number of free permits",
				UsageText:   "procsem value NAME",
				Description: "It may have changed before it is printed.",
				Action:      inv.value,
			},
			{
				Name:        "unlink",
				Usage:       "remove a semaphore's name",
				UsageText:   "procsem unlink NAME",
				Description: "Who has the semaphore open goes on with it; the next run or create makes a new one.",
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
		c.HideHelpCommand = true // it would make a command of a semaphore named "help"
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
)

func timeout() cli.Flag {
	return &cli.StringFlag{Name: timeoutFlag, Aliases: []string{"w"}, Usage: "give up after `TIME`: seconds (30, 0.5) or 1m30s; 0 tries once (default: wait for ever)"}
}

func conflictStatus() cli.Flag {
	return &cli.StringFlag{Name: statusFlag, Aliases: []string{"E"}, Value: fmt.Sprint(statusTempFail), Usage: "exit with `STATUS`, 0 to 255, when giving up"}
}

func posix() cli.Flag {
	return &cli.BoolFlag{Name: "posix", Usage: "make a POSIX semaphore; the only kind now, but necessary once recoverable semaphores are the default"}
}

// parserError makes an error of the parser one line like all others.
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
	if err := semaphore.CheckName(args[0]); err != nil {
		return "", usageError(cmd.FullName(), "%w", err)
	}
	return args[0], nil
}

// parsed returns what parse makes of a flag's text.
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
	value, err := parsed(cmd, limitFlag, parseValue(0))
	if err != nil {
		return err
	}
	mode, err := parsed(cmd, modeFlag, parseMode)
	if err != nil {
		return err
	}
	if cmd.Bool(exclusiveFlag) {
		s, err := semaphore.Open(name, semaphore.WithExclusive(true), semaphore.WithValue(value), semaphore.WithMode(mode))
		if err != nil {
			return err
		}
		return s.Close()
	}
	s, existed, err := openOrCreate(name, value, mode)
	if err != nil {
		return err
	}
	if existed {
		complain(inv.stderr, "%s exists: its value and mode stand", s.Name())
	}
	return s.Close()
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
	s, err := openExisting(name)
	if err != nil {
		return err
	}
	// Of a wait that was given up a thread may still be in libc (EngineLibc):
	// Close brings it back, and with it a permit that it may have been given.
	defer s.Close()
	_, err = take(s, p, w)
	return err
}

func (inv *invocation) post(_ context.Context, cmd *cli.Command) error {
	return withExisting(cmd, (*semaphore.Semaphore).Post)
}

func (inv *invocation) value(_ context.Context, cmd *cli.Command) error {
	return withExisting(cmd, func(s *semaphore.Semaphore) error {
		n, err := s.Value()
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(inv.stdout, n)
		return err
	})
}

func (inv *invocation) unlink(_ context.Context, cmd *cli.Command) error {
	name, err := oneName(cmd)
	if err != nil {
		return err
	}
	return semaphore.Unlink(name)
}

func withExisting(cmd *cli.Command, do func(*semaphore.Semaphore) error) error {
	name, err := oneName(cmd)
	if err != nil {
		return err
	}
	s, err := openExisting(name)
	if err != nil {
		return err
	}
	defer s.Close()
	return do(s)
}
