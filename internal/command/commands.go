package command

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const rootHelp = `A semaphore is a number of free permits under a name that all programs of
this machine share. Each holder takes one permit and gives it back when it
is done; a process that finds none waits.

   procsem run -n 4 build make -j2

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
need the same directory. With --dir DIR, before or after the command's name, they are
those in DIR, beside what they guard, whatever SEMAPHORE_DIR is:

   procsem run --dir ~/.cache/tool -n 1 update tool --refresh

One name in two directories is two semaphores. DIR has to exist, and "procsem list --dir
DIR" lists what is in it. The command that procsem runs is told nothing of DIR: a procsem
within it needs its own --dir. POSIX semaphores are in no such directory.

With --store URL, or PROCSEM_STORE, they are those in a store that several machines use,
which limits all of them together:

   procsem run --store etcd://etcd-1,etcd-2,etcd-3 -n 4 deploy ./deploy

procsem becomes procsem-etcd for that, which is installed beside it, or in PATH. run,
create, list, show, watch, value, resize, unlink and "wait --idle" do there what they do
here; see "STORES" in "procsem run --help".

` + statusHelp

const runHelp = `Waits for a permit of the semaphore NAME, runs the command and gives the
permit back when the command has ended, however it ended, and whatever it
left running in the background. The semaphore is created if it does not exist.

Options come before NAME. The word after it is the command, and all that follow are the
command's; "--" between them changes nothing, but for a command that begins with "-".
As in flock(1), -c LINE may also come after NAME.

LIMIT:

Without -n the limit that exists is used, and 1 for a new semaphore. A -n that
differs from the limit is an error while any process has the semaphore open, and
the new limit if none has. "procsem resize" changes the limit at any time; a
limit set that way stays, and -n is not used, until "procsem resize --default". A
--posix semaphore that exists keeps its value, and -n is not used. In both cases a
notice says so.

-n 50% is half of the processors that this process may use (its affinity, and on Linux
the quota of its cgroup), rounded down; -n +0 is all of them, -n +2 two more and -n -1
one less; but never less than 1. They are counted when procsem starts.

At most 4096 processes can have a recoverable semaphore open at a time. run waits
for one of them to end as it waits for a permit.

A recoverable semaphore of another user is refused, also to root, unless that user
is root, or --mode lets others write; and so is one, even of root or of your own,
that others may write and --mode would not let them. To share one, all users have
to ask for it: with --mode 0666, and its creator with a umask that leaves those bits.
(Of a mode that lets others only read, or only write, they get nothing.)

SEVERAL PERMITS:

With -k 2 the command holds two permits at once, of the same limit as all others: a
big job counts for two. With "-k all" it holds all, and so is alone: nothing else runs
under the limit meanwhile. All or nothing: procsem waits until so many are free for
it, in the order in which it came, and keeps those that come back while it waits. So
others that come later wait too, and many small jobs do not keep a big one from
running. Two that want several never hold a part each and wait for each other. -k
above the limit is an error. If "procsem resize" lowers the limit below K while
procsem waits, it waits on, and lets others go first. Not with --posix: the permits
of a bare count have no owners.

SEVERAL NAMES:

With --also db=4 the command holds a permit of the semaphore db, too, whose limit is 4
(without =4 the limit that exists, else 1); a name that has a "=" is given with its
limit. -k, PROCSEM_SLOT and PROCSEM_LIMIT are of NAME; -w is for all together, --mode
and --label apply to each. The permits are taken in the order of the names, however they
are written, so that two that use the same names never wait for each other. If procsem
gives up, or is ended, all come back. A procsem within a procsem has no part in that
order.

WAITING FOR ONESELF:

PROCSEM_HELD tells the command what it, and those that run it, hold: NAME=COUNT@OWNER for
each, with slashes between them. A procsem within a procsem that would wait for permits
that its own callers hold, where the others of the limit do not suffice, says so at once
and exits with 70 (-w 0 gives up with 75, as ever). It looks whether they hold them now.

WAITING:

When a wait on a terminal (standard error) has lasted for two seconds, procsem says so
in one line, which is drawn anew each second and is gone when the wait ends:

   procsem: build: waiting, 3rd of 5, for 12s; held by 4711 (make -j2) for 3m

It names the holder that has held for longest, by its label or else its command. In
the background nothing is drawn, nor where another program shares the foreground with
procsem and would write into the line: "procsem run ... | less", xargs -P, make -j. With
-v procsem says that in lines of their own where nothing is drawn: after two seconds,
and when the place or the holder has changed, one in five seconds at most. A terminal
that was stopped (Ctrl-S) holds up no wait, nor its end. When procsem gives up it names the holders. With -q it
says none of this, nor why it gave up, and no notices, as suits cron: errors only. Of
a POSIX semaphore only the time is known.

WHICH PERMIT:

The command finds in its environment

   PROCSEM_SLOT   the permit's number, 0 to LIMIT-1; with -k 2: 0,3
   PROCSEM_NAME   the semaphore's name
   PROCSEM_LIMIT  the limit when the command was started

No two holders have the same number at the same time, so that a command can choose
a port, a GPU or a database by it (with -k in the form that CUDA_VISIBLE_DEVICES
takes). With a limit of at most 64 it gets the lowest numbers that are free, else any. When "procsem resize" lowers the limit, commands that
run keep their numbers, which may then be LIMIT or more. Processes that the command
leaves running in the background inherit the variables, and not the permit, whose
number is given to the next command. With --posix there are no numbers: PROCSEM_SLOT
and PROCSEM_LIMIT are then not set, and removed if procsem has inherited them.

IN THE BACKGROUND:

With --bg procsem returns, with 0, as soon as the command has its permit and has started.
"procsem wait --idle NAME" waits until all such commands have ended. If the permit is not
to be had in time, or the command does not start, the status says so as ever; the
command's own status is not told to anybody. Its input and output are procsem's, but
instead of a terminal its input is /dev/null. It has a session of its own: neither Ctrl-C
nor the end of the terminal or of the shell ends it. A second procsem, in that session,
gives the permit back when the command has ended. Until the command has started a signal
to procsem ends both, and so does SIGKILL. While it waits nothing is drawn, also on a
terminal: -v says in lines what it waits for. A pipe gets its end only when the command,
which has it too, has ended: "x=$(procsem run --bg build make)", "procsem run --bg build
make | cat" and ssh wait for that, unless there is ">/dev/null 2>&1 </dev/null". Not on
Windows; there is "start /b procsem run ...", without --bg.

HOW LONG:

With --max-hold TIME the command is sent SIGTERM (and SIGCONT) when it has run for
that long, and with --kill-after TIME SIGKILL that long after that; procsem says so and
exits with 124, as timeout(1) does. Only the command gets the signals, not what it has
started. On Windows it is killed at once. "timeout 1h procsem run build make" counts the
wait for the permit too, and ends procsem; "procsem run --max-hold 1h build make" does not.

HOW OFTEN:

With --every TIME the command is started only if the last start under NAME, by whichever
process with --every, was at least TIME ago; procsem waits until then, without a permit,
so that others run meanwhile, and in no order. With -w it gives up at once if the time
will not come within that, and says when it will: "-w 0 --every 1h" skips the start, as a
job of cron may want it. The time of the last start is kept in the semaphore's file, as
long as that exists. It counts while the computer sleeps, and changes of the clock don't
matter (on Linux, until the next boot). A procsem that is killed just before the command
starts has used up the start. Runs without --every neither wait nor count. Not with --posix.

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

STORES:

With --store, or PROCSEM_STORE, the permit is one of all machines that use the store, etcd. The
URL is etcd://HOST[:PORT][,HOST...][/PREFIX]; the ports are 2379 and PREFIX is "semaphore" if
they are not there, and etcds:// is TLS. Whoever may write below PREFIX can use the
semaphores. --cacert, --cert, --key and --user, or ETCDCTL_CACERT and its kin, are those
of etcdctl; a password is better in ETCDCTL_PASSWORD than where ps shows it. --store ""
means this machine's semaphores, whatever PROCSEM_STORE is.

A store cannot see whether a process lives: the permit is held for --ttl TIME, 5 seconds, from
each time that procsem has reached the store, and procsem does so all the while. When it could not for three
quarters of that the command is sent SIGTERM (and SIGCONT), and SIGKILL shortly before the
time is over; procsem says so and exits with 76. So the command does not run beside the next
holder's, as long as procsem itself gets to run, and may send the command signals (one that
has become another user's, by sudo, it may not). While procsem is stopped, by Ctrl-Z too, it holds
on to nothing and ends nothing. On Linux what the command has started gets these signals, too, as far as it is still
below the command or below what that has started; elsewhere the command alone. If procsem is
killed the command is killed with it (on Linux; not a command that changes its user). With
--close it is not. In either case the permit comes back when two TTLs and two seconds have passed (with
--ttl 5 or more: two TTLs and a fifth of one, and a second; 5 seconds at least), if anybody waits for it.

The command does not get PROCSEM_SLOT and PROCSEM_HELD, for the permits have no numbers and
procsem cannot find out that it waits for itself, but PROCSEM_TOKEN, a number that is greater than those
of all permits before; what it writes to may refuse lesser ones ("docs/cluster.md"). Without
--label, show and list tell of a holder only its machine and process. -F, --every, --mode and
--posix are for semaphores of one machine.

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
SIGCONT continues both (not with --store). With --no-fork the command itself gets all signals as soon as
it runs.

On Windows the console reports Ctrl-C, Ctrl-Break and its own closing to all of its
processes: procsem forwards nothing, and waits for the command to end. While
procsem waits for the permit, they end it.

` + statusHelp

