package semaphore

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/exitsignal"
)

// MaxValue is the greatest value of a semaphore, glibc's SEM_VALUE_MAX. The limit of
// a recoverable one is 65535 at the most.
const MaxValue = 1<<31 - 1

var _ = [1]struct{}{}[MaxValue-engine.MaxValue] // they are one number

// An Option changes how Open, OpenLimit, Acquire, Do, Unlink or FromDriver work. Where several set the
// same thing, the last one counts. A nil one is [ErrInvalidOption].
type Option func(*options)

type options struct {
	engine.Options // what engines look at

	engine      Engine
	recovery    bool
	inDir       bool // WithDir: Dir is what it says, at first as it was written
	exclusive   bool
	closeOnExit bool
	strict      bool
	interrupts  []os.Signal // that end waits
	backoff     func() func(attempt int) time.Duration
}

func newOptions(opts []Option) (options, error) {
	o := options{
		Options: engine.Options{Create: true, Value: 1, Mode: 0o600, RetryEINTR: true},
		backoff: growingBackoff,
	}
	for i, opt := range opts {
		if opt == nil {
			return o, engine.Because(ErrInvalidOption, "option %d of %d is nil", i+1, len(opts))
		}
		opt(&o)
	}
	switch {
	case o.engine != EngineRecoverable && !o.recovery && (o.Value < 0 || o.Value > MaxValue):
		return o, engine.Because(ErrInvalidValue, "%d; allowed are 0 to %d", o.Value, MaxValue)
	case engine.WrongLabel(o.Label) != "":
		return o, engine.Because(ErrInvalidOption, "WithLabel(%q): %s", o.Label, engine.WrongLabel(o.Label))
	case o.Mode&^fs.ModePerm != 0:
		return o, engine.Because(ErrInvalidOption, "mode %#o; only permission bits (0 to 0777) are allowed", uint32(o.Mode))
	case o.RetryEINTR && len(o.interrupts) > 0:
		return o, engine.Because(ErrInvalidOption, "WithRetryOnEINTR(true) with signals (%v); they end waits only with false", o.interrupts)
	case slices.ContainsFunc(o.interrupts, func(sig os.Signal) bool { return !exitsignal.CanBeHandled(sig) }):
		return o, engine.Because(ErrInvalidOption, "WithRetryOnEINTR with signals %v; no program can handle SIGKILL, SIGSTOP or nil", o.interrupts)
	case o.exclusive && !o.Create:
		return o, engine.Because(ErrInvalidOption, "WithExclusive(true) needs WithCreate(true): it is creation that is exclusive")
	case o.recovery && o.engine != EngineAuto && o.engine != EngineRecoverable:
		return o, engine.Because(ErrInvalidOption, "WithRecovery(true) and WithEngine(%v); recovery is what engine %v does", o.engine, EngineRecoverable)
	case o.inDir && o.Dir == "":
		return o, engine.Because(ErrInvalidOption, `WithDir(""): it needs the path of a directory`)
	case o.inDir && (o.engine == EngineLibc || o.engine == EngineNative || o.engine == EngineWindows):
		return o, noDir(o.engine) // also if the build lacks it
	case o.recovery:
		o.engine = EngineRecoverable
	}
	o.Exact = o.engine != EngineAuto
	o.Mode = engine.BothOrNeither(o.Mode) // also where it says whose files are expected
	return o, nil
}

// warnOf logs the error of an operation if a system call failed in it or a file
// was damaged; the others are answers to the caller alone.
func (o *options) warnOf(op string, err error) {
	var known *engine.Sentinel
	expected := errors.As(err, &known) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist)
	if !expected || errors.Is(err, ErrCorrupt) {
		o.Warn("failed", "op", op, "error", err)
	}
}

// growingBackoff is the default of WithBackoff: 1 ms, doubling to 20 ms, which
// are CPython's bounds where it has no sem_timedwait.
func growingBackoff() func(attempt int) time.Duration {
	return func(attempt int) time.Duration {
		return min(time.Millisecond<<min(attempt-1, 5), 20*time.Millisecond)
	}
}

// WithCreate says whether Open creates a semaphore that does not exist. The
// default is true; with false its absence is [fs.ErrNotExist].
func WithCreate(create bool) Option { return func(o *options) { o.Create = create } }

// WithExclusive(true) makes Open fail with [fs.ErrExist] if the semaphore
// exists (O_EXCL). The default is false.
func WithExclusive(exclusive bool) Option { return func(o *options) { o.exclusive = exclusive } }

