//go:build unix || windows

// Directories that the program chooses (WithDir), over every row of the conformance table whose
// semaphores are in files. See also TestKindsInADirectory and TestOlderVersionInADirectory.

package environment_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/procsem/semaphore"
	. "github.com/procsem/semaphore/internal/testkit"
)

// inFiles reports whether an engine's semaphores are in a directory that can be chosen.
func inFiles(e semaphore.Engine) bool {
	return e == semaphore.EngineFlock || e == semaphore.EngineRecoverable
}

func eachInFiles(t *testing.T, f func(t *testing.T, e semaphore.Engine)) {
	for _, row := range Rows {
		if !inFiles(row.Engine) || !HasEngine(row.Engine) {
			continue
		}
		t.Run(row.Name, func(t *testing.T) {
			if row.Before != nil {
				defer row.Before()()
			}
			f(t, row.Engine)
		})
	}
}

// fileIn returns the path of a semaphore's file in a directory.
func fileIn(dir string, e semaphore.Engine, name string) string {
	return filepath.Join(dir, filepath.Base(StoreFile(e, name)))
}

func isThere(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	return err == nil
}

// One name in several directories is several semaphores, and one directory by several paths is one.
func TestConformanceDirectories(t *testing.T) {
	eachInFiles(t, func(t *testing.T, e semaphore.Engine) {
		usual, a, b := TempDir(t), TempDir(t), TempDir(t)
		t.Setenv("SEMAPHORE_DIR", usual)
		first := Open(t, "x", e, semaphore.WithDir(a))
		second := Open(t, "x", e, semaphore.WithDir(b), semaphore.WithValue(2))
		third := Open(t, "x", e, semaphore.WithValue(3))
		Must(t, first.Wait())
		Becomes(t, first, 0)
		Becomes(t, second, 2)
		Becomes(t, third, 3)
		for _, dir := range []string{usual, a, b} {
			if !isThere(t, fileIn(dir, e, "x")) {
				t.Errorf("there is no file in %s", dir)
			}
		}

		roundabout := b + string(filepath.Separator) + ".." + string(filepath.Separator) + filepath.Base(a) + string(filepath.Separator)
		paths := []string{a, roundabout}
		// Not all users of Windows make links, and Wine says that it has made one.
		if link := filepath.Join(TempDir(t), "link"); os.Symlink(a, link) == nil && isThere(t, link) {
			paths = append(paths, link)
		}
		t.Setenv("SEMAPHORE_DIR", a)
		same := []*semaphore.Semaphore{first, Open(t, "x", e)}
		for _, path := range paths {
			same = append(same, Open(t, "x", e, semaphore.WithDir(path), semaphore.WithCreate(false)))
			_, err := semaphore.Open("x", semaphore.WithEngine(e), semaphore.WithDir(path), semaphore.WithExclusive(true))
			WantErr(t, "exclusive Open in "+path, err, fs.ErrExist)
		}
		for _, s := range same[1:] {
			WantErr(t, "TryWait", s.TryWait(), semaphore.ErrWouldBlock)
			waiting := Blocked(t, s, s.Wait)
			Must(t, first.Post())
			Must(t, Result(t, waiting))
			Must(t, s.Post())
			Must(t, first.Wait())
		}
		Must(t, first.Post())
		// With -race this fails if the detector takes them for different semaphores.
		guarded := 0
		failed := make([]error, len(same))
		var all sync.WaitGroup
		for i, s := range same {
			all.Go(func() {
				for range 20 {
					p, err := s.Acquire(context.Background())
					guarded++
					failed[i] = errors.Join(failed[i], err, p.Release())
				}
			})
		}
		all.Wait()
		if err := errors.Join(failed...); err != nil || guarded != 20*len(same) {
			t.Errorf("counted %d, want %d: %v", guarded, 20*len(same), err)
		}

		t.Setenv("SEMAPHORE_DIR", b) // which a handle had no part in, and has none in now
		Must(t, first.Unlink())
		if isThere(t, fileIn(a, e, "x")) || !isThere(t, fileIn(b, e, "x")) {
			t.Error("a handle's Unlink has removed another file than its own")
		}
		WantErr(t, "second Unlink", first.Unlink(), fs.ErrNotExist)
		Must(t, third.Unlink())
		if isThere(t, fileIn(usual, e, "x")) {
			t.Error("Unlink of a handle without WithDir went by a later SEMAPHORE_DIR")
		}
		t.Setenv("SEMAPHORE_DIR", usual)
		again := Open(t, "x", e, semaphore.WithDir(a), semaphore.WithExclusive(true))
		Becomes(t, again, 1)
		Must(t, semaphore.Unlink("x", semaphore.WithDir(b)))
		Becomes(t, second, 2) // it goes on without a name
		Must(t, semaphore.Unlink("x", semaphore.WithDir(a), semaphore.WithEngine(e)))
		for _, err := range []error{
			semaphore.Unlink("x", semaphore.WithDir(b)),
			semaphore.Unlink("x", semaphore.WithDir(b), semaphore.WithEngine(e)),
			openErr(semaphore.WithEngine(e), semaphore.WithDir(b), semaphore.WithCreate(false)),
		} {
			WantErr(t, "a name that is gone", err, fs.ErrNotExist)
			if err == nil || !strings.Contains(err.Error(), b) {
				t.Errorf("%v: does not say in which directory", err)
			}
		}
	})
}