const listHelp = `Lists the semaphores in the directory $SEMAPHORE_DIR, else /dev/shm, else /tmp
(Windows: %ProgramData%\semaphore) and, on Linux, the POSIX semaphores in
/dev/shm; or with --dir those in DIR alone. On other systems POSIX semaphores cannot be
listed: show finds them by name.

KIND is recoverable, posix, or flock (a count in a file, of builds that have
nothing better); with --store it is etcd. HOLDERS counts the handles that hold permits, WAITING those
that wait; posix and flock semaphores record neither, and have no limit. If a
semaphore cannot be read, its line says why.

With --json: an array of objects with the fields name, kind, limit, free,
holders, waiting (numbers, null if not known) and, if it could not be read,
error. A name may have any bytes, and JSON has Unicode only: an object whose name
is not valid UTF-8 also has name_base64, which show, value and unlink take with
--base64, and its name has U+FFFD for what is not valid. What a terminal might obey is
written as \u and its number.

With --prometheus: the gauges procsem_limit_permits, procsem_free_permits,
procsem_holders, procsem_waiters, procsem_oldest_hold_seconds (for how long the holder that
began first has held, reckoned from when it opened the semaphore if it did not have to wait)
and procsem_readable (0 if the semaphore could not be read), with the labels name and
kind, and name_base64 also if the name has characters that a terminal might obey, for which
there is U+FFFD, and with --dir the label dir, with --store the label store; without samples of what is not known. A
collector must not read half a file, so write another one first:

   procsem list --prometheus >new && mv new procsem.prom

` + statusHelp

