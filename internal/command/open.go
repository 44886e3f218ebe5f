package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/names"
	"github.com/procsem/semaphore/internal/store"
)

// The kinds of semaphores, as list and show print them.
// Those in a store have its scheme there.
const (
	kindRecoverable = "recoverable"
	kindPOSIX       = "posix"
	kindFlock       = "flock" // the rules of POSIX in a file of our own
)

func kindOf(s *semaphore.Semaphore) string { return kindOfEngine(s.Engine()) }

func kindOfEngine(e semaphore.Engine) string {
	switch e {
	case semaphore.EngineRecoverable:
		return kindRecoverable
	case semaphore.EngineFlock:
		return kindFlock
	case semaphore.EngineDriver:
		return clusterAt.Scheme
	}
	return kindPOSIX
}

// posixLasts says whether POSIX semaphores stay when no process has them open. On
// Windows they are kernel objects that vanish with their last handle.
const posixLasts = runtime.GOOS != "windows"

// An opener opens or creates a semaphore.
type opener struct {
	name    string
	posix   bool
	limit   int
	limited bool // the user asked for this limit
	mode    fs.FileMode
	label   string
	owner   *engine.Owner // of a new recoverable one, and expected of one that exists
}

// open opens or creates the semaphore. It also reports whether a POSIX semaphore
// existed; for a recoverable one that is not known. The library decides under its
// lock whether a limit that differs may be adopted, so the limit is passed on only
// if the user asked for it.
func (o opener) open() (s *semaphore.Semaphore, existed bool, err error) {
	if cluster != nil {
		s, err = o.openStored(context.Background(), false)
		return s, false, err
	}
	if o.posix {
		return o.openPOSIX()
	}
	opts := []semaphore.Option{semaphore.WithRecovery(true), semaphore.WithMode(o.mode), semaphore.WithLabel(o.label), o.withOwner()}
	if o.limited {
		opts = append(opts, semaphore.WithValue(o.limit))
	}
	s, err = semaphore.Open(o.name, inDirectory(opts...)...)
	return s, false, o.advise(err)
}

// exists reports whether there is a recoverable semaphore of that name.
func (o opener) exists() bool {
	dir, err := storeDir()
	if err != nil || o.posix {
		return false
	}
	_, err = os.Lstat(filepath.Join(dir, names.FileName(names.Recoverable, o.name)))
	return err == nil
}

// create fails if the semaphore exists.
func (o opener) create() (*semaphore.Semaphore, error) {
	if cluster != nil {
		return o.openStored(context.Background(), true)
	}
	if o.posix && !posixLasts {
		s, err := openExistingPOSIX(o.name)
		switch {
		case err == nil:
			s.Close()
			err = &semaphore.Error{Op: "open", Name: o.name, Err: fs.ErrExist}
		case errors.Is(err, fs.ErrNotExist):
			err = &failure{statusUnavailable, fmt.Errorf("--posix: on %s a POSIX semaphore is gone when nobody has it open, so none would be left; procsem run --posix, or a program, keeps one open for as long as it runs", runtime.GOOS)}
		}
		return nil, o.advise(err)
	}
	s, err := semaphore.Open(o.name, inDirectory(semaphore.WithExclusive(true), semaphore.WithRecovery(!o.posix),
		semaphore.WithValue(o.limit), semaphore.WithMode(o.mode), o.withOwner())...)
	return s, o.advise(err)
}

func (o opener) withOwner() semaphore.Option { return engine.WithOwner(o.owner).(semaphore.Option) }

// ensure creates the semaphore, or opens one that exists, unless that is excluded. It returns nil if one exists
// whose table is full. limit is that of one that existed, 0 if it is not known.
func (o opener) ensure(exclusive bool) (s *semaphore.Semaphore, existed bool, limit int, err error) {
	s, err = o.create()
	// A semaphore of the other kind is an error, as it is not what was to be
	// created. But a flock-counter is a POSIX semaphore too.
	exists := errors.Is(err, fs.ErrExist) || o.posix && errors.Is(err, semaphore.ErrKindMismatch)
	if !exists || exclusive {
		return s, false, 0, err
	}
	limit = currentLimit(o.name)
	s, _, err = o.open()
	if errors.Is(err, semaphore.ErrTableFull) {
		// Its limit is the one that was asked for, or stands in any case.
		return nil, true, limit, nil
	}
	return s, true, limit, err
}

