package semaphore

// An engine of one file is sem_X.go; one with a format of its own in shared memory is a
// package (internal/glibc, internal/recoverable). Each registers itself, in an init
// function of its own file, with internal/engine: what a system or a build lacks is
// just not there. To add one, write that, and give it a name and a constant here.

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/procsem/semaphore/internal/engine"
	_ "github.com/procsem/semaphore/internal/recoverable" // registers itself
	"github.com/procsem/semaphore/internal/store"
)

// Engine names a way to keep a semaphore; it decides which programs can share it.
type Engine int

const (
	// EngineAuto is the first engine of this list that the build has. Where
	// that is EngineLibc, and libc is glibc, waiting and posting are done as
	// EngineNative does them, after a probe has shown that this glibc's
	// semaphores are the known ones.
	EngineAuto Engine = iota

	// EngineLibc is the C library's sem_open and its kin: shared with every
	// program of the same libc. It needs cgo and a Unix system. If it is asked
	// for by WithEngine, every operation is libc's; but with glibc and musl we make
	// the file, so that no child inherits it and a killed creator leaves nothing.
	//
	// libc cannot end a sem_wait from outside. A Wait that is cancelled
	// returns at once, and the thread that was blocked for it is called back
	// by a signal (SIGURG, which Go's runtime uses for its own threads). If
	// it is given a permit in this short time, and no other goroutine waits on the
	// handle, it posts it back; another process may then have seen one permit
	// less for a moment. Close waits for the thread, so close the handle, or
	// call CloseAll, before the process ends: a thread that dies with a permit
	// in its hands takes it along.
	EngineLibc

	// EngineNative is glibc's semaphores without libc: shared with every
	// program of glibc, C, Python and EngineLibc among them, on Linux with or
	// without cgo. A permit that is free is taken by one atomic operation.
	// Programs of another libc (musl) keep theirs in other files, and programs
	// of another word size on the same machine cannot share one: ErrCorrupt
	// says so.
	//
	// Post wakes one waiter. If that one is killed before it takes the permit,
	// the next one finds it within a second; waiters in libc sleep on.
	//
	// The semaphore is memory shared with others: if one of them truncates the
	// file, access to it ends the program with SIGBUS, as in libc.
	EngineNative

	// EngineWindows is CreateSemaphore: shared with every program of Windows that
	// uses the same name. A name is among those of the session (as with the prefix
	// Local\), unless it has the prefix Global\: CheckName has the rule. A name
	// that belongs to an event, a mutex or another kind of object is
	// ErrKindMismatch.
	//
	// The semaphore ends with its last handle, and then forgets its value: the next
	// Open makes a new one with a value of its own. So some process has to keep it
	// open while its value matters, and Unlink has nothing to remove.
	//
	// A Wait that is cancelled returns at once. If the wait in the kernel is given a
	// permit in the same moment, and no other goroutine waits on the handle, it is posted
	// back, as with EngineLibc. Another program may have given its semaphore a
	// lower maximum than MaxValue, which is then where Post is ErrOverflow.
	EngineWindows

	// EngineFlock is a counter in a small file, changed under flock(2):
	// shared with programs that use this package, on any Unix. Waiting polls
	// (WithBackoff). The files are in the directory that WithDir names, or else the environment
	// variable SEMAPHORE_DIR, else in /dev/shm, else in /tmp. A setuid program
	// ignores the variable.
	EngineFlock

	// EngineRecoverable keeps permits that have owners: a handle's permits come
	// back when it is closed, and when its process ends, however it ends
	// (SIGKILL, the OOM killer, a panic). It is never EngineAuto: WithRecovery
	// asks for it. It is shared with programs that use this package, on any
	// Unix that has flock, in files where EngineFlock's are, and on Windows, in the
	// directory that SEMAPHORE_DIR names, else in %ProgramData%\semaphore: there
	// names are the machine's, not the session's, and have no backslash.
	//
	// WithValue is the limit, 1 to 65535. Only the handle that took a permit
	// gives it back, else Post is ErrNotHeld; what Acquire took, only its
	// Permit, or Close, which gives back all that the handle holds. The Release
	// of a Permit after that does nothing. A handle that is not closed lives as
	// long as its process, also if the program keeps no reference to it. At most
	// 4096 handles of a semaphore can be open at a time.
	//
	// On Linux since 5.16 a waiter is notified of an exit at once and sleeps until
	// then; on older kernels it looks once a second. On Windows it is notified at once
	// of the exits of up to 62 processes that it may watch, which are its own user's,
	// and looks for others once a second. Elsewhere waiting polls (WithBackoff), and
	// looks for dead owners ten times a second. docs/recovery.md says how it works and
	// what is not promised.
	//
	// As with EngineNative, whoever truncates the file ends the processes that have it
	// open with SIGBUS. It is not in builds for AIX, for MIPS of 32 bits and for
	// Arm before version 7.
	EngineRecoverable

	// EngineDriver is a store on several machines, whose driver made the semaphore: see FromDriver.
	EngineDriver
)

