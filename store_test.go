//go:build unix

// Files: what may stand in a semaphore's place, and two kinds of one name.

package semaphore_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/testhook"
)

// storeFile is where an engine keeps a name, "" where it is in no file that we
// know.
func storeFile(e semaphore.Engine, name string) string {
	if e == semaphore.EngineAuto {
		for _, e = range []semaphore.Engine{semaphore.EngineLibc, semaphore.EngineNative, semaphore.EngineFlock} {
			if hasEngine(e) {
				break
			}
		}
	}
	switch {
	case e == semaphore.EngineFlock || e == semaphore.EngineRecoverable:
		dir := os.Getenv("SEMAPHORE_DIR")
		if dir == "" {
			dir = "/tmp"
			if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
				dir = "/dev/shm"
			}
		}
		return filepath.Join(dir, map[semaphore.Engine]string{semaphore.EngineFlock: "flk.", semaphore.EngineRecoverable: "rec."}[e]+name)
	case e == semaphore.EngineLibc && hasEngine(e):
		if testhook.Libc.Path == nil {
			return ""
		}
		return testhook.Libc.Path(name)
	case runtime.GOOS == "linux":
		return filepath.Join("/dev/shm", "sem."+name)
	}
	return ""
}

func needFile(t *testing.T, e semaphore.Engine) {
	t.Helper()
	if storeFile(e, "x") == "" {
		t.Skipf("not on this system: a file for engine %v", e)
	}
}

const flockHeader = "flocksem\x01\x00\x00\x00"

func TestFlockFileFormat(t *testing.T) {
	name := uniqueName(t)
	s := open(t, name, semaphore.EngineFlock, semaphore.WithValue(0x01020304))
	got, err := os.ReadFile(storeFile(semaphore.EngineFlock, name))
	must(t, err)
	if want := flockHeader + "\x04\x03\x02\x01"; string(got) != want {
		t.Errorf("file %q, want %q", got, want)
	}
	must(t, s.Wait())
	got, _ = os.ReadFile(storeFile(semaphore.EngineFlock, name))
	if want := flockHeader + "\x03\x03\x02\x01"; string(got) != want {
		t.Errorf("file after Wait %q, want %q", got, want)
	}
}

// Whatever stands in its place is refused, at once, and left as it is.
func TestFlockRefusesWhatIsNoSemaphore(t *testing.T) {
	file := func(content string) func(path string) error {
		return func(path string) error { return os.WriteFile(path, []byte(content), 0o600) }
	}
	good := flockHeader + "\x01\x00\x00\x00"
	for _, tt := range []struct {
		what string
		make func(path string) error
		text string // that the error contains
	}{
		{"empty", file(""), "0 bytes"},
		{"truncated", file(good[:15]), "15 bytes"},
		{"too long", file(good + "\x00"), "17 bytes"},
		{"foreign", file("#!/bin/sh\nexit 0"), "begins with"},
		{"of the future", file("flocksem\x02\x00\x00\x00\x01\x00\x00\x00"), "version 2"},
		{"with an impossible value", file(flockHeader + "\xff\xff\xff\xff"), "4294967295"},
		{"symbolic link", func(path string) error {
			target := path + ".t"
			t.Cleanup(func() { os.Remove(target) })
			if err := file(good)(target); err != nil {
				return err
			}
			return os.Symlink(target, path)
		}, "no regular file"},
		{"dangling link", func(path string) error { return os.Symlink(path+".absent", path) }, "no regular file"},
		{"directory", func(path string) error { return os.Mkdir(path, 0o700) }, "no regular file"},
		{"fifo", func(path string) error { return unix.Mkfifo(path, 0o600) }, "no regular file"},
		{"socket", func(path string) error {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.Bind(fd, &unix.SockaddrUnix{Name: path})
		}, "no regular file"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("SEMAPHORE_DIR", dir)
			path := filepath.Join(dir, "flk.x")
			must(t, tt.make(path))
			before, err := os.Lstat(path)
			must(t, err)
			content, _ := os.ReadFile(path + ".t")
			if before.Mode().IsRegular() {
				content, _ = os.ReadFile(path)
			}
			for _, opts := range [][]semaphore.Option{nil, {semaphore.WithCreate(false)}, {semaphore.WithValue(9)}} {
				opened := inBackground(func() error {
					_, err := semaphore.Open("x", append(opts, semaphore.WithEngine(semaphore.EngineFlock))...)
					return err
				})
				err := result(t, opened)
				wantErr(t, "Open", err, semaphore.ErrCorrupt)
				if !strings.Contains(err.Error(), tt.text) || !strings.HasPrefix(err.Error(), `open "x": `) {
					t.Errorf("error %q, want it to name operation and semaphore, and to contain %q", err, tt.text)
				}
			}
			_, err = semaphore.Open("x", semaphore.WithEngine(semaphore.EngineFlock), semaphore.WithExclusive(true))
			wantErr(t, "exclusive Open", err, fs.ErrExist)
			after, err := os.Lstat(path)
			must(t, err)
			now, _ := os.ReadFile(path + ".t")
			if after.Mode().IsRegular() {
				now, _ = os.ReadFile(path)
			}
			if !os.SameFile(before, after) || before.Mode() != after.Mode() || !bytes.Equal(content, now) {
				t.Errorf("the file was changed: %v %q, before %v %q", after.Mode(), now, before.Mode(), content)
			}
			entries, _ := os.ReadDir(dir)
			for _, e := range entries {
				if e.Name() != "flk.x" && e.Name() != "flk.x.t" {
					t.Errorf("left behind: %s", e.Name())
				}
			}
		})
	}
}