func openErr(opts ...semaphore.Option) error {
	s, err := semaphore.Open("x", opts...)
	if err == nil {
		s.Close()
	}
	return err
}

// The directory that is used without WithDir is the same one with it: there a name is of one kind for all.
func TestKindsInTheUsualDirectory(t *testing.T) {
	auto := autoEngine(t)
	if inFiles(auto) {
		return // there is no kind that is in no directory
	}
	t.Setenv("SEMAPHORE_DIR", "") // StoreFile's is the system's then
	own := TempDir(t)
	for what, dirs := range map[string]struct{ usual, dir string }{
		"SEMAPHORE_DIR":         {own, own},
		"none":                  {"", filepath.Dir(StoreFile(Recoverable, "x"))},
		"that of others":        {own, filepath.Dir(StoreFile(Recoverable, "x"))},
		"SEMAPHORE_DIR by a ..": {own, filepath.Join(own, "..") + string(filepath.Separator) + filepath.Base(own)},
	} {
		t.Run(what, func(t *testing.T) {
			if isThere(t, dirs.dir) {
				refusesOtherKinds(t, auto, dirs.usual, dirs.dir)
			}
		})
	}
}

func refusesOtherKinds(t *testing.T, auto semaphore.Engine, usual, dir string) {
	t.Setenv("SEMAPHORE_DIR", usual)
	name := UniqueName(t)
	first := Open(t, name, auto)
	eachInFiles(t, func(t *testing.T, e semaphore.Engine) {
		for call, opts := range map[string][]semaphore.Option{
			"Open":           nil,
			"without create": {semaphore.WithCreate(false)},
			"exclusive":      {semaphore.WithExclusive(true)},
		} {
			s, err := semaphore.Open(name, append(opts, semaphore.WithEngine(e), semaphore.WithDir(dir))...)
			WantErr(t, call, err, semaphore.ErrKindMismatch)
			if err == nil {
				s.Unlink()
				s.Close()
			} else if !strings.Contains(err.Error(), "by engine "+auto.String()) && !strings.Contains(err.Error(), "by engine native") {
				t.Errorf("%s: %v: does not name the kind that exists", call, err)
			}
		}
		if isThere(t, fileIn(dir, e, name)) {
			t.Error("something was made")
		}
		WantErr(t, "Unlink of the other kind", semaphore.Unlink(name, semaphore.WithDir(dir)), fs.ErrNotExist)
	})
	Open(t, name, auto) // as before
	Must(t, first.Unlink())
}