var engineNames = [...]string{"auto", "libc", "native", "windows", "flock", "recoverable", "driver"}

// String returns the constant's name in lower case without "Engine": "libc", say.
func (e Engine) String() string {
	if e < 0 || int(e) >= len(engineNames) {
		return fmt.Sprintf("Engine(%d)", int(e))
	}
	return engineNames[e]
}

// engines are those of this build, in the order in which EngineAuto prefers them: that
// of their constants.
var engines = sync.OnceValue(func() []*engine.Engine {
	table := slices.Clone(engine.Registered())
	slices.SortFunc(table, func(a, b *engine.Engine) int { return cmp.Compare(engineOf(a), engineOf(b)) })
	return table
})

// engineOf returns the constant of an engine.
func engineOf(e *engine.Engine) Engine { return Engine(slices.Index(engineNames[:], e.Name)) }

// chooseEngine finds an engine that was asked for.
func chooseEngine(e Engine) (*engine.Engine, error) {
	if e < 0 || int(e) >= len(engineNames) {
		return nil, engine.Because(ErrInvalidOption, "there is no engine %v", e)
	}
	if e == EngineDriver {
		return nil, engine.Because(ErrInvalidOption, "engine %v; the package of a store on several machines opens its semaphores", e)
	}
	var have []string
	for _, eng := range engines() {
		if e == EngineAuto || eng.Name == e.String() {
			return eng, nil
		}
		have = append(have, eng.Name)
	}
	if len(have) == 0 {
		return nil, engine.Because(ErrUnsupported, "this package has no engine for %s", runtime.GOOS)
	}
	needs := ""
	if e == EngineLibc {
		needs = " (it needs cgo, and a Unix system's libc)"
	}
	return nil, engine.Because(ErrUnsupported, "engine %v%s on %s; this build has: %s", e, needs, runtime.GOOS, strings.Join(have, ", "))
}

