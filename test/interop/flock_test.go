//go:build unix

// EngineFlock's files: their format, and files that are no semaphores.

package interop_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/testhook"
	. "github.com/procsem/semaphore/internal/testkit"
)

const flockHeader = "flocksem\x02\x00\x00\x00"

func TestFlockFileFormat(t *testing.T) {
	name := UniqueName(t)
	s := Open(t, name, semaphore.EngineFlock, semaphore.WithValue(0x01020304))
	got, err := os.ReadFile(StoreFile(semaphore.EngineFlock, name))
	Must(t, err)
	if want := flockHeader + "\x04\x03\x02\x01" + name; string(got) != want {
		t.Errorf("file %q, want %q", got, want)
	}
	Must(t, s.Wait())
	got, _ = os.ReadFile(StoreFile(semaphore.EngineFlock, name))
	if want := flockHeader + "\x03\x03\x02\x01" + name; string(got) != want {
		t.Errorf("file after Wait %q, want %q", got, want)
	}
}

// A file that is no semaphore is refused, at once, and left as it is.
func TestFlockRefusesWhatIsNoSemaphore(t *testing.T) {
	file := func(content string) func(path string) error {
		return func(path string) error { return os.WriteFile(path, []byte(content), 0o600) }
	}
	good := flockHeader + "\x01\x00\x00\x00" + "x"
	for _, tt := range []struct {
		what string
		make func(path string) error
		text string // that the error contains
	}{
		{"empty", file(""), "0 bytes"},
		{"truncated", file(good[:15]), "15 bytes"},
		{"too long", file(good + "\x00"), `"x\x00"`},
		{"without a name", file(good[:16]), `""`},
		{"of another name", file(good[:16] + "y"), `"y"`},
		{"foreign", file("#!/bin/sh\nexit 0"), "begins with"},
		{"of the future", file("flocksem\x03\x00\x00\x00\x01\x00\x00\x00x"), "version 3"},
		{"of the past", file("flocksem\x01\x00\x00\x00\x01\x00\x00\x00"), "version 1"},
		{"with an impossible value", file(flockHeader + "\xff\xff\xff\xffx"), "4294967295"},
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
			Must(t, tt.make(path))
			before, err := os.Lstat(path)
			Must(t, err)
			content, _ := os.ReadFile(path + ".t")
			if before.Mode().IsRegular() {
				content, _ = os.ReadFile(path)
			}
			for _, opts := range [][]semaphore.Option{nil, {semaphore.WithCreate(false)}, {semaphore.WithValue(9)}} {
				opened := InBackground(func() error {
					_, err := semaphore.Open("x", append(opts, semaphore.WithEngine(semaphore.EngineFlock))...)
					return err
				})
				err := Result(t, opened)
				WantErr(t, "Open", err, semaphore.ErrCorrupt)
				if !strings.Contains(err.Error(), tt.text) || !strings.HasPrefix(err.Error(), `open "x": `) {
					t.Errorf("error %q, want it to name operation and semaphore, and to contain %q", err, tt.text)
				}
			}
			_, err = semaphore.Open("x", semaphore.WithEngine(semaphore.EngineFlock), semaphore.WithExclusive(true))
			WantErr(t, "exclusive Open", err, fs.ErrExist)
			after, err := os.Lstat(path)
			Must(t, err)
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
			name := UniqueName(t)
			var log SyncBuffer
			s := Open(t, name, semaphore.EngineFlock, semaphore.WithValue(0), semaphore.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
			waiting := Blocked(t, s, s.Wait)
			path := StoreFile(semaphore.EngineFlock, name)
			Must(t, damage(path))
			damaged, _ := os.ReadFile(path)
			WantErr(t, "the blocked Wait", Result(t, waiting), semaphore.ErrCorrupt)
			WantErr(t, "TryWait", s.TryWait(), semaphore.ErrCorrupt)
			WantErr(t, "Post", s.Post(), semaphore.ErrCorrupt)
			_, err := s.Value()
			WantErr(t, "Value", err, semaphore.ErrCorrupt)
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
	Must(t, err)
	defer s.Close()
	if _, err := os.Stat(filepath.Join(dir, "flk.here")); err != nil {
		t.Error(err)
	}
	Must(t, s.Unlink())

	t.Setenv("SEMAPHORE_DIR", "relative/path")
	_, err = semaphore.Open("here", flock)
	WantErr(t, "a relative SEMAPHORE_DIR", err, semaphore.ErrInvalidOption)
	WantErr(t, "a relative SEMAPHORE_DIR", semaphore.Unlink("here", flock), semaphore.ErrInvalidOption)

	t.Setenv("SEMAPHORE_DIR", filepath.Join(dir, "absent"))
	_, err = semaphore.Open("here", flock)
	WantErr(t, "an absent SEMAPHORE_DIR", err, fs.ErrNotExist)
	if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "absent")) {
		t.Errorf("%v: the directory is not named", err)
	}
}