// openPOSIX creates the semaphore, or uses an existing one as it is, of whichever
// engine. Other processes may create or unlink it between the attempts.
func (o opener) openPOSIX() (s *semaphore.Semaphore, existed bool, err error) {
	opts := []semaphore.Option{semaphore.WithValue(o.limit), semaphore.WithMode(o.mode)}
	s, err = semaphore.Open(o.name, append(slices.Clip(opts), semaphore.WithExclusive(true))...)
	if errors.Is(err, fs.ErrExist) {
		// Without WithCreate(false), which would trust any owner of the file.
		s, err = semaphore.Open(o.name, opts...)
		return s, true, o.advise(err)
	}
	if errors.Is(err, semaphore.ErrKindMismatch) {
		// The same, if it is of another engine of this kind.
		s, err = openAnyPOSIX(o.name, opts...)
		return s, true, o.advise(err)
	}
	return s, false, o.advise(err)
}

// An advised error says what is wrong, and what the user can do, in the command's words.
type advised struct {
	err  error
	text string
}

func (a *advised) Error() string { return a.text }
func (a *advised) Unwrap() error { return a.err }

func advice(err error, format string, args ...any) error {
	return &advised{err, fmt.Sprintf(format, args...)}
}

// advise says what the user can do if the semaphore is not as it was asked for. (What
// the library says speaks of its options and engines.)
func (o opener) advise(err error) error {
	var stranger *engine.Stranger
	var exposed *engine.Exposed
	switch {
	case errors.Is(err, semaphore.ErrKindMismatch) && o.posix:
		if s, other := openExistingPOSIX(o.name); other == nil {
			s.Close()
			return err // another engine, but the same kind
		}
		return advice(err, "%q is a recoverable semaphore: omit --posix", o.name)
	case errors.Is(err, semaphore.ErrKindMismatch) && directory != "" && !keptThere(o.name, semaphore.EngineFlock):
		return advice(err, "%q is a POSIX semaphore, and in %s, the usual directory, no other one may have its name: choose another name, or to use it omit --dir and add --posix", o.name, directory)
	case errors.Is(err, semaphore.ErrKindMismatch) && directory != "":
		return advice(err, "%q is a bare count there (flk.%[1]s), no recoverable semaphore: choose another name, or remove it: %s unlink %[1]s", o.name, toType())
	case errors.Is(err, semaphore.ErrKindMismatch):
		return advice(err, "%q is a POSIX semaphore: add --posix", o.name)
	case errors.Is(err, semaphore.ErrLimitMismatch):
		return advice(err, "%s; to change it for all: %s resize %s %d", message(err), toType(), o.name, o.limit)
	case errors.As(err, &stranger) && o.owner != nil:
		return advice(err, "%q belongs to user %s, and not to the owner of the line, or root: it is not touched; to make a new one: %s unlink %[1]s", o.name, stranger.Owner, toType())
	case errors.As(err, &stranger):
		return advice(err, "%q belongs to user %s, who decides whom it limits; to accept that, and to create one that others may use, add --mode 0666", o.name, stranger.Owner)
	case errors.As(err, &exposed):
		return advice(err, "%q may be written by others (its mode is %04o), so any of them may have put it there; if it is to be shared, add --mode %04[2]o, and else remove it: %s unlink %[1]s", o.name, uint32(exposed.Mode), toType())
	case errors.Is(err, semaphore.ErrUnsupported) && o.posix && noGlibcDir():
		return advice(err, "this system has no %s, where POSIX semaphores are kept; omit --posix for a recoverable one", names.GlibcDir)
	}
	if owner := othersFile(err); owner >= 0 {
		return advice(err, "%q belongs to user %d, and is not shared with others; if it is to be, that user removes it (%s unlink %[1]s), and all use it with --mode 0666 then", o.name, owner, toType())
	}
	return err
}