func TestFlockDamagedAfterOpen(t *testing.T) {
	for what, damage := range map[string]func(path string) error{
		"truncated": func(path string) error { return os.Truncate(path, 9) },
		"scribbled": func(path string) error {
			return os.WriteFile(path, []byte("0123456789abcdef"), 0o600)
		},
	} {
		t.Run(what, func(t *testing.T) {
			name := uniqueName(t)
			var log syncBuffer
			s := open(t, name, semaphore.EngineFlock, semaphore.WithValue(0), semaphore.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
			waiting := blocked(t, s, s.Wait)
			path := storeFile(semaphore.EngineFlock, name)
			must(t, damage(path))
			damaged, _ := os.ReadFile(path)
			wantErr(t, "the blocked Wait", result(t, waiting), semaphore.ErrCorrupt)
			wantErr(t, "TryWait", s.TryWait(), semaphore.ErrCorrupt)
			wantErr(t, "Post", s.Post(), semaphore.ErrCorrupt)
			_, err := s.Value()
			wantErr(t, "Value", err, semaphore.ErrCorrupt)
			if now, _ := os.ReadFile(path); !bytes.Equal(now, damaged) {
				t.Errorf("the file was changed: %q", now)
			}
			if n := strings.Count(log.String(), "level=WARN"); n != 4 {
				t.Errorf("%d warnings, want one for each call that failed:\n%s", n, log.String())
			}
		})
	}
}

func TestFlockDirectory(t *testing.T) {
	flock := semaphore.WithEngine(semaphore.EngineFlock)
	dir := t.TempDir()
	t.Setenv("SEMAPHORE_DIR", dir)
	s, err := semaphore.Open("here", flock)
	must(t, err)
	defer s.Close()
	if _, err := os.Stat(filepath.Join(dir, "flk.here")); err != nil {
		t.Error(err)
	}
	must(t, s.Unlink())

	t.Setenv("SEMAPHORE_DIR", "relative/path")
	_, err = semaphore.Open("here", flock)
	wantErr(t, "a relative SEMAPHORE_DIR", err, semaphore.ErrInvalidOption)
	wantErr(t, "a relative SEMAPHORE_DIR", semaphore.Unlink("here", flock), semaphore.ErrInvalidOption)

	t.Setenv("SEMAPHORE_DIR", filepath.Join(dir, "absent"))
	_, err = semaphore.Open("here", flock)
	wantErr(t, "an absent SEMAPHORE_DIR", err, fs.ErrNotExist)
	if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "absent")) {
		t.Errorf("%v: the directory is not named", err)
	}
}