const showHelp = `Shows the holders, those that have held for longest first, and the waiters in their order.
On a terminal lines are cut to its width, unless --wide is set.

HELD is for how long a holder has had its permit (of several the one that it took
last): "<3m" if it is only known that it was less. WAITED is how long it had waited
for that, "-" if that is not known. PERMIT has the numbers of its permits. Of "procsem
run" COMMAND is what it runs, or will run, and CHILD the process of that (on Linux).
LABEL is what "procsem run --label" says.

PLACE is a waiter's place in the line, WAITING for how long it waits and WANTS how
many permits it waits for (run -k). One that waits for several is also among the
holders, with those that it has got so far.

A holder is "gone" if its process has ended but other processes still have its
lock (see "procsem run --help"): they are listed below it, and the permit comes
back when the last of them ends. It is "unseen" if there is no such process and
no visible process has its lock: it may be another user's (root sees more), or be
in another pid namespace. Locks can be seen only on Linux.

A POSIX semaphore is a bare count: nobody can tell who holds its permits, or waits. On
Linux show lists the processes that have it open, as far as they can be seen.

With --json: an object with the fields name (and name_base64, as list --json has it),
kind, limit, free (numbers, null if not known), holders and waiters (arrays, null if
not known) and of a POSIX semaphore, on Linux, open_in, an array of objects with pid,
command, user and started. The elements of the others have pid (as seen from here,
else as the process saw its own), state ("running", "gone" or "unseen"; of a store
"remote" or "lost", and host), command, user, started (the process), opened (the handle), permits and numbers (of the permits,
an array), waiting, want (how many permits it waits for; -1: all), place,
waiting_since, label, since (when it took its permit) and waited_seconds (how long it
had waited for that; a number), run (the command of procsem run) and child (an object
like those of open_in), and if state is "gone" kept_by, an array of such objects. A
holder that did not have to wait has neither since nor waited_seconds, and one without
a label no label. Times are as in RFC 3339; the start of a process is exact to a
second. What is not known of a process is left out.

` + statusHelp

