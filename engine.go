package semaphore

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/procsem/semaphore/internal/waitqueue"
)

// Engine names a way to keep a semaphore; it decides who else can share it.
type Engine int

const (
	// EngineAuto is the first engine of this list that the build has. Where
	// that is EngineLibc, and libc is glibc, waiting and posting are done as
	// EngineNative does them, after a probe has shown that this glibc's
	// semaphores are the known ones.
	EngineAuto Engine = iota

	// EngineLibc is the C library's sem_open and its kin: shared with every
	// program of the same libc. It needs cgo and a Unix system. If it is asked
	// for by WithEngine, every operation is libc's.
	//
	// libc cannot end a sem_wait from outside. A Wait that is cancelled
	// returns at once, and the thread that was blocked for it is called back
	// by a signal (SIGURG, which Go's runtime uses for its own threads). If
	// it is given a permit in this short time, and nobody else waits on the
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
	// permit in the same moment, and nobody else waits on the handle, it is posted
	// back, as with EngineLibc. Another program may have given its semaphore a
	// lower maximum than MaxValue, which is then where Post is ErrOverflow.
	EngineWindows

	// EngineFlock is a counter in a small file, changed under flock(2):
	// shared with programs that use this package, on any Unix. Waiting polls
	// (WithBackoff). The files are in the directory that the environment
	// variable SEMAPHORE_DIR names, else in /dev/shm, else in /tmp.
	EngineFlock

	// EngineRecoverable keeps permits that have owners: those of a handle come
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
	// On Linux since 5.16 a waiter learns of a death at once and sleeps on until
	// then; on older ones it looks once a second. On Windows it learns at once
	// of the deaths of up to 62 processes that it may watch, those of its own user,
	// and looks for others once a second. Elsewhere waiting polls (WithBackoff), and
	// looks for the dead ten times a second. docs/recovery.md says how it works and
	// what is not promised.
	//
	// As with EngineNative, whoever truncates the file ends those who have it
	// open with SIGBUS. It is not in builds for AIX, for MIPS of 32 bits and for
	// Arm before version 7.
	EngineRecoverable
)

var engineNames = [...]string{"auto", "libc", "native", "windows", "flock", "recoverable"}

func (e Engine) String() string {
	if e < 0 || int(e) >= len(engineNames) {
		return fmt.Sprintf("Engine(%d)", int(e))
	}
	return engineNames[e]
}

// A backend is one open semaphore of an engine. Its methods return the bare
// sentinel or system error; the Semaphore adds operation and name.
//
// The Semaphore guarantees: at most one serve at a time, and close once, after
// every other call has returned. All else may be called concurrently.
type backend interface {
	// tryWait takes a permit or returns ErrWouldBlock, without blocking. Where
	// it cannot know at once, it takes some time to find out if the answer is
	// final, and none if the caller would only go on to wait.
	tryWait(final bool) error
	// serve calls t.look whenever a permit may be free, first of all at once,
	// and returns when that says that nobody waits. In between it blocks.
	serve(t *turn)
	// interrupt makes the serve in progress, if there is one, look again.
	interrupt()
	post() error
	value() (int, error)
	close() error
}

// A backend is blind if its serve may take a permit when nobody waits any more,
// which it then gives back.
type blind interface{ takesUnasked() }

// A backend is a poller if its serve pauses as the front waiter's backoff says.
type poller interface{ polls() bool }

// errStopped is what a wait ends with whose context has ended.
var errStopped = errors.New("stopped")

// A turn is what the server of a handle's queue knows of those who wait.
type turn struct {
	s      *Semaphore
	served int // how many got a permit by look
}

// look takes permits for those who wait, and reports whether nobody waits.
func (t *turn) look() (done bool) {
	return t.s.queue.Serve(func(w *waitqueue.Waiter) (err error) {
		w.Got, err = t.s.take(false, w.ForPermit)
		if err == nil {
			t.served++
		}
		return err
	}, ErrWouldBlock)
}

// fail ends the wait in front.
func (t *turn) fail(err error) { t.s.queue.Dismiss(t.s.queue.Front(), err) }

