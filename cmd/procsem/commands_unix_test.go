//go:build unix

package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/names"
)

func TestCreateMode(t *testing.T) {
	t.Run("recoverable", func(t *testing.T) { testCreateMode(t) })
	t.Run("posix", func(t *testing.T) { testCreateMode(t, "--posix") })
}

func testCreateMode(t *testing.T, flags ...string) {
	name := newName(t)
	cmd := procsemCommand(t)
	cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", `umask 0; exec "$@"`, "sh", self(t), "create", "--mode", "0666", name}, flags...)
	if got := runCmd(t, cmd); got.status != 0 {
		t.Fatalf("create: %+v", got)
	}
	found := false
	paths := []string{"/dev/shm/sem." + name}
	if dir, err := names.Dir(); err == nil {
		paths = append(paths, filepath.Join(dir, names.Flock+name), filepath.Join(dir, names.Recoverable+name))
	}
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil {
			found = true
			if got := info.Mode().Perm(); got != 0o666 {
				t.Errorf("mode of %s = %#o, want 0666", path, got)
			}
		}
	}
	if !found {
		t.Skip("this system's libc does not keep semaphores in known files")
	}
}

// A flock-counter is found even where libc's semaphores are the default.
func TestFindsSemaphoreOfOtherEngine(t *testing.T) {
	name := newName(t)
	s, err := semaphore.Open(name, semaphore.WithEngine(semaphore.EngineFlock), semaphore.WithValue(2))
	if errors.Is(err, semaphore.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, step := range []struct {
		args   []string
		stdout string
		value  int
	}{
		{[]string{"value", name}, "2\n", 2},
		{[]string{"wait", name}, "", 1},
		{[]string{"run", "--posix", name, "--", "echo", "inside"}, "inside\n", 1},
		{[]string{"post", name}, "", 2},
		{[]string{"try", name}, "", 1},
		{[]string{"unlink", name}, "", 1},
	} {
		got := run(t, step.args...)
		if got.status != 0 || got.stdout != step.stdout || got.stderr != "" {
			t.Errorf("%q: got %+v, want status 0 and stdout %q", step.args, got, step.stdout)
		}
		if n, err := s.Value(); err != nil || n != step.value {
			t.Errorf("after %q: value %d, %v; want %d", step.args, n, err, step.value)
		}
	}
}

// What the umask takes of --mode is said when a semaphore is created, as nobody it is to be
// shared with could use it.
func TestUmaskNotice(t *testing.T) {
	for _, tt := range []struct {
		umask, command string
		says           string
	}{
		{"022", "create --mode 0666", "has left 0644 of the mode 0666"},
		{"022", "create --posix --mode 0666", "has left 0644 of the mode 0666"},
		{"022", "run --mode 0666 -c exit", "has left 0644 of the mode 0666"},
		{"022", "run --posix --mode 0666 -c exit", "has left 0644 of the mode 0666"},
		{"0", "create --mode 0666", ""},
		{"0", "run --mode 0666 -c exit", ""},
		{"077", "create --mode 0600", ""},
	} {
		t.Run(tt.umask+" "+tt.command, func(t *testing.T) {
			name := newName(t)
			runs := func() outcome {
				cmd := procsemCommand(t)
				cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", `umask "$1"; shift; exec "$@"`, "sh", tt.umask, self(t)}, append(strings.Fields(tt.command), name)...)
				return runCmd(t, cmd)
			}
			if got := runs(); got.status != 0 || (tt.says == "") != (got.stderr == "") || !strings.Contains(got.stderr, tt.says) {
				t.Errorf("got %+v, want %q on stderr", got, tt.says)
			}
			if got := runs(); strings.Contains(got.stderr, "umask") {
				t.Errorf("now that it exists: got %+v, want nothing about the umask", got)
			}
		})
	}
}