// A process that is stopped in the few microseconds in which it holds the
// file's lock holds nobody up for ever, but a Post, which must not fail.
func TestFlockLockHeldByAnother(t *testing.T) {
	name := uniqueName(t)
	s := open(t, name, semaphore.EngineFlock)
	f, err := os.OpenFile(storeFile(semaphore.EngineFlock, name), os.O_RDWR, 0)
	must(t, err)
	defer filelock.Close(f)
	if locked, err := filelock.TryLock(f); !locked {
		t.Fatalf("the lock was not free: %v", err)
	}
	wantErr(t, "TryWait", s.TryWait(), semaphore.ErrWouldBlock)
	wantErr(t, "WaitTimeout", s.WaitTimeout(time.Millisecond), semaphore.ErrTimeout)
	ctx, cancel := context.WithCancel(context.Background())
	waiting := blocked(t, s, func() error { return s.WaitContext(ctx) })
	cancel()
	if err := result(t, waiting); err != context.Canceled {
		t.Errorf("WaitContext: %v", err)
	}
	waitFor(t, "nobody inside", func() bool { return testhook.Inspect(s).Inside == 0 })
	posting := inBackground(s.Post)
	waitFor(t, "a Post inside", func() bool { return testhook.Inspect(s).Inside == 1 })
	must(t, s.Close()) // while a Post is inside
	select {
	case err := <-posting:
		t.Errorf("Post did not wait for the lock: %v", err)
	default:
	}
	must(t, filelock.Unlock(f))
	must(t, result(t, posting))
	becomes(t, open(t, name, semaphore.EngineFlock), 2)
}

func TestWarningOfVanishedName(t *testing.T) {
	eachEngine(t, func(t *testing.T, e semaphore.Engine) {
		if e != semaphore.EngineFlock && !owns(e) {
			return // the others do not look
		}
		defer rescuing()() // it is the safety net that looks
		name := uniqueName(t)
		var log syncBuffer
		s := open(t, name, e, semaphore.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		must(t, s.Wait())
		waiting := blocked(t, s, s.Wait)
		must(t, s.Unlink())
		waitFor(t, "a warning", func() bool { return strings.Contains(log.String(), "the name was removed") })
		must(t, s.Post()) // and goes on with the old one
		must(t, result(t, waiting))
		if strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), name) {
			t.Errorf("log %q, want one warning with the name", log.String())
		}
	})
}

// A log handler that hangs holds up neither those who leave nor those who try.
func TestLogHandlerRunsOutsideLocks(t *testing.T) {
	name := uniqueName(t)
	log := hangingWriter{called: make(chan struct{}), release: make(chan struct{})}
	s := open(t, name, semaphore.EngineFlock, semaphore.WithValue(0), semaphore.WithLogger(slog.New(slog.NewTextHandler(log, nil))))
	ctx, cancel := context.WithCancel(context.Background())
	waiting := blocked(t, s, func() error { return s.WaitContext(ctx) })
	must(t, s.Unlink())
	<-log.called // with the warning that the name is gone
	wantErr(t, "TryWait", s.TryWait(), semaphore.ErrWouldBlock)
	cancel()
	if err := result(t, waiting); err != context.Canceled {
		t.Errorf("WaitContext: %v", err)
	}
	close(log.release)
}

type hangingWriter struct{ called, release chan struct{} }

func (w hangingWriter) Write(p []byte) (int, error) {
	close(w.called)
	<-w.release
	return len(p), nil
}

func TestConformanceMode(t *testing.T) {
	eachEngine(t, func(t *testing.T, e semaphore.Engine) {
		needFile(t, e)
		for _, tt := range []struct {
			umask      int
			mode, want fs.FileMode
		}{{0o022, 0o666, 0o644}, {0, 0o666, 0o666}, {0o077, 0o660, 0o600}} {
			name := uniqueName(t)
			old := syscall.Umask(tt.umask)
			s, err := semaphore.Open(name, semaphore.WithEngine(e), semaphore.WithMode(tt.mode))
			syscall.Umask(old)
			must(t, err)
			s.Close()
			info, err := os.Stat(storeFile(e, name))
			must(t, err)
			if got := info.Mode(); got != tt.want {
				t.Errorf("umask %#o, mode %#o: %#o, want %#o", tt.umask, tt.mode, got, tt.want)
			}
		}
		name := uniqueName(t)
		open(t, name, e)
		if info, err := os.Stat(storeFile(e, name)); err != nil || info.Mode() != 0o600 {
			t.Errorf("default mode: %v, %v; want 0600", info.Mode(), err)
		}
	})
}