// WithValue sets the value that a semaphore is created with, 0 to [MaxValue].
// The default is 1, a mutex; 0 makes a semaphore that signals. As POSIX has
// it, the option means nothing to a semaphore that exists already.
//
// Of a recoverable semaphore ([WithRecovery]) it is the limit, 1 to 65535, and means
// something to one that exists: if another limit is in force, Open fails with
// [ErrLimitMismatch] while some process has the semaphore open, and else changes the limit,
// also with WithCreate(false). What SetLimit has set stays, and the option is then not
// used. Without the option the limit that is in force is used, and 1 for a new
// semaphore.
func WithValue(value int) Option {
	return func(o *options) { o.Value, o.ValueSet = value, true }
}

// WithMode sets the permission bits of a semaphore that is created, subject
// to the umask. The default is 0600. Using a semaphore takes the right to read and to
// write, so the file's group, and others, get both or neither: 0644, and 0666 under a
// umask of 022, is 0600. (A user that may only read could keep others from opening by locks.
// Where libc's sem_open makes the file, elsewhere than on Linux, the umask may leave
// such a right.) A recoverable semaphore's mode must give its owner both.
//
// On Windows there is no umask, and the creator, administrators and the system have
// every right. The group of the bits is the primary group of the creator's token;
// it, and everyone, get the right to use the semaphore if their bits say both read and
// write, and else none.
//
// To [EngineFlock] and [EngineRecoverable] a mode that lets others write also says that
// the caller expects a semaphore which another user has created; else one that belongs
// neither to root nor to the caller is refused with [fs.ErrPermission], also to root,
// unless the caller uses WithCreate(false). Refused likewise, whoever owns it, is one
// whose file its group or others may write when this mode would not let them (on
// Windows: when this mode lets nobody else write). So whoever uses a shared semaphore,
// its creator too, has to give a mode that shares it. To end the sharing unlink it: a
// change of the file's mode does not reach links that others have made.
func WithMode(mode fs.FileMode) Option { return func(o *options) { o.Mode = mode } }

// WithRetryOnEINTR says what a Wait does that a signal has interrupted: go on (true, the
// default), or end with [ErrInterrupted].
//
// With false, name the signals that are to end waits, as
// WithRetryOnEINTR(false, os.Interrupt): when the process gets one of them, every Wait,
// WaitContext, WaitTimeout and Acquire that is blocked on the handle ends. The package
// listens for these signals as long as the handle is open ([signal.Notify]), so their
// default action does not end the program meanwhile, and C handlers of theirs are not
// called; signals that were ignored when the program started (nohup), or are ignored at
// the time of Open, stay ignored. A signal that comes when no wait is blocked does nothing,
// as POSIX has it: a program that must not miss one listens for it too. A signal that
// ends the process [WithCloseOnExit] does that all the same. It works with every engine.
//
// Signals that are not named go to whichever thread the kernel chooses, and rarely to the
// one that is blocked for the handle. If one meets it (tgkill(2)), the Wait at the
// head of the handle's queue ends, also if the handler has SA_RESTART: timed waits on a futex are
// never restarted (futex(2), signal(7)). Go's runtime (which preempts goroutines by
// signals) and profilers send signals to any thread, so false is for programs that expect to
// be interrupted for no reason too. [EngineFlock], [EngineWindows], and [EngineRecoverable]
// elsewhere than on Linux, hear of named signals only.
func WithRetryOnEINTR(retry bool, signals ...os.Signal) Option {
	return func(o *options) { o.RetryEINTR, o.interrupts = retry, signals }
}

// WithCloseOnExit(true) gives back what the handle holds when SIGINT, SIGTERM
// or SIGHUP ends the process: its waits less its posts, never less than
// nothing, and the permits of Acquire that were not released. Then the process
// dies of that signal, even where the program itself listens for it. Close and
// [CloseAll] give back too.
//
// From the signal on no call on such a handle returns an error, neither [ErrClosed] nor
// that of a context which ended by the same signal ([signal.NotifyContext]), nor does
// Close return: a program that left because of it would end by itself, before all is
// given back. What
// the program does on its own, in other goroutines or when a listener of its own
// hears the signal, goes on until the process dies, a second at most.
//
// SIGINT and SIGHUP that were ignored when the program started (nohup) or that
// it ignores at the time of Open stay ignored. For SIGTERM that cannot be
// known: Go's runtime takes it over before any user code runs.
//
// On Windows these are the events of the console: Ctrl-C and Ctrl-Break (SIGINT to
// Go), its closing, the end of the session and the system's shutdown (SIGTERM). The
// process then ends with the status that such an event gives to a program which does
// not handle it, 0xC000013A.
//
// Not covered: [os.Exit] (call CloseAll before it), a panic in another
// goroutine, SIGKILL, TerminateProcess. The default is false, because a program that handles its
// signals still works inside its critical section when they come, and giving
// its permit away then would break the limit. It is not for semaphores that
// signal, whose waits are not meant to be undone.
//
// Recoverable semaphores don't need it: however the process ends, its permits come
// back after it. With the option they come back just before, also if a child has the
// LockFile.
func WithCloseOnExit(on bool) Option { return func(o *options) { o.closeOnExit = on } }