// othersFile returns the user to whom a file belongs that the caller may not open, or -1 if it is the caller's, or unknown.
func othersFile(err error) int {
	var failed *fs.PathError
	if !errors.Is(err, fs.ErrPermission) || !errors.As(err, &failed) || failed.Op != "open" {
		return -1
	}
	info, err := os.Lstat(failed.Path)
	if err != nil || !info.Mode().IsRegular() {
		return -1
	}
	if owner := ownerOf(info).UID; owner != os.Geteuid() {
		return owner
	}
	return -1
}

// noGlibcDir reports whether a directory is missing that Linux systems have.
func noGlibcDir() bool {
	_, err := os.Stat(names.GlibcDir)
	return runtime.GOOS == "linux" && errors.Is(err, fs.ErrNotExist)
}

// missing adds to the error of a semaphore that does not exist where POSIX semaphores
// could not exist.
func missing(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) && directory == "" && noGlibcDir() {
		return advice(err, "no such semaphore: %q; and this system has no %s, where POSIX semaphores are kept", name, names.GlibcDir)
	}
	return err
}

// openExisting opens the semaphore of that name, of either kind.
func openExisting(name string) (*semaphore.Semaphore, error) {
	s, err := openExistingPOSIX(name)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return s, missing(name, err)
	}
	// It is of the other kind; and what some user has put under the name of this one
	// must not hide it.
	s, other := semaphore.Open(name, inDirectory(semaphore.WithCreate(false), semaphore.WithRecovery(true))...)
	if other != nil && !errors.Is(err, semaphore.ErrKindMismatch) {
		return nil, missing(name, err)
	}
	return s, other
}

// openExistingPOSIX opens the semaphore of that name in any engine whose semaphores
// are bare counts.
func openExistingPOSIX(name string) (*semaphore.Semaphore, error) {
	return openAnyPOSIX(name, semaphore.WithCreate(false))
}

// openAnyPOSIX opens the semaphore of that name, with these options, by the first engine of
// that kind to which it does not belong to another one.
func openAnyPOSIX(name string, opts ...semaphore.Option) (*semaphore.Semaphore, error) {
	if directory != "" {
		return openBareIn(name, opts)
	}
	s, mismatch := semaphore.Open(name, opts...)
	if !errors.Is(mismatch, semaphore.ErrKindMismatch) {
		return s, mismatch
	}
	for _, e := range []semaphore.Engine{semaphore.EngineNative, semaphore.EngineLibc, semaphore.EngineFlock} {
		s, err := semaphore.Open(name, append(slices.Clip(opts), semaphore.WithEngine(e))...)
		if !errors.Is(err, semaphore.ErrUnsupported) && !errors.Is(err, semaphore.ErrKindMismatch) {
			return s, err
		}
	}
	return nil, mismatch
}

// openBare opens an existing semaphore for the commands that need a bare count.
func openBare(name string) (*semaphore.Semaphore, error) {
	s, err := openExistingPOSIX(name)
	if errors.Is(err, semaphore.ErrKindMismatch) {
		err = advice(err, "%q is a recoverable semaphore, and wait, try and post are for POSIX semaphores: the permits of a recoverable one belong to processes, and %s run %s -- command takes one", name, toType(), name)
	}
	return s, missing(name, err)
}

// setLimit changes the limit of an existing recoverable semaphore, or (asDefault) leaves it to those who
// open it.
func setLimit(name string, n int, asDefault bool) error {
	if cluster != nil {
		return setStoredLimit(name, n, asDefault)
	}
	eng := registered(semaphore.EngineRecoverable)
	if eng == nil {
		return &failure{statusUnavailable, errors.New("recoverable semaphores, which have a limit, are not in this build")}
	}
	alone := func(ours fs.FileInfo) error {
		other, err := store.OtherKind(kinds(), eng, directory, name, ours)
		if other != nil {
			err = semaphore.ErrKindMismatch
		}
		return err
	}
	o := &engine.Options{Dir: directory, Alone: alone}
	var err error
	if asDefault {
		err = eng.ForgetLimit(name, o)
	} else {
		err = eng.SetLimit(name, n, o)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = cmp.Or(alone(nil), err)
	}
	if errors.Is(err, semaphore.ErrKindMismatch) {
		return advice(err, "%q is a POSIX semaphore, and only recoverable semaphores have a limit: a POSIX one has just a count that post raises", name)
	}
	if err != nil {
		err = &semaphore.Error{Op: "setlimit", Name: name, Err: err}
	}
	return err
}
