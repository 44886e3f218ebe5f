//go:build unix

package command

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/names"
)

// The holders in a directory are seen there, however procsem runs the command, and are gone when it has ended.
func TestDirectoryOfHolders(t *testing.T) {
	usual, parent := storeOf(t), tempDir(t)
	dir := filepath.Join(parent, "locks")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(parent) // --bg starts procsem once more with the same words
	kept := func() string { return run(t, "show", "--dir", dir, "x").stdout }
	for what, hold := range map[string]func(t *testing.T) int{
		"waits for it": func(t *testing.T) int {
			_, command := startHolder(t, "x", filepath.Join(t.TempDir(), "file"), "--dir", "locks")
			return command
		},
		"becomes it": func(t *testing.T) int {
			_, command := startHolder(t, "x", filepath.Join(t.TempDir(), "file"), "-F", "--dir", "locks")
			return command
		},
		"background":       func(t *testing.T) int { return startBackground(t, "--dir", "locks", "x") },
		"becomes it there": func(t *testing.T) int { return startBackground(t, "-F", "--dir", "locks", "x") },
		"of a killed procsem": func(t *testing.T) int {
			cmd, command := startHolder(t, "x", filepath.Join(t.TempDir(), "file"), "--dir", "locks")
			kill(t, cmd.Process.Pid)
			wait(t, cmd)
			return command
		},
	} {
		t.Run(what, func(t *testing.T) {
			command := hold(t)
			if got := run(t, "run", "--dir", dir, "-w", "0", "x", "true"); got.status != statusTempFail {
				t.Errorf("its permit is not taken: %+v", got)
			}
			if text := kept(); !strings.Contains(text, "free     0\n") {
				t.Errorf("show prints\n%s", text)
			}
			if got := run(t, "unlink", "--dir", dir, "x"); got.status != statusTempFail {
				t.Errorf("unlink: %+v, want that it is in use", got)
			}
			kill(t, command)
			if got := run(t, "wait", "--idle", "--dir", "locks", "x"); got != (outcome{}) {
				t.Errorf("wait --idle: %+v", got)
			}
			eventually(t, "the permit is back", func() bool { return strings.Contains(kept(), "free   1\n") })
		})
	}
	if left := filesIn(t, usual); len(left) > 0 {
		t.Errorf("in the usual directory: %v", left)
	}
}

// One name in two directories is two semaphores, which a collector can tell apart.
func TestMetricsOfDirectories(t *testing.T) {
	parent := tempDir(t)
	t.Setenv("SEMAPHORE_DIR", parent)
	of := func(option ...string) string {
		t.Helper()
		if got := run(t, append([]string{"create", "-n", "3", "x"}, option...)...); got.status != 0 {
			t.Fatalf("create: %+v", got)
		}
		got := run(t, append([]string{"list", "--prometheus"}, option...)...)
		if got.status != 0 {
			t.Fatalf("list: %+v", got)
		}
		for line := range strings.Lines(got.stdout) {
			if strings.HasPrefix(line, "procsem_limit_permits{") {
				return line
			}
		}
		t.Fatal("no limit is printed")
		return ""
	}
	if got, want := of(), `procsem_limit_permits{name="x",kind="recoverable"} 3`+"\n"; got != want {
		t.Errorf("got %swant %s", got, want)
	}
	for _, name := range []string{"one", `tw"o`} {
		dir := filepath.Join(parent, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("procsem_limit_permits{name=%q,kind=%q,dir=%q} 3\n", "x", "recoverable", dir)
		if got := of("--dir", dir); got != want {
			t.Errorf("got %swant %s", got, want)
		}
	}
}

// The bare counts in a directory are flock-counters.
func TestBareCountInDirectory(t *testing.T) {
	storeOf(t)
	dir := tempDir(t)
	s, err := semaphore.Open("x", semaphore.WithEngine(semaphore.EngineFlock), semaphore.WithDir(dir))
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	for _, step := range []step{
		{"value x", 0, "1\n", ""},
		{"wait x", 0, "", ""},
		{"try x", 75, "", "no permit"},
		{"post x", 0, "", ""},
		{"list", 0, "NAME  KIND   LIMIT  FREE  HOLDERS  WAITING\nx     flock  -      1     -        -\n", ""},
		{"run x true", 65, "", `"x" is a bare count there (flk.x), no recoverable semaphore: choose another name, or remove it: procsem --dir ` + dir + " unlink x"},
		{"create x", 65, "", "is a bare count there"},
		{"resize x 2", 65, "", "have a limit"},
		{"unlink x", 0, "", ""},
		{"value x", 66, "", "no such semaphore"},
	} {
		got := run(t, append([]string{"--dir", dir}, strings.Fields(step.command)...)...)
		if got.status != step.status || got.stdout != step.stdout || !strings.Contains(got.stderr, step.says) || (got.stderr == "") != (step.says == "") {
			t.Errorf("%s: %+v, want %+v", step.command, got, step)
		}
	}
	if left := filesIn(t, dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// A semaphore that others may write, or that is another user's, is refused in any directory, and what the message says can be typed.
func TestExposedInDirectory(t *testing.T) {
	storeOf(t)
	dir := tempDir(t)
	if got := run(t, "--dir", dir, "create", "x"); got != (outcome{}) {
		t.Fatalf("%+v", got)
	}
	if err := os.Chmod(filepath.Join(dir, names.FileName(names.Recoverable, "x")), 0o666); err != nil {
		t.Fatal(err)
	}
	if got := run(t, "run", "--dir", dir, "x", "true"); got.status != statusNoPerm || !strings.Contains(got.stderr, "procsem --dir "+dir+" unlink x") {
		t.Errorf("%+v, want status 77", got)
	}
	if got := run(t, "run", "--mode", "0666", "--dir", dir, "x", "true"); got != (outcome{}) {
		t.Errorf("%+v", got)
	}
}

func TestToType(t *testing.T) {
	defer func() { directory = "" }()
	for dir, want := range map[string]string{
		"":            "procsem",
		"/a/b.c":      "procsem --dir /a/b.c",
		"/a b":        "procsem --dir '/a b'",
		"/it's $HOME": `procsem --dir '/it'\''s $HOME'`,
	} {
		if directory = dir; toType() != want {
			t.Errorf("%q: %s, want %s", dir, toType(), want)
		}
	}
}