const createHelp = `A semaphore that exists keeps its mode and its limit (or value), and a notice
says so. But a -n that differs from the limit of a recoverable one is an error
while any process has the semaphore open, and the new limit if none has. A limit
that "procsem resize" has set stays in any case.

On Windows --posix is an error unless the semaphore exists: a new one would be gone
when procsem ends.

CREATE --FROM FILE:

Each line of FILE is a recoverable semaphore: its name, its limit as -n takes it and, if
they are to be others than 0600 and the caller, its mode in octal, and its owner, a user
and perhaps a group, by name or number, which only root can set (Unix only). Between them
are spaces or tabs; empty lines, and lines that begin with #, are ignored:

   # NAME  LIMIT  MODE  OWNER
   build   4      0666
   gpu     2      0660  root:video
   nightly 1

The mode does not depend on the umask. All lines are checked before anything is created, and
each wrong one is reported with its number (65). What exists is treated as by "create NAME",
so that FILE can be used again at each boot and after each change; a notice is printed
only if its limit is another one now, or if its mode or owner is not that of the line, which
stays. One that belongs neither to the line's owner (without OWNER the caller) nor to root
is refused (77) and not changed, whatever MODE is. If one semaphore cannot be created the
others are, and the first error's status counts.`

const resizeHelp = `The limit becomes N, 0 to 65535, at once and for all processes. Raising it lets
waiters take the new permits at once. Lowering it takes no permit from its holder:
no waiter gets a permit until fewer than N are held. With 0 no waiter gets one. The
limit stays, whatever -n says, until the next resize or unlink. With --default it
stays as it is, and the next -n is used again as if resize had not been called. N may
also be a part of the processors, as with "run -n". resize takes no slot: it works
also while 4096 processes have the semaphore open.`

const waitHelp = `The permit stays taken when procsem ends; post adds one. If SIGINT, SIGTERM,
SIGHUP or SIGQUIT ends the wait, no permit was taken. Signals that were ignored
when procsem started stay ignored, as SIGINT in "procsem wait NAME &" of a shell
script.

With --idle nothing is taken, and NAME is a recoverable semaphore: procsem ends when
nobody holds a permit of it or waits for one, at some moment; "procsem run --bg build make"
several times and then "procsem wait --idle build" waits for all of them ("procsem run
build make &" may not have begun to wait by then). It looks up to 200 times a second, and
at least four times. If there is no such semaphore when it looks for the first time, that
is an error (66); if its name is removed later nobody uses the name, and the wait is over.`

