//go:build unix

package command

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

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
		{[]string{"unlink", "-f", name}, "", 1}, // this process has it open
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
		{"022", "create --mode 0666", "has left 0600 of the mode 0666"},
		{"022", "create --posix --mode 0666", "has left 0600 of the mode 0666"},
		{"022", "run --mode 0666 -c exit", "has left 0600 of the mode 0666"},
		{"022", "run --posix --mode 0666 -c exit", "has left 0600 of the mode 0666"},
		{"0", "create --mode 0666", ""},
		{"0", "run --mode 0666 -c exit", ""},
		{"077", "create --mode 0600", ""},
		{"022", "create --mode 0644", "of the mode 0644 it has 0600 at most"},
		{"022", "create --posix --mode 0644", "of the mode 0644 it has 0600 at most"},
		{"002", "create --mode 0666", "has left 0660 of the mode 0666"},
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

// A name that JSON cannot have comes out of it in a form that the other commands take.
func TestJSONOfNameThatIsNotUTF8(t *testing.T) {
	for _, kind := range []string{"--posix=false", "--posix"} {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			procsem := func(args ...string) outcome {
				cmd := procsemCommand(t, args...)
				cmd.Env = append(cmd.Env, "SEMAPHORE_DIR="+dir)
				return runCmd(t, cmd)
			}
			// Another one whose name is the same to JSON.
			name := newName(t)
			for _, tail := range []string{"\xff\n", "\xfe\n"} {
				t.Cleanup(func() { semaphore.Unlink(name + tail) })
				if got := procsem("create", kind, "-n", "3", name+tail); strings.Contains(got.stderr, "byte sequence") {
					t.Skip("this system has no such names")
				} else if got.status != 0 {
					t.Fatalf("create: %+v", got)
				}
			}
			listed := procsem("list", "--json")
			var list []struct {
				Name   string
				Base64 string `json:"name_base64"`
			}
			if err := json.Unmarshal([]byte(listed.stdout), &list); err != nil {
				t.Fatalf("%v: %+v", err, listed)
			}
			var forms []string
			for _, s := range list {
				if strings.HasPrefix(s.Name, name) {
					forms = append(forms, s.Base64)
				}
			}
			if len(forms) == 0 && kind == "--posix" {
				t.Skip("this system's libc does not list its semaphores")
			}
			if len(forms) != 2 || forms[0] == forms[1] || forms[0] == "" {
				t.Fatalf("forms %q in %s; want two", forms, listed.stdout)
			}
			var shown struct {
				Base64 string `json:"name_base64"`
			}
			show := procsem("show", "--json", "--base64", forms[0])
			if err := json.Unmarshal([]byte(show.stdout), &shown); err != nil || shown.Base64 != forms[0] {
				t.Errorf("show: %+v, %v", show, err)
			}
			for _, form := range forms {
				if got := procsem("value", "--base64", form); got.stdout != "3\n" {
					t.Errorf("value: %+v", got)
				}
				if got := procsem("unlink", "--base64", form); got.status != 0 {
					t.Errorf("unlink: %+v", got)
				}
				if got := procsem("value", "--base64", form); got.status != statusNoInput {
					t.Errorf("value of an unlinked one: %+v", got)
				}
			}
		})
	}
	if got := run(t, "unlink", "--base64", "?"); got.status != statusUsage || !isOneLine(got.stderr) {
		t.Errorf("%+v, want status 64", got)
	}
}

// Nothing that procsem says has what a terminal obeys, whatever is in a name or a path.
func TestMessagesAreHarmless(t *testing.T) {
	const obeyed = "\x1b[2J\r\u202e\u0085\xff"
	dir := tempDir(t)
	procsem := func(args ...string) string {
		cmd := procsemCommand(t, args...)
		cmd.Env = append(cmd.Env, "SEMAPHORE_DIR="+dir)
		got := runCmd(t, cmd)
		if got.stdout != "" || got.stderr != "" && !isOneLine(got.stderr) || strings.ContainsFunc(strings.TrimSuffix(got.stderr, "\n"), func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) }) {
			t.Errorf("%q: it said %q", args, got.stderr)
		}
		return got.stderr
	}
	if said := procsem("create", obeyed); strings.Contains(said, "byte sequence") {
		t.Skip("this system has no such names")
	}
	for _, args := range [][]string{
		{"create", "-n", "2", obeyed},
		{"run", "-n", "3", obeyed, "/" + obeyed},
		{"run", "--posix", obeyed, "true"},
		{"wait", obeyed},
		{"show", obeyed + "none"},
		{"create", "--from", dir + obeyed},
		{"create", "-n", obeyed, "x"},
		{"run", obeyed, "-" + obeyed},
		{obeyed},
	} {
		if procsem(args...) == "" {
			t.Errorf("%q: it said nothing", args)
		}
	}
	dir += obeyed
	procsem("run", "x", "true")
}