// poll is the serve of engines that have to poll: it looks, with the backoff's
// pauses, which a receive from kick cuts short. idle is called before each.
func (t *turn) poll(kick <-chan struct{}, idle func()) {
	var front waitqueue.Ticket
	var pause func(int) time.Duration
	var attempt int
	for !t.look() {
		// Each wait has its own backoff, from the moment it is in front.
		if f := t.s.queue.Front(); f == 0 {
			continue // gone since the look
		} else if f != front {
			front, pause, attempt = f, t.s.opts.backoff(), 0
		}
		idle()
		attempt++
		d := pause(attempt)
		if d < 0 {
			t.s.queue.Dismiss(front, because(ErrTimeout, "the backoff function ended the wait after %d tries", attempt))
			front = 0
			continue
		}
		timer := time.NewTimer(d)
		select {
		case <-timer.C:
		case <-kick:
			timer.Stop()
		}
	}
}

// A kind is a row of the table of engines.
type kind struct {
	engine Engine
	// store names the place; engines of one store share its semaphores.
	store  string
	open   func(name string, how openHow, o *options) (backend, error)
	exists func(name string) (bool, error)
	unlink func(name string) error
}

type openHow int

const (
	openExisting openHow = iota
	openOrCreate
	createNew
)

// kinds holds a row for each engine of this build, by preference of EngineAuto.
// Whoever adds an engine adds it here and writes the functions in a file of its
// own, with a nil row for builds that do not have it.
var kinds = slices.DeleteFunc([]*kind{libcKind, nativeKind, windowsKind, flockKind, recoverKind}, func(k *kind) bool { return k == nil })

// chooseKind finds the row for an engine that was asked for.
func chooseKind(e Engine) (*kind, error) {
	if e < 0 || int(e) >= len(engineNames) {
		return nil, because(ErrInvalidOption, "there is no engine %v", e)
	}
	var have []string
	for _, k := range kinds {
		if e == EngineAuto || e == k.engine {
			return k, nil
		}
		have = append(have, k.engine.String())
	}
	if len(have) == 0 {
		return nil, because(ErrUnsupported, "this package has no engine for %s", runtime.GOOS)
	}
	return nil, because(ErrUnsupported, "engine %v on %s (cgo: %v); this build has: %s",
		e, runtime.GOOS, cgoEnabled, strings.Join(have, ", "))
}

// openBackend opens name as a semaphore of kind k.
//
// Two stores that hold "the" permit of one name would exclude nobody, so a
// name may exist in one of them only. Whoever creates looks at the other
// stores and creates under one lock (lockStores): of two programs that race to
// create two kinds the second one finds the first one's. Opening what exists
// creates nothing and needs no lock.
func openBackend(k *kind, name string, o *options) (backend, error) {
	if !o.exclusive {
		b, err := k.open(name, openExisting, o)
		absent := errors.Is(err, fs.ErrNotExist)
		if err != nil && !absent {
			return nil, err
		}
		if b != nil || !o.create {
			if other := otherKind(k, name); other != nil {
				if b != nil {
					b.close()
				}
				return nil, other
			}
			return b, err
		}
	}
	unlock, err := lockStores()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := otherKind(k, name); err != nil {
		return nil, err
	}
	if o.exclusive {
		return k.open(name, createNew, o)
	}
	return k.open(name, openOrCreate, o)
}

// otherKind returns ErrKindMismatch if name exists in another store than k's,
// or the error that keeps us from knowing.
func otherKind(k *kind, name string) error {
	for _, other := range kinds {
		if other.store == k.store {
			continue
		}
		exists, err := other.exists(name)
		if err != nil {
			return fmt.Errorf("looking for a semaphore of that name of engine %v: %w", other.engine, err)
		}
		if exists {
			return because(ErrKindMismatch, "it is in use by engine %v, not %v", other.engine, k.engine)
		}
	}
	return nil
}

// unlinkKinds removes name from engine e's store, or with EngineAuto from
// whichever has it.
func unlinkKinds(e Engine, name string) error {
	if e != EngineAuto {
		k, err := chooseKind(e)
		if err != nil {
			return err
		}
		return k.unlink(name)
	}
	if len(kinds) == 0 {
		_, err := chooseKind(e)
		return err
	}
	var errs []error
	removed := false
	stores := make(map[string]bool)
	for _, k := range kinds {
		if stores[k.store] {
			continue
		}
		stores[k.store] = true
		switch err := k.unlink(name); {
		case err == nil:
			removed = true
		case !errors.Is(err, fs.ErrNotExist):
			errs = append(errs, err)
		}
	}
	if !removed && errs == nil {
		return errNoSuch
	}
	return errors.Join(errs...)
}

var errNoSuch = fmt.Errorf("no such semaphore: %w", fs.ErrNotExist)

var errExists = fmt.Errorf("semaphore exists: %w", fs.ErrExist)