func TestTwoKindsOfOneName(t *testing.T) {
	l, n, f, r := semaphore.EngineLibc, semaphore.EngineNative, semaphore.EngineFlock, semaphore.EngineRecoverable
	pairs := [][2]semaphore.Engine{{l, f}, {f, l}, {n, f}, {f, n}, {l, r}, {r, l}, {n, r}, {r, n}, {f, r}, {r, f}}
	if hasEngine(l) && hasEngine(n) && !testhook.Libc.Glibc {
		pairs = append(pairs, [2]semaphore.Engine{l, n}, [2]semaphore.Engine{n, l})
	}
	for _, kinds := range pairs {
		e, other := kinds[0], kinds[1]
		t.Run(fmt.Sprint(e, " first, then ", other), func(t *testing.T) {
			needEngine(t, other)
			if e == r {
				needEngine(t, r) // nothing else can make one
			}
			name := uniqueName(t)
			plant(t, e, name)
			for what, opts := range map[string][]semaphore.Option{
				"Open":           nil,
				"without create": {semaphore.WithCreate(false)},
				"exclusive":      {semaphore.WithExclusive(true)},
			} {
				_, err := semaphore.Open(name, append(opts, semaphore.WithEngine(other))...)
				wantErr(t, what, err, semaphore.ErrKindMismatch)
				if err == nil || e == f && !strings.Contains(err.Error(), "by engine flock") {
					t.Errorf("%s: %v: does not name the kind that exists", what, err)
				}
			}
			wantErr(t, "Unlink of the other kind", semaphore.Unlink(name, semaphore.WithEngine(other)), fs.ErrNotExist)
			must(t, semaphore.Unlink(name)) // whichever kind exists
			s := open(t, name, other)
			// The other kind comes later, from a program that cannot know.
			plant(t, e, name+".x")
			must(t, os.Rename(storeFile(e, name+".x"), storeFile(e, name)))
			_, err := semaphore.Open(name, semaphore.WithEngine(other))
			wantErr(t, "Open while both exist", err, semaphore.ErrKindMismatch)
			must(t, s.Unlink())
			must(t, semaphore.Unlink(name))
			wantErr(t, "Unlink when both are gone", semaphore.Unlink(name), fs.ErrNotExist)
		})
	}
}

// plant makes a semaphore of kind e, without e's engine where the build has
// none.
func plant(t *testing.T, e semaphore.Engine, name string) {
	t.Helper()
	needFile(t, e)
	path := storeFile(e, name)
	if hasEngine(e) {
		s, err := semaphore.Open(name, semaphore.WithEngine(e), semaphore.WithExclusive(true))
		must(t, err)
		must(t, s.Close())
		return
	}
	must(t, os.WriteFile(path, make([]byte, 32), 0o600))
}

// The lock under which kinds are created: who holds it for too long is told of.
func TestCreationLockHeldByAnother(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("SEMAPHORE_DIR", dir)
	f, err := os.Open(dir)
	must(t, err)
	defer f.Close()
	if locked, err := filelock.TryLock(f); !locked {
		t.Skipf("not on this system: the lock of a directory (%v)", err)
	}
	old := *semaphore.StoresPatience
	*semaphore.StoresPatience = time.Millisecond
	defer func() { *semaphore.StoresPatience = old }()
	_, err = semaphore.Open("x", semaphore.WithEngine(semaphore.EngineFlock))
	if err == nil || !strings.Contains(err.Error(), "lock of "+dir) {
		t.Errorf("got %v, want it to name the directory's lock", err)
	}
	must(t, filelock.Unlock(f))
	s, err := semaphore.Open("x", semaphore.WithEngine(semaphore.EngineFlock))
	must(t, err)
	must(t, s.Close())
	must(t, s.Unlink())
}