func newRoot(inv *invocation) *cobra.Command {
	root := &cobra.Command{
		Use:   "procsem",
		Short: "limit how many processes do a thing at once",
		Long:  rootHelp,
		// Errors are reported in one line each, in our words.
		SilenceErrors: true, SilenceUsage: true,
		SuggestionsMinimumDistance: 2,
		Version:                    version(),
		Args:                       cobra.ArbitraryArgs, // for RunE, which says what is allowed
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError(cmd.CommandPath(), "no command given; %s", allowed(cmd))
			}
			return unknownCommand(cmd, args[0])
		},
	}
	root.Flags().Bool("version", false, "print the version") // the parser's own would take -v for it
	directoryOption(root.PersistentFlags())
	storeOptions(root.PersistentFlags())
	if err := root.RegisterFlagCompletionFunc(dirFlag, cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs)); err != nil {
		panic(err) // there is no such flag
	}
	root.SetFlagErrorFunc(inv.parserError)
	root.SetHelpFunc(printHelp)

	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if inv.quiet = isSet(cmd, quietFlag); inv.quiet {
			inv.notices = io.Discard
			if isSet(cmd, verboseFlag) {
				return usageError(cmd.CommandPath(), "-q and -v; one of them is allowed")
			}
		}
		if err := inv.chooseStore(cmd); err != nil {
			return err
		}
		return chooseDirectory(cmd)
	}

	run := newRun(inv)

	create := &cobra.Command{Use: "create [options] NAME\nprocsem create --from FILE", Short: "create a semaphore, or those in a file", Long: createHelp, RunE: inv.create}
	limit(create, "1", "create it with `N` permits, 1 to 65535; with --posix also 0, for a semaphore by which processes signal each other")
	mode(create)
	create.Flags().BoolP(exclusiveFlag, "x", false, "fail if it exists")
	create.Flags().String(fromFlag, "", "create the recoverable semaphores that `FILE` lists, - for standard input: lines NAME LIMIT [MODE [OWNER[:GROUP]]]")
	posix(create)
	quiet(create, "print no notices")

	list := &cobra.Command{Use: "list [--json | --prometheus]", Short: "list all semaphores", Long: listHelp, RunE: inv.list}
	asJSON(list)
	list.Flags().Bool(metricsFlag, false, "print Prometheus' text format, for node_exporter's textfile collector")

	show := &cobra.Command{Use: "show [options] NAME", Short: "show the holders and waiters of a semaphore", Long: showHelp, RunE: inv.show}
	asJSON(show)
	inBase64(show)
	wideLines(show)

	resize := &cobra.Command{Use: "resize NAME N\nprocsem resize NAME --default", Short: "change a recoverable semaphore's limit", Long: resizeHelp, RunE: inv.resize}
	resize.Flags().SetInterspersed(false) // N may be -1
	resize.Flags().Bool(defaultFlag, false, "take back what resize has set: the limit stays, and the next -n is used again")

	wait := &cobra.Command{Use: "wait [options] NAME\nprocsem wait --idle [options] NAME",
		Short: "take a permit of a POSIX semaphore; or wait until a name is idle", Long: waitHelp, RunE: inv.wait}
	wait.Flags().Bool(idleFlag, false, "take nothing: wait until nobody holds a permit of a recoverable semaphore or waits for one")
	timeout(wait)
	conflictStatus(wait)
	speech(wait)

	try := &cobra.Command{Use: "try [options] NAME", Short: "take a permit of a POSIX semaphore, if one is free now",
		Long: "The permit stays taken when procsem ends; post adds one.", RunE: inv.try}
	conflictStatus(try)
	quiet(try, "do not say so if none is free")

	post := &cobra.Command{Use: "post NAME", Short: "add a permit to a POSIX semaphore, whoever took it",
		Long: "A waiter takes it and goes on; without one the value grows by one.", RunE: inv.post}

	value := &cobra.Command{Use: "value [options] NAME", Short: "print the number of free permits",
		Long: "It may have changed before it is printed.", RunE: inv.value}
	inBase64(value)

	unlink := &cobra.Command{Use: "unlink [options] NAME...\nprocsem unlink --idle", Short: "remove the names of semaphores", Long: unlinkHelp, RunE: inv.unlink}
	unlink.Flags().BoolP(forceFlag, "f", false, "also of one that is in use")
	unlink.Flags().Bool(idleFlag, false, "instead of NAMEs: of all recoverable semaphores that nobody has open, and print them")
	inBase64(unlink)

	root.AddCommand(run, create, list, show, watchCommand(inv), resize, wait, try, post, value, unlink)
	root.AddCommand(lockCommands(inv)...)
	for _, c := range root.Commands() {
		c.DisableFlagsInUseLine = true
		c.Flags().SortFlags = false // the most common ones come first
		c.ValidArgsFunction = completeNames
		c.Flags().VisitAll(func(f *pflag.Flag) {
			complete := cobra.NoFileCompletions
			switch f.Name {
			case fromFlag:
				complete = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)
			case alsoFlag:
				complete = completeNames
			}
			if err := c.RegisterFlagCompletionFunc(f.Name, complete); err != nil {
				panic(err) // twice
			}
		})
	}
	root.CompletionOptions.DisableDefaultCmd = true // ours is shorter
	root.AddCommand(completion(), manual())
	root.SetHelpCommand(helpCommand())
	return root
}

func newRun(inv *invocation) *cobra.Command {
	run := &cobra.Command{
		Use:   "run [options] NAME [--] command [arguments]\nprocsem run [options] -c 'shell line' NAME",
		Short: "run a command while holding a permit",
		Long:  runHelp,
		RunE:  inv.run,
	}
	run.Flags().SetInterspersed(false) // what follows NAME is the command's
	limit(run, "", "at most `N` at a time: a number, or 50%, +0 or -1 of the processors (default: the limit that exists, else 1)")
	run.Flags().StringP(permitsFlag, "k", "1", "hold `K` permits at once, 1 to the limit, or all of them (\"all\")")
	timeout(run)
	conflictStatus(run)
	run.Flags().StringP(shellFlag, "c", "", "run `LINE` by sh -c (Windows: cmd /c), instead of a command; also after NAME")
	speech(run)
	run.Flags().Lookup(quietFlag).Usage += ", and that the name was removed"
	run.Flags().StringArray(alsoFlag, nil, "hold a permit of the semaphore `NAME[=N]` as well, at most N at a time; may be repeated")
	mode(run)
	run.Flags().String(labelFlag, "", "tell whoever looks (procsem show) what this is: `TEXT` of at most 32 bytes")
	run.Flags().BoolP(closeFlag, "o", false, "do not pass the lock on to the command (Windows: let it outlive procsem): if procsem is killed the permit comes back at once")
	run.Flags().BoolP(noForkFlag, "F", false, "become the command instead of waiting for it (not on Windows)")
	run.Flags().String(everyFlag, "", "start at most one command per `TIME` under NAME, whichever process starts it, and wait for that; -w 0 gives up instead")
	run.Flags().Bool(bgFlag, false, "return when the command has its permit and has started, and let it run in the background (not on Windows)")
	run.Flags().String(maxHoldFlag, "", "end the command by SIGTERM (Windows: kill it) when it has had the permit for `TIME`; the status is then 124")
	run.Flags().String(killAfterFlag, "", "and by SIGKILL if it runs on for `TIME` after that")
	posix(run)
	return run
}