// A handle's directory is the one that a link named when it was opened.
func TestRedirectedLink(t *testing.T) {
	eachInFiles(t, func(t *testing.T, e semaphore.Engine) {
		old, now, link := TempDir(t), TempDir(t), filepath.Join(TempDir(t), "link")
		if os.Symlink(old, link) != nil || !isThere(t, link) {
			return // see TestConformanceDirectories
		}
		s := Open(t, "x", e, semaphore.WithDir(link))
		Must(t, os.Remove(link))
		Must(t, os.Symlink(now, link))
		other := Open(t, "x", e, semaphore.WithDir(link), semaphore.WithExclusive(true))
		Must(t, s.Wait())
		Becomes(t, other, 1)
		Must(t, s.Unlink())
		if isThere(t, fileIn(old, e, "x")) || !isThere(t, fileIn(now, e, "x")) {
			t.Error("a handle's Unlink went by where the link led later")
		}
		Must(t, other.Unlink())
	})
}

// Processes with different working directories meet in one directory. A relative path is of the
// working directory when the handle is opened, and whatever that is later.
func TestRelativeDirectory(t *testing.T) {
	UseHelper("actor")
	eachInFiles(t, func(t *testing.T, e semaphore.Engine) {
		t.Setenv("SEMAPHORE_DIR", TempDir(t))
		parent, elsewhere := TempDir(t), TempDir(t)
		locks := filepath.Join(parent, "locks")
		Must(t, os.Mkdir(locks, 0o700))
		Must(t, os.Mkdir(filepath.Join(parent, "work"), 0o700))
		t.Chdir(parent)
		var log SyncBuffer
		s := Open(t, "x", e, semaphore.WithDir("locks"), semaphore.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		t.Chdir(elsewhere)
		in := func(from, dir string) *Actor {
			cmd := Helper(t, "actor", e.String())
			cmd.Dir = from
			a := StartActorCommand(t, e.String(), cmd)
			a.OK("dir %s", dir)
			a.OK("open /x")
			return a
		}
		a, b := in(filepath.Join(parent, "work"), filepath.Join("..", "locks")), in(locks, ".")
		b.OK("chdir %s", elsewhere)
		Must(t, s.Wait())
		a.Expect("EAGAIN", "trywait")
		b.Send("waits 1")
		Must(t, s.Post())
		if got := b.Answer(); got != "ok" {
			t.Fatal(got)
		}
		a.Expect("EAGAIN", "trywait")
		WantErr(t, "TryWait", s.TryWait(), semaphore.ErrWouldBlock)
		b.OK("posts 1")
		if Owns(e) {
			Must(t, s.SetLimit(2))
			Becomes(t, s, 2)
			a.OK("waits 1")
			hs, err := s.Holders()
			if err != nil || len(hs) != 1 || hs[0].PID != a.Cmd.Process.Pid {
				t.Errorf("Holders: %v, %v; want process %d", hs, err, a.Cmd.Process.Pid)
			}
			a.OK("posts 1")
			if f, err := s.LockFile(); !errors.Is(err, semaphore.ErrUnsupported) {
				Must(t, err)
				Must(t, f.Close())
			}
		}

		_, err := semaphore.Open("x", semaphore.WithEngine(e), semaphore.WithDir("locks"))
		WantErr(t, "Open in a directory that is not there", err, fs.ErrNotExist)
		if err == nil || !strings.Contains(err.Error(), filepath.Join(elsewhere, "locks")) {
			t.Errorf("%v: does not name the directory", err)
		}
		b.OK("unlink")
		if isThere(t, fileIn(locks, e, "x")) {
			t.Error("another process's Unlink has not removed the file")
		}
		defer Rescuing()() // it is the safety net that looks at the name
		Must(t, s.WaitTimeout(Hang))
		for s.TryWait() == nil { // the limit may be 2
		}
		waiting := Blocked(t, s, s.Wait)
		WaitFor(t, "a warning", func() bool {
			return strings.Contains(log.String(), "the name was removed") && strings.Contains(log.String(), filepath.Base(parent))
		})
		Must(t, s.Post())
		Must(t, Result(t, waiting))
		if left, err := os.ReadDir(elsewhere); len(left) > 0 || err != nil {
			t.Errorf("in the working directory: %v, %v", left, err)
		}
	})
}

// The permits of a holder that was killed come back.
func TestKilledHolderInADirectory(t *testing.T) {
	UseHelper("actor")
	if !HasEngine(Recoverable) {
		return
	}
	EachVariant(t, func(t *testing.T) {
		defer Rescuing()()
		t.Setenv("SEMAPHORE_DIR", TempDir(t))
		dir := TempDir(t)
		a := StartActor(t, Recoverable.String())
		a.OK("dir %s", dir)
		a.OK("create /x 2")
		a.OK("waits 2")
		s := Open(t, "x", Recoverable, semaphore.WithDir(dir))
		elsewhere := Open(t, "x", Recoverable)
		WantErr(t, "TryWait", s.TryWait(), semaphore.ErrWouldBlock)
		waiting := Blocked(t, s, s.Wait)
		Must(t, a.Cmd.Process.Kill())
		a.Cmd.Wait()
		Must(t, Result(t, waiting))
		Must(t, s.WaitTimeout(Hang))
		WantErr(t, "TryWait of a third", s.TryWait(), semaphore.ErrWouldBlock)
		Becomes(t, elsewhere, 1)
		// OpenLimit and Do have the kind by themselves, and the limit of that directory.
		_, err := semaphore.OpenLimit("x", 1, semaphore.WithDir(dir))
		WantErr(t, "OpenLimit with another limit", err, semaphore.ErrLimitMismatch)
		Must(t, s.Post())
		Must(t, semaphore.Do(context.Background(), "x", 2, func(context.Context) error {
			WantErr(t, "TryWait beside Do", s.TryWait(), semaphore.ErrWouldBlock)
			return nil
		}, semaphore.WithDir(dir)))
		Must(t, s.Unlink())
		Must(t, elsewhere.Unlink())
	})
}

// What cannot be a semaphore's directory is an error that says so, and nothing is made.
func TestWrongDirectory(t *testing.T) {
	dir := TempDir(t)
	t.Setenv("SEMAPHORE_DIR", dir)
	missing, file := filepath.Join(dir, "missing"), filepath.Join(dir, "file")
	Must(t, os.WriteFile(file, nil, 0o600))
	calls := func(opts ...semaphore.Option) map[string]error {
		p, acquired := semaphore.Acquire(context.Background(), "x", opts...)
		if acquired == nil {
			p.Release()
		}
		return map[string]error{"Open": openErr(opts...), "Acquire": acquired, "Unlink": semaphore.Unlink("x", opts...)}
	}
	for e := semaphore.EngineAuto; e <= semaphore.EngineRecoverable; e++ {
		if inFiles(e) && HasEngine(e) {
			for wrong, want := range map[string]error{missing: fs.ErrNotExist, file: semaphore.ErrInvalidOption} {
				for what, err := range calls(semaphore.WithEngine(e), semaphore.WithDir(wrong)) {
					WantErr(t, what, err, want)
					if err == nil || !strings.Contains(err.Error(), wrong) {
						t.Errorf("%s: %v: does not name the directory", what, err)
					}
				}
			}
		}
		if inFiles(e) {
			continue
		}
		for what, err := range calls(semaphore.WithEngine(e), semaphore.WithDir(dir)) {
			if e == semaphore.EngineAuto && (what == "Unlink" || inFiles(autoEngine(t))) {
				continue // Unlink removes what there is; and where EngineAuto has files, all is well
			}
			WantErr(t, e.String()+" "+what, err, semaphore.ErrInvalidOption)
			if err == nil || !strings.Contains(err.Error(), "WithRecovery(true)") || !strings.Contains(err.Error(), "WithEngine(EngineFlock)") {
				t.Errorf("%s: %v: does not say what to write", what, err)
			}
		}
	}
	WantErr(t, "Unlink of whichever kind", semaphore.Unlink("x", semaphore.WithDir(missing)), fs.ErrNotExist)
	WantErr(t, "Unlink of whichever kind", semaphore.Unlink("x", semaphore.WithDir(file)), semaphore.ErrInvalidOption)
	for what, err := range calls(semaphore.WithRecovery(true), semaphore.WithDir("")) {
		WantErr(t, what, err, semaphore.ErrInvalidOption)
	}
	if _, err := os.Stat(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the missing directory: %v", err)
	}
}

// autoEngine returns what EngineAuto is in this build.
func autoEngine(t *testing.T) semaphore.Engine {
	t.Helper()
	s, err := semaphore.Open(UniqueName(t))
	Must(t, err)
	defer s.Close()
	defer s.Unlink()
	return s.Engine()
}