// openBackend opens name as a semaphore of engine eng.
//
// Two stores that hold "the" permit of one name would exclude nobody, so a
// name may exist in one of them only. Whoever creates looks at the other
// stores and creates under one lock (store.Lock): of two programs that race to
// create two kinds the second one finds the first one's. Opening what exists
// creates nothing and needs no lock; the engine looks at the other stores (Alone) when
// it has found the semaphore, and before it changes anything in it.
//
// With WithDir the other stores are those in that directory, whose lock it then is. A semaphore
// that is in no directory, libc's, is another one, whatever its name; but if the directory is the usual
// one, those who open the name without WithDir look at all stores, and so it does.
func openBackend(eng *engine.Engine, name string, o *options) (engine.Backend, error) {
	o.Alone = func(ours fs.FileInfo) error { return otherKind(eng, name, ours, o) }
	if !o.exclusive {
		b, err := eng.Open(name, engine.OpenExisting, &o.Options)
		if !errors.Is(err, fs.ErrNotExist) {
			return b, err
		}
		if !o.Create {
			return nil, cmp.Or(o.Alone(nil), err)
		}
	}
	if eng.Prepare != nil {
		eng.Prepare()
	}
	unlock, err := store.Lock(o.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := o.Alone(nil); err != nil {
		return nil, err
	}
	if o.exclusive {
		return eng.Open(name, engine.CreateNew, &o.Options)
	}
	return eng.Open(name, engine.OpenOrCreate, &o.Options)
}

// otherKind returns ErrKindMismatch if name exists in another store than eng's,
// or the error that keeps us from knowing.
func otherKind(eng *engine.Engine, name string, ours fs.FileInfo, o *options) error {
	other, err := store.OtherKind(o.kinds(), eng, o.Dir, name, ours)
	if err != nil {
		return fmt.Errorf("looking for another semaphore of that name: %w", err)
	}
	if other != nil {
		remedy := ""
		recoverable := EngineRecoverable.String()
		switch {
		case other.Name == recoverable:
			remedy = "; OpenLimit, or WithRecovery(true), opens it"
		case eng.Name == recoverable && o.inDir && !other.Dirs:
			remedy = "; Open without WithRecovery and WithDir opens it, but a holder that dies does not give back its permits"
		case eng.Name == recoverable && o.inDir:
			remedy = "; Open with WithEngine(EngineFlock) opens it, but a holder that dies does not give back its permits"
		case eng.Name == recoverable:
			remedy = "; Open without WithRecovery opens it, but a holder that dies does not give back its permits"
		}
		return engine.Because(ErrKindMismatch, "it is in use by engine %v, not %v%s", other.Name, eng.Name, remedy)
	}
	return nil
}

// unlinkKinds removes name from the store of the engine that was asked for, or with EngineAuto
// from whichever has it.
func unlinkKinds(name string, o *options) error {
	eng, err := chooseEngine(o.engine)
	if err != nil {
		return err
	}
	if o.engine != EngineAuto {
		if err := o.chooseDir(eng); err != nil {
			return err
		}
		return eng.Unlink(o.Dir, name)
	}
	if o.inDir {
		if o.Dir, err = store.Choose(o.Dir); err != nil {
			return err
		}
	}
	var errs []error
	removed := false
	stores := make(map[string]bool)
	for _, eng := range o.engines() {
		if stores[eng.Store] {
			continue
		}
		stores[eng.Store] = true
		switch err := eng.Unlink(o.Dir, name); {
		case err == nil:
			removed = true
		case !errors.Is(err, fs.ErrNotExist):
			errs = append(errs, err)
		}
	}
	if !removed && errs == nil {
		return engine.ErrNoSuch
	}
	return errors.Join(errs...)
}

// kinds are the engines among which a name is of one kind.
func (o *options) kinds() []*engine.Engine {
	if !o.inDir {
		return engines()
	}
	return store.KindsIn(engines(), o.Dir)
}

// engines are those whose semaphores can be meant: all of this build, or with WithDir those whose
// semaphores are in directories.
func (o *options) engines() []*engine.Engine {
	if !o.inDir {
		return engines()
	}
	return store.WithDirs(engines())
}

// chooseDir decides in which directory the semaphore's file is, if it has one, once and for all: neither
// a change of the working directory nor one of SEMAPHORE_DIR gives a handle another.
func (o *options) chooseDir(eng *engine.Engine) (err error) {
	switch {
	case o.inDir && !eng.Dirs:
		err = noDir(engineOf(eng))
	case o.inDir:
		o.Dir, err = store.Choose(o.Dir)
	case eng.Dirs:
		o.Dir, err = store.Dir("")
	}
	return err
}

// noDir is the error of WithDir and an engine that has no directory.
func noDir(e Engine) error {
	return engine.Because(ErrInvalidOption, "WithDir and engine %v, whose semaphores are in no directory that a program can choose; those of engines %v and %v are: OpenLimit, WithRecovery(true), or (on Unix) WithEngine(EngineFlock)", e, EngineRecoverable, EngineFlock)
}

// whereMissing adds to the error of a semaphore that does not exist in which directory that is.
func (o *options) whereMissing(err error) error {
	if o.inDir && errors.Is(err, engine.ErrNoSuch) {
		return fmt.Errorf("%w, in %s", err, o.Dir)
	}
	return err
}