const (
	limitFlag     = "limit"
	jobsFlag      = "jobs"
	permitsFlag   = "permits"
	timeoutFlag   = "timeout"
	statusFlag    = "conflict-exit-code"
	shellFlag     = "command"
	modeFlag      = "mode"
	exclusiveFlag = "exclusive"
	posixFlag     = "posix"
	closeFlag     = "close"
	alsoFlag      = "also"
	dirFlag       = "dir"
	bgFlag        = "bg"
	noForkFlag    = "no-fork"
	labelFlag     = "label"
	jsonFlag      = "json"
	wideFlag      = "wide"
	forceFlag     = "force"
	base64Flag    = "base64"
	defaultFlag   = "default"
	idleFlag      = "idle"
	fdFlag        = "fd"
	metricsFlag   = "prometheus"
	fromFlag      = "from"
	everyFlag     = "every"
	maxHoldFlag   = "max-hold"
	killAfterFlag = "kill-after"
	verboseFlag   = "verbose"
	quietFlag     = "quiet"
)

// limit adds -n, and -j, as make and sem have it.
func limit(cmd *cobra.Command, standard, usage string) {
	f := cmd.Flags()
	f.StringP(limitFlag, "n", standard, usage)
	f.VarP(f.Lookup(limitFlag).Value, jobsFlag, "j", "the same as -n `N`")
	f.Lookup(jobsFlag).DefValue = ""
}

// limitIsSet reports whether one of the flags of limit was given.
func limitIsSet(cmd *cobra.Command) bool {
	return cmd.Flags().Changed(limitFlag) || cmd.Flags().Changed(jobsFlag)
}

func timeout(cmd *cobra.Command) {
	cmd.Flags().StringP(timeoutFlag, "w", "", "give up after `TIME`: seconds (30, 0.5), 1m30s, 5min, 1d; 0 tries once (default: wait for ever)")
}

func mode(cmd *cobra.Command) {
	cmd.Flags().String(modeFlag, "0600", "permission bits in `OCTAL`, less the umask, of a new one; group and others get the rights to read and write only together")
}

func conflictStatus(cmd *cobra.Command) {
	cmd.Flags().StringP(statusFlag, "E", fmt.Sprint(statusTempFail), "exit with `STATUS`, 0 to 255, when giving up")
}

// speech adds the flags of commands that wait.
func speech(cmd *cobra.Command) {
	cmd.Flags().BoolP(verboseFlag, "v", false, "say in whole lines, also where there is no terminal, for whom it waits")
	quiet(cmd, "do not say for whom it waits, nor that it has given up, and print no notices: errors only")
}

func quiet(cmd *cobra.Command, usage string) { cmd.Flags().BoolP(quietFlag, "q", false, usage) }

func posix(cmd *cobra.Command) {
	cmd.Flags().Bool(posixFlag, false, "a POSIX semaphore, a bare count, instead of a recoverable one")
}

func wideLines(cmd *cobra.Command) {
	cmd.Flags().Bool(wideFlag, false, "do not cut lines to the terminal's width")
}

func asJSON(cmd *cobra.Command) { cmd.Flags().Bool(jsonFlag, false, "print JSON") }

func inBase64(cmd *cobra.Command) {
	cmd.Flags().Bool(base64Flag, false, "NAME is in base64, as name_base64 of list --json")
}

// isSet returns the value of a flag that is set or not; false if the command has no such flag.
func isSet(cmd *cobra.Command, flag string) bool {
	f := cmd.Flags().Lookup(flag)
	return f != nil && f.Value.String() == "true"
}

// text returns a flag's value as it was given.
func text(cmd *cobra.Command, flag string) string { return cmd.Flags().Lookup(flag).Value.String() }

// parserError turns an error of the parser into one line, as all our errors are.
func (inv *invocation) parserError(cmd *cobra.Command, err error) error {
	if !cmd.HasParent() {
		// The parser takes the flags of a command that it does not know for those of procsem.
		if args := afterDirectory(inv.args); len(args) > 0 && !strings.HasPrefix(args[0], "-") {
			return unknownCommand(cmd, args[0])
		}
	}
	var unknown *pflag.NotExistError
	var needed *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		option := "--" + unknown.GetSpecifiedName()
		if in := unknown.GetSpecifiedShortnames(); in != "" {
			option = "-" + unknown.GetSpecifiedName()
			if in != unknown.GetSpecifiedName() {
				option += " in -" + in
			}
		}
		return usageError(cmd.CommandPath(), "unknown option %s%s", option, didYouMean(nearFlags(cmd, unknown.GetSpecifiedName())))
	case errors.As(err, &needed):
		return usageError(cmd.CommandPath(), "%s needs an argument: %s", optionOf(needed.GetFlag()), argumentOf(needed.GetFlag()))
	case errors.As(err, &invalid):
		return usageError(cmd.CommandPath(), "%s takes no argument but true or false: %q", optionOf(invalid.GetFlag()), invalid.GetValue())
	}
	return usageError(cmd.CommandPath(), "%v", err)
}