// A process that is stopped in the few microseconds in which it holds the
// file's lock blocks no other process for ever, except in Post, which must not fail.
func TestFlockLockHeldByAnother(t *testing.T) {
	name := UniqueName(t)
	s := Open(t, name, semaphore.EngineFlock)
	f, err := os.OpenFile(StoreFile(semaphore.EngineFlock, name), os.O_RDWR, 0)
	Must(t, err)
	defer filelock.Close(f)
	if locked, err := filelock.TryLock(f); !locked {
		t.Fatalf("the lock was not free: %v", err)
	}
	WantErr(t, "TryWait", s.TryWait(), semaphore.ErrWouldBlock)
	WantErr(t, "WaitTimeout", s.WaitTimeout(time.Millisecond), semaphore.ErrTimeout)
	ctx, cancel := context.WithCancel(context.Background())
	waiting := Blocked(t, s, func() error { return s.WaitContext(ctx) })
	cancel()
	if err := Result(t, waiting); err != context.Canceled {
		t.Errorf("WaitContext: %v", err)
	}
	WaitFor(t, "no call inside", func() bool { return testhook.Inspect(s).Inside == 0 })
	posting := InBackground(s.Post)
	WaitFor(t, "a Post inside", func() bool { return testhook.Inspect(s).Inside == 1 })
	Must(t, s.Close()) // while a Post is inside
	select {
	case err := <-posting:
		t.Errorf("Post did not wait for the lock: %v", err)
	default:
	}
	Must(t, filelock.Unlock(f))
	Must(t, Result(t, posting))
	Becomes(t, Open(t, name, semaphore.EngineFlock), 2)
}

func TestWarningOfVanishedName(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		if e != semaphore.EngineFlock && !Owns(e) {
			return // the other engines do not look at the name
		}
		defer Rescuing()() // it is the safety net that looks
		name := UniqueName(t)
		var log SyncBuffer
		s := Open(t, name, e, semaphore.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		Must(t, s.Wait())
		waiting := Blocked(t, s, s.Wait)
		Must(t, s.Unlink())
		WaitFor(t, "a warning", func() bool { return strings.Contains(log.String(), "the name was removed") })
		Must(t, s.Post()) // the handle goes on with the removed semaphore
		Must(t, Result(t, waiting))
		if strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), name) {
			t.Errorf("log %q, want one warning with the name", log.String())
		}
	})
}

// A log handler that hangs blocks neither a cancelled wait nor a TryWait.
func TestLogHandlerRunsOutsideLocks(t *testing.T) {
	name := UniqueName(t)
	log := hangingWriter{called: make(chan struct{}), release: make(chan struct{})}
	s := Open(t, name, semaphore.EngineFlock, semaphore.WithValue(0), semaphore.WithLogger(slog.New(slog.NewTextHandler(log, nil))))
	ctx, cancel := context.WithCancel(context.Background())
	waiting := Blocked(t, s, func() error { return s.WaitContext(ctx) })
	Must(t, s.Unlink())
	<-log.called // for the warning that the name was removed
	WantErr(t, "TryWait", s.TryWait(), semaphore.ErrWouldBlock)
	cancel()
	if err := Result(t, waiting); err != context.Canceled {
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

func init() { helpers["hammer"] = hammerMain }

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

// A process that is killed at any moment leaves a file with the old value or with the
// new one: a valid file, which lacks at most one permit for each killed process.
func TestFlockSurvivesKills(t *testing.T) {
	const permits = 1000
	kills := Times(60)
	s := Open(t, UniqueName(t), semaphore.EngineFlock, semaphore.WithValue(permits))
	for range kills {
		a := StartActorCommand(t, "hammer", Helper(t, "hammer", s.Name()))
		if got := a.Answer(); got != "ready" {
			t.Fatal(got)
		}
		time.Sleep(time.Duration(rand.Int64N(int64(3 * time.Millisecond)))) // the moment to be killed at
		Must(t, a.Cmd.Process.Kill())
		a.Cmd.Wait()
		n, err := s.Value()
		Must(t, err)
		if n < permits-kills || n > permits {
			t.Fatalf("value %d, want %d, less at most one for each of %d killed processes", n, permits, kills)
		}
		Must(t, s.Wait()) // no lock is left
		Must(t, s.Post())
	}
}

func FuzzOpenFlock(f *testing.F) {
	f.Add([]byte(flockHeader + "\x01\x00\x00\x00"))
	f.Add([]byte(flockHeader))
	f.Add([]byte{})
	FuzzOpen(f, semaphore.EngineFlock)
}