func TestLibcRefusesWhatIsNoSemaphore(t *testing.T) {
	needEngine(t, semaphore.EngineLibc)
	needFile(t, semaphore.EngineLibc)
	for what, size := range map[string]int{"empty": 0, "another word size": 16, "too long": 33} {
		name := uniqueName(t)
		path := storeFile(semaphore.EngineLibc, name)
		must(t, os.WriteFile(path, make([]byte, size), 0o600))
		_, err := semaphore.Open(name, semaphore.WithEngine(semaphore.EngineLibc))
		wantErr(t, what, err, semaphore.ErrCorrupt)
		_, err = semaphore.Open(name, semaphore.WithEngine(semaphore.EngineLibc), semaphore.WithExclusive(true))
		wantErr(t, what+", exclusive", err, fs.ErrExist)
	}
	name := uniqueName(t)
	must(t, unix.Mkfifo(storeFile(semaphore.EngineLibc, name), 0o600))
	_, err := semaphore.Open(name, semaphore.WithEngine(semaphore.EngineLibc))
	wantErr(t, "fifo", err, semaphore.ErrCorrupt)
}

// Programs that race to create two kinds of one name: all who succeed have
// made or opened the same kind.
func TestRacedCreationOfTwoKinds(t *testing.T) {
	useHelper("create")
	dir, err := os.Open(filepath.Dir(storeFile(semaphore.EngineFlock, "x")))
	must(t, err)
	defer dir.Close()
	for locked := false; !locked; { // somebody else may have it at the moment
		if locked, err = filelock.TryLock(dir); err != nil {
			t.Skipf("not on this system: the lock of a directory (%v)", err)
		}
	}
	must(t, filelock.Unlock(dir))
	for _, e := range []semaphore.Engine{semaphore.EngineLibc, semaphore.EngineNative} {
		t.Run(e.String(), func(t *testing.T) { racedKinds(t, e, semaphore.EngineFlock) })
		t.Run(e.String()+" recoverable", func(t *testing.T) { racedKinds(t, e, semaphore.EngineRecoverable) })
	}
}

func racedKinds(t *testing.T, l, f semaphore.Engine) {
	needEngine(t, l)
	needEngine(t, f)
	for range times(15) {
		got := race(t, uniqueName(t), false, []semaphore.Engine{l, f, l, f, l, f, l, f})
		if got["won"] != 4 || got["mismatch"] != 4 || got[l.String()] != 0 && got[f.String()] != 0 {
			t.Errorf("got %v, want four winners of one kind", got)
		}
	}
}

// hammerMain takes and gives as fast as it can, until it is killed.
func hammerMain(args []string) int {
	s, err := semaphore.Open(args[0], semaphore.WithEngine(semaphore.EngineFlock), semaphore.WithCreate(false))
	if err != nil {
		panic(err)
	}
	fmt.Println("ready")
	for {
		if s.Wait() != nil || s.Post() != nil {
			return 1
		}
	}
}

// Killed at any moment, a process leaves a file with the old counter or the
// new one: valid, and short of one permit at most for each that was killed.
func TestFlockSurvivesKills(t *testing.T) {
	const permits = 1000
	kills := times(60)
	s := open(t, uniqueName(t), semaphore.EngineFlock, semaphore.WithValue(permits))
	for range kills {
		a := startActorCommand(t, "hammer", helper(t, "hammer", s.Name()))
		if got := a.answer(); got != "ready" {
			t.Fatal(got)
		}
		time.Sleep(time.Duration(rand.Int64N(int64(3 * time.Millisecond)))) // the moment to be killed at
		must(t, a.cmd.Process.Kill())
		a.cmd.Wait()
		n, err := s.Value()
		must(t, err)
		if n < permits-kills || n > permits {
			t.Fatalf("value %d, want %d at the most, less one at the most for each of %d killed", n, permits, kills)
		}
		must(t, s.Wait()) // and no lock is left
		must(t, s.Post())
	}
}