// optionOf returns a flag as it is mostly written.
func optionOf(f *pflag.Flag) string {
	if f.Shorthand != "" {
		return "-" + f.Shorthand
	}
	return "--" + f.Name
}

// argumentOf returns what a flag's argument is called in its description.
func argumentOf(f *pflag.Flag) string {
	name, _ := pflag.UnquoteUsage(f)
	return name
}

// nearFlags returns the flags of a command that have a name like that.
func nearFlags(cmd *cobra.Command, name string) (near []string) {
	if len(name) < 3 {
		return nil
	}
	all := &cobra.Command{SuggestionsMinimumDistance: 2}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		all.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
	})
	for _, n := range all.SuggestionsFor(name) {
		near = append(near, "--"+n)
	}
	return near
}

func didYouMean(near []string) string {
	if len(near) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(near, " or ") + "?"
}

func unknownCommand(root *cobra.Command, name string) error {
	return usageError(root.CommandPath(), "unknown command %q%s; %s", name, didYouMean(root.SuggestionsFor(name)), allowed(root))
}

// allowed names the commands.
func allowed(root *cobra.Command) string {
	var names []string
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return "allowed are " + strings.Join(names, ", ")
}

// released is the version of a release, which the linker sets. It is built from a clone, and there Go knows nothing of
// snapshots, nor of a version of the module etcd.
var released string

