//go:build unix || windows

package command

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/names"
)

// A user of a name that was removed is told, when it happens and at its end.
func TestRemovedName(t *testing.T) {
	remove := func(name string) error { return os.Remove(fileOfName(t, name)) }
	replace := func(name string) error {
		if err := remove(name); err != nil {
			return err
		}
		return os.WriteFile(fileOfName(t, name), nil, 0o600)
	}
	for _, tt := range []struct {
		what   string
		args   []string
		on     string // the only system, "unix" for all but Windows
		remove func(name string) error
	}{
		{"removed", nil, "unix", remove},
		{"replaced", nil, "unix", replace},
		{"removed with -q", []string{"-q"}, "unix", remove},
		{"removed by unlink", nil, "", func(name string) error { return semaphore.Unlink(name) }},
		{"removed posix", []string{"--posix"}, "linux", func(name string) error { return os.Remove(filepath.Join(names.GlibcDir, names.Glibc+name)) }},
	} {
		if tt.on == "unix" && runtime.GOOS == "windows" || tt.on == "linux" && runtime.GOOS != "linux" {
			continue
		}
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			name := newName(t)
			t.Cleanup(func() { os.Remove(fileOfName(t, name)) }) // what replaces it is no semaphore
			cmd := procsemCommand(t, append(append([]string{"run"}, tt.args...), append([]string{name}, helperCommand(t, "streams")...)...)...)
			stdin, err := cmd.StdinPipe() // the helper runs until it is closed
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			stderr, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			start(t, cmd)
			if _, err := stdin.Write([]byte("ready\n")); err != nil {
				t.Fatal(err)
			}
			readLines(out).want(t, "ready")
			if err := tt.remove(name); err != nil {
				t.Fatal(err)
			}
			said := readLines(stderr)
			wantPart(t, said, "was removed")
			stdin.Close()
			said.want(t, "to stderr") // the helper's
			wantPart(t, said, "had been removed")
			if got := wait(t, cmd); got.status != 0 {
				t.Errorf("got %+v, want the command's status", got)
			}
		})
	}
}

// A procsem that waits is told as well: it waits for what others do not use any more.
func TestRemovedNameOfWaiter(t *testing.T) {
	name, s := newRecoverable(t, 1)
	if err := s.Wait(); err != nil {
		t.Fatal(err)
	}
	cmd := procsemCommand(t, "run", name, "-c", "exit 3")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, cmd)
	for end := time.Now().Add(deadline); ; time.Sleep(time.Millisecond) {
		handles, err := s.Holders()
		if err != nil {
			t.Fatal(err)
		}
		if len(handles) == 2 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%v, want a waiter too", handles)
		}
	}
	if err := semaphore.Unlink(name); err != nil {
		t.Fatal(err)
	}
	said := readLines(stderr)
	wantPart(t, said, "was removed")
	if err := s.Post(); err != nil {
		t.Fatal(err)
	}
	wantPart(t, said, "had been removed")
	if got := wait(t, cmd); got.status != 3 {
		t.Errorf("got %+v, want the command's status, 3", got)
	}
}

func wantPart(t *testing.T, l *lines, part string) {
	t.Helper()
	if got := l.read(t); !strings.HasPrefix(got, "procsem: ") || !strings.Contains(got, part) {
		t.Fatalf("read %q, want %q in it", got, part)
	}
}

// fileOfName returns the path of a recoverable semaphore's file.
func fileOfName(t *testing.T, name string) string {
	t.Helper()
	dir, err := names.Dir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, names.FileName(names.Recoverable, name))
}