// WithStrict(true) makes the handle a lock that knows whether it is held:
// Post while it holds nothing is [ErrNotHeld], Wait or TryWait while it holds a
// permit is [ErrHeld], and a second Close is [ErrClosed]. A Wait that was blocked
// before the handle got its permit stays in line. Permits of Acquire and
// TryAcquire are their own owners and do not count. The default is false: as
// POSIX has it, any process may post (not with [WithRecovery], where Post is ErrNotHeld in
// any case), and Close may be repeated.
func WithStrict(strict bool) Option { return func(o *options) { o.strict = strict } }

// WithEngine says which engine is to keep the semaphore. Open fails with [ErrUnsupported] if the system or the build
// lacks it. The default is [EngineAuto].
func WithEngine(e Engine) Option { return func(o *options) { o.engine = e } }

// WithDir keeps the semaphore's file in the directory dir, beside what it guards, a cache or
// a build directory. It takes the place of SEMAPHORE_DIR and of the usual directories, for this
// call of Open, [OpenLimit], Acquire, Do or Unlink and for the handle that it returns. Processes that name the same directory, by
// whatever path, or have it as SEMAPHORE_DIR, share the semaphore. One name in two
// directories is two semaphores, each with its own permits. What the documentation says of files in
// SEMAPHORE_DIR is true of these, too: whose are trusted, which are refused, and that a limit doubles
// when a name that is in use is removed.
//
// A relative dir is looked up in the working directory at the time of the call, and a symbolic link is
// followed then; a later chdir, or a link that leads elsewhere later, changes nothing for the handle. The directory has to exist. A setuid program ignores SEMAPHORE_DIR, but not WithDir,
// which it says itself: it must not pass on a directory that its user has named.
//
// Only [EngineRecoverable] and [EngineFlock] have files in a directory that can be chosen. With
// another engine, and so with [EngineAuto] mostly, WithDir is [ErrInvalidOption]: use OpenLimit or Do, or add
// WithRecovery(true) or WithEngine(EngineFlock). Unlink needs neither, and removes whichever of
// the two there is. [ErrKindMismatch] is of these two, in that directory: a semaphore
// of libc is elsewhere, and may have the same name. Only if dir is the directory that is used without
// WithDir, it is of all kinds, for there a name is of one kind for all.
//
// Errors: [ErrInvalidOption] also if dir is "" or is no directory, [fs.ErrNotExist] if it does not
// exist, [ErrUnsupported] if it is on a network filesystem.
func WithDir(dir string) Option { return func(o *options) { o.Dir, o.inDir = dir, true } }

// WithRecovery(true) makes a semaphore whose permits come back when their holder
// dies: it is WithEngine(EngineRecoverable), and together with another engine
// [ErrInvalidOption]. Every program that shares the semaphore needs it: to open one of the other kind
// is [ErrKindMismatch]. The default is false.
func WithRecovery(on bool) Option { return func(o *options) { o.recovery = on } }

// WithLabel gives the handle a text that tells people what it is for, as WithLabel("deploy 4711"):
// Holders and procsem show have it beside the process. It is UTF-8 of at most 32 bytes,
// without NUL, else [ErrInvalidOption]; the default, "", is no label. Whoever may read the
// semaphore's file can read it, and no program should rely on what another one has
// written there. Only recoverable semaphores keep it ([WithRecovery]); others ignore it.
func WithLabel(text string) Option { return func(o *options) { o.Label = text } }

// WithLogger logs to l: at Debug what happens (open, blocked, taken, with how long it
// was waited if it blocked, posted, closed, retried), at Warn what should be seen (a system call that failed,
// permits given back on exit, a name that vanished). The default, nil, is
// silence.
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.Log = l } }

// WithBackoff sets the pauses between tries where an engine has to poll
// ([EngineFlock], [EngineRecoverable] but on Linux and Windows, and [EngineLibc] on systems
// without a timed wait); others ignore it. newBackoff is called for each Wait that
// blocks, when it comes to be the first in line; the function it returns gets the
// number of tries that failed so far, from 1, and returns the pause before the next: 0
// tries again at once, a negative pause ends the Wait with [ErrTimeout]. The default,
// nil, pauses 1 ms, doubling to 20 ms.
func WithBackoff(newBackoff func() func(attempt int) time.Duration) Option {
	return func(o *options) {
		o.backoff = newBackoff
		if newBackoff == nil {
			o.backoff = growingBackoff
		}
	}
}