func version() string {
	if released != "" {
		return released
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(unknown)"
}

// oneName returns the semaphore's name, which is the only argument.
func oneName(cmd *cobra.Command, args []string) (string, error) {
	switch {
	case len(args) == 0:
		return "", usageError(cmd.CommandPath(), "the semaphore's NAME is missing")
	case len(args) > 1:
		return "", usageError(cmd.CommandPath(), "%d names (%s); one NAME is allowed", len(args), strings.Join(args, ", "))
	}
	return nameIn(cmd, args[0])
}

// nameIn returns the name that an argument is.
func nameIn(cmd *cobra.Command, name string) (string, error) {
	if isSet(cmd, base64Flag) {
		b, err := base64.StdEncoding.DecodeString(name)
		if err != nil {
			return "", usageError(cmd.CommandPath(), "--base64 %q: it is not base64, which list --json prints as name_base64", name)
		}
		name = string(b)
	}
	return cleanName(cmd, name)
}

// cleanName checks a name, and returns it without the leading slash that it may have.
func cleanName(cmd *cobra.Command, name string) (string, error) {
	if err := semaphore.CheckName(name); err != nil {
		return "", usageError(cmd.CommandPath(), "the name %s", message(err))
	}
	return strings.TrimPrefix(name, "/"), nil
}

// parsed returns the value that parse reads from a flag's text.
func parsed[T any](cmd *cobra.Command, flag string, parse func(flag, s string) (T, error)) (T, error) {
	v, err := parse("--"+flag, text(cmd, flag))
	if err != nil {
		return v, usageError(cmd.CommandPath(), "%w", err)
	}
	return v, nil
}

// patienceOf returns how long to wait, and what to exit with after that.
func patienceOf(cmd *cobra.Command) (patience, error) {
	p := patience{limit: forEver}
	var err error
	if cmd.Flags().Changed(timeoutFlag) {
		if p.limit, err = parsed(cmd, timeoutFlag, parseTime); err != nil {
			return p, err
		}
	}
	p.asked = p.limit
	p.status, err = parsed(cmd, statusFlag, parseStatus)
	p.quiet = isSet(cmd, quietFlag)
	return p, err
}

func (inv *invocation) create(cmd *cobra.Command, args []string) error {
	if cmd.Flags().Changed(fromFlag) {
		return inv.createFrom(cmd, args)
	}
	name, err := oneName(cmd, args)
	if err != nil {
		return err
	}
	o, err := openerOf(cmd, name, 0)
	if err != nil {
		return err
	}
	s, existed, before, err := o.ensure(isSet(cmd, exclusiveFlag))
	switch {
	case err != nil:
		return err
	case s == nil:
		inv.noticeExists(name, before, before)
		return nil
	case existed && o.posix:
		complain(inv.notices, "%s exists: its value and mode stand", printable(s.Name()))
		return s.Close()
	case existed:
		defer s.Close()
		limit, err := s.Limit()
		if err != nil {
			return err
		}
		inv.noticeExists(s.Name(), before, limit)
		return nil
	}
	inv.noticeMode(cmd, s, o.mode)
	return s.Close()
}

// noticeExists prints what create has changed of a recoverable semaphore.
func (inv *invocation) noticeExists(name string, before, limit int) {
	mode := ", and its mode stands"
	if cluster != nil {
		mode = "" // it has none
	}
	if before != 0 && before != limit {
		complain(inv.notices, "%s exists: its limit was %d and is %d now%s", printable(name), before, limit, mode)
	} else {
		complain(inv.notices, "%s exists: its limit is %d%s", printable(name), limit, mode)
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
func (inv *invocation) noticeMode(cmd *cobra.Command, s *semaphore.Semaphore, mode fs.FileMode) {
	if !cmd.Flags().Changed(modeFlag) {
		return
	}
	mask := umask()
	if runtime.GOOS == "darwin" && s.Engine() == semaphore.EngineLibc {
		mask = 0 // its sem_open does not heed it
	}
	whole := engine.BothOrNeither(mode)
	if whole != mode {
		complain(inv.notices, "%s: of the mode %04o it has %04o at most: the group, and others, get the rights to read and to write only together", printable(s.Name()), mode, whole)
	}
	if left := engine.BothOrNeither(whole &^ mask); left != whole {
		complain(inv.notices, "%s: the umask, %04o, has left %04o of the mode %04o; \"umask 0\" before procsem leaves all of it", printable(s.Name()), mask, left, whole)
	}
}

// openerOf returns the opener that the flags ask for. The value of a POSIX semaphore
// must be at least leastPOSIX.
func openerOf(cmd *cobra.Command, name string, leastPOSIX int) (o opener, err error) {
	o = opener{name: name, posix: isSet(cmd, posixFlag), limit: 1, limited: limitIsSet(cmd)}
	if o.mode, err = parsed(cmd, modeFlag, parseMode); err != nil {
		return o, err
	}
	parse := parseLimit(1, permits.MaxPermits)
	if o.posix {
		parse = parseLimit(leastPOSIX, semaphore.MaxValue)
	}
	if o.limited {
		o.limit, err = parsed(cmd, limitFlag, parse)
	}
	return o, err
}

func (inv *invocation) resize(cmd *cobra.Command, args []string) error {
	asDefault := isSet(cmd, defaultFlag)
	if len(args) == 2 && args[1] == "--"+defaultFlag {
		args, asDefault = args[:1], true
	}
	switch {
	case asDefault && len(args) != 1:
		return usageError(cmd.CommandPath(), "arguments: %d; with --default NAME is needed and no N", len(args))
	case !asDefault && len(args) != 2:
		return usageError(cmd.CommandPath(), "arguments: %d; NAME and N are needed, or NAME and --default", len(args))
	}
	name, err := cleanName(cmd, args[0])
	if err != nil {
		return err
	}
	var n int
	if !asDefault {
		if n, err = parseLimit(0, permits.MaxPermits)("N", args[1]); err != nil {
			return usageError(cmd.CommandPath(), "%w", err)
		}
	}
	return setLimit(name, n, asDefault)
}

func (inv *invocation) wait(cmd *cobra.Command, args []string) error {
	p, err := patienceOf(cmd)
	if err != nil {
		return err
	}
	if isSet(cmd, idleFlag) {
		name, err := oneName(cmd, args)
		if err != nil {
			return err
		}
		return inv.awaitIdle(cmd, name, p, watch(endSignals))
	}
	return inv.takeAndKeep(cmd, args, p)
}

func (inv *invocation) try(cmd *cobra.Command, args []string) error {
	status, err := parsed(cmd, statusFlag, parseStatus)
	if err != nil {
		return err
	}
	return inv.takeAndKeep(cmd, args, patience{limit: 0, status: status, quiet: isSet(cmd, quietFlag)})
}

func (inv *invocation) takeAndKeep(cmd *cobra.Command, args []string, p patience) error {
	name, err := oneName(cmd, args)
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
	t := inv.speak(cmd, name, 1, waitScene)
	defer t.end()
	_, err = take(s, 1, p, w)
	return err
}

func (inv *invocation) post(cmd *cobra.Command, args []string) error {
	name, err := oneName(cmd, args)
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

func (inv *invocation) value(cmd *cobra.Command, args []string) error {
	name, err := oneName(cmd, args)
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
