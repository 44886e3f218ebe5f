//go:build unix || windows

package command

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/names"
	"github.com/procsem/semaphore/internal/store"
)

func init() { helpers["directory"] = printDirectory }

// printDirectory, a helper, prints SEMAPHORE_DIR.
func printDirectory([]string) int {
	fmt.Printf("%q\n", os.Getenv(names.DirVariable))
	return 0
}

// storeOf makes a directory the usual one of this process and its children, and returns it.
func storeOf(t *testing.T) string {
	t.Helper()
	dir := tempDir(t)
	t.Setenv(names.DirVariable, dir)
	return dir
}

func filesIn(t *testing.T, dir string) (files []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		files = append(files, e.Name())
	}
	return files
}

// All commands use the semaphores in the directory that --dir names, before or after the command's name, and no
// others.
func TestDirectory(t *testing.T) {
	usual, a, b := storeOf(t), tempDir(t), tempDir(t)
	fillIn := strings.NewReplacer("@A", a, "@B", b, "@FILE", filepath.Join(a, names.FileName(names.Recoverable, "x")))
	for _, step := range []step{
		{"create -n 3 x", 0, "", ""},
		{"--dir @A value x", 66, "", `"x": no such semaphore, in @A`},
		{"create --dir @A -n 1 x", 0, "", ""},
		{"--dir @B create -n 2 x", 0, "", ""},
		{"--dir=@A create -x x", 73, "", "exists"},
		{"value x", 0, "3\n", ""},
		{"value --dir @A x", 0, "1\n", ""},
		{"--dir @B value x", 0, "2\n", ""},
		{"--dir @B value --dir @A x", 0, "1\n", ""}, // the last one counts
		{"--dir @A show x", 0, "name   x\nkind   recoverable\nlimit  1\nfree   1\n", ""},
		{"--dir @A resize x 4", 0, "", ""},
		{"resize --dir @A x --default", 0, "", ""},
		{"value --dir @A x", 0, "4\n", ""},
		{"value x", 0, "3\n", ""},
		{"path --dir @A x", 0, "@FILE\n", ""},
		{"run --dir @A -n 4 x procsem-test-none", 127, "", "not found"},
		{"run --dir @A -n 5 --also y=2 x -c exit", 0, "", ""},
		{"value --dir @A y", 0, "2\n", ""},
		{"value y", 66, "", "no such semaphore"},
		{"wait --idle --dir @A x", 0, "", ""},
		{"wait --idle --dir @B y", 66, "", "no such semaphore"},
		{"wait --dir @A x", 65, "", "procsem --dir @A run x -- command"},
		{"list --dir @B", 0, "NAME  KIND         LIMIT  FREE  HOLDERS  WAITING\nx     recoverable  2      2     0        0\n", ""},
		{"unlink --dir @A x", 0, "", ""},
		{"unlink --dir @A -f y", 0, "", ""},
		{"unlink --dir @A x", 66, "", "no such semaphore"},
		{"--dir @B unlink --idle", 0, "x\n", ""},
		{"value x", 0, "3\n", ""},
	} {
		got := run(t, strings.Fields(fillIn.Replace(step.command))...)
		says := fillIn.Replace(step.says)
		want := outcome{status: step.status, stdout: fillIn.Replace(step.stdout), stderr: got.stderr}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(outcome{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.command, diff)
		}
		if says == "" && got.stderr != "" || says != "" && (!isOneLine(got.stderr) || !strings.Contains(got.stderr, says)) {
			t.Errorf("%s: stderr = %q, want %q in one line", step.command, got.stderr, says)
		}
	}
	for _, dir := range []string{a, b} {
		if left := filesIn(t, dir); len(left) > 0 && runtime.GOOS != "windows" {
			t.Errorf("left in %s: %v", dir, left)
		}
	}
	if left := filesIn(t, usual); len(left) != 1 {
		t.Errorf("in the usual directory: %v, want one file", left)
	}
}

// create --from makes its semaphores there, and what machines read has those of the directory only.
func TestDirectoryOfSeveral(t *testing.T) {
	usual, dir := storeOf(t), tempDir(t)
	cmd := procsemCommand(t, "create", "--dir", dir, "--from", "-")
	cmd.Stdin = strings.NewReader("x 2\ny 3 0600\n")
	for range 2 {
		if got := runCmd(t, cmd); got != (outcome{}) {
			t.Fatalf("create --from: %+v", got)
		}
		cmd = procsemCommand(t, "--dir", dir, "create", "--from", "-")
		cmd.Stdin = strings.NewReader("x 2\ny 3 0600\n")
	}
	var listed []summary
	if err := json.Unmarshal([]byte(run(t, "list", "--dir", dir, "--json").stdout), &listed); err != nil || len(listed) != 2 || *listed[1].Limit != 3 {
		t.Errorf("list --json: %+v, %v", listed, err)
	}
	if got := run(t, "list", "--dir", dir, "--prometheus"); strings.Count(got.stdout, "procsem_limit_permits{") != 2 {
		t.Errorf("list --prometheus: %+v", got)
	}
	if got := run(t, "__complete", "--dir", dir, "show", ""); !strings.HasPrefix(got.stdout, "x\t2 of 2 free, 0 waiting\ny\t3 of 3 free, 0 waiting\n:") {
		t.Errorf("completed to %+v", got)
	}
	if got := run(t, "__complete", "run", "--dir", dir, "--also", ""); !strings.HasPrefix(got.stdout, "x\t2 of 2 free") {
		t.Errorf("completed to %+v", got)
	}
	if got := run(t, "__complete", "--dir", ""); !strings.HasPrefix(got.stdout, ":16\n") { // directories
		t.Errorf("completed to %+v", got)
	}
	if left := filesIn(t, usual); len(left) > 0 {
		t.Errorf("in the usual directory: %v", left)
	}
}

// A relative directory is of procsem's working directory. The command is told nothing of it.
func TestRelativeDirectoryOfRun(t *testing.T) {
	usual, parent := storeOf(t), tempDir(t)
	for _, dir := range []string{"locks and keys", "work"} {
		if err := os.Mkdir(filepath.Join(parent, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	locks, err := filepath.EvalSymlinks(filepath.Join(parent, "locks and keys")) // as getwd has it
	if err != nil {
		t.Fatal(err)
	}
	from := func(dir string, args ...string) outcome {
		t.Helper()
		cmd := procsemCommand(t, args...)
		cmd.Dir = dir
		return runCmd(t, cmd)
	}
	got := from(parent, append([]string{"run", "--dir", "locks and keys", "-n", "2", "x", "--"}, helperCommand(t, "directory")...)...)
	if want := fmt.Sprintf("%q\n", usual); got != (outcome{stdout: want}) {
		t.Errorf("SEMAPHORE_DIR of the command: %+v, want %s", got, want)
	}
	if got := from(filepath.Join(parent, "work"), "--dir", filepath.Join("..", "locks and keys"), "value", "x"); got != (outcome{stdout: "2\n"}) {
		t.Errorf("from another working directory: %+v", got)
	}
	// What a message says can be typed, wherever that is.
	s, err := semaphore.Open("x", semaphore.WithRecovery(true), semaphore.WithDir(locks))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	quote := map[bool]string{true: `"`, false: "'"}[runtime.GOOS == "windows"]
	got = from(locks, "run", "--dir", ".", "-n", "5", "x", "-c", "exit")
	if typed := "procsem --dir " + quote + locks + quote + " resize x 5"; got.status != statusConfig || !strings.Contains(got.stderr, typed) {
		t.Errorf("got %+v, want status 78 and %s", got, typed)
	}
}

// A procsem within a procsem whose directory is another one waits for nobody that runs it.
func TestNestedInAnotherDirectory(t *testing.T) {
	storeOf(t)
	dirs := strings.NewReplacer("A", tempDir(t), "B", tempDir(t))
	for _, tt := range []struct {
		lines  []string
		status int
	}{
		{[]string{"run x", "run --dir A x", "--dir B run -w 20 x -c exit"}, 0},
		{[]string{"run --dir A x", "run -w 20 x -c exit"}, 0},
		{[]string{"run x", "run --dir A x", "run x -c exit"}, 70},
		{[]string{"run x", "--dir A run x", "run --dir A x -c exit"}, 70},
		{[]string{"run x", "--dir A run x", "wait --idle --dir B x"}, 0},
		{[]string{"run x", "--dir A run x", "wait --idle --dir A x"}, 70},
	} {
		if got := runNested(t, dirs, tt.lines...); got.status != tt.status || tt.status != 0 && !isOneLine(got.stderr) {
			t.Errorf("%v: %+v, want status %d", tt.lines, got, tt.status)
		}
	}
}

// What is no directory is an error that names the option, of every command.
func TestStatusOfWrongDirectory(t *testing.T) {
	storeOf(t)
	dir := tempDir(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(dir, "none")
	try := func(dir, command, says string) {
		t.Helper()
		got := run(t, append([]string{"--dir", dir}, strings.Fields(command)...)...)
		if got.status != 66 || got.stdout != "" || !isOneLine(got.stderr) || !strings.Contains(got.stderr, fmt.Sprintf("--dir %q: ", dir)) || !strings.Contains(got.stderr, says) {
			t.Errorf("%s: got %+v, want status 66 and one line about --dir: %s", command, got, says)
		}
	}
	for _, command := range []string{"run x -c exit", "create x", "create --from " + file, "list", "show x", "value x", "watch", "watch x", "resize x 2",
		"wait x", "wait --idle x", "try x", "post x", "unlink x", "unlink --idle", "path x", "lock --fd 9 x", "unlock --fd 9 x"} {
		try(missing, command, "there is no such directory, and procsem makes none")
	}
	try(file, "run x -c exit", "not a directory")
	try(filepath.Join(file, "x"), "run x -c exit", "")
	if _, err := os.Stat(missing); err == nil {
		t.Error("the directory was made")
	}
	// It takes the place of SEMAPHORE_DIR, also of a wrong one.
	cmd := procsemCommand(t, "run", "--dir", dir, "x", "-c", "exit")
	cmd.Env = append(cmd.Env, names.DirVariable+"=relative")
	if got := runCmd(t, cmd); got != (outcome{}) {
		t.Errorf("with a wrong SEMAPHORE_DIR: %+v", got)
	}
}

// A POSIX semaphore is in no directory: one of the same name is neither used, nor removed, nor in the way.
func TestPOSIXBesideDirectory(t *testing.T) {
	name, dir := newSemaphore(t, 7), tempDir(t)
	inGo := regexp.MustCompile(`With[A-Z]|Engine|engine`)
	for _, tt := range []struct {
		command string
		status  int
		stdout  string
	}{
		{"show", 66, ""}, {"value", 66, ""}, {"unlink", 66, ""}, {"unlink -f", 66, ""}, {"post", 66, ""}, {"try", 66, ""},
		{"create -n 2", 0, ""}, {"value", 0, "2\n"}, {"post", 65, ""}, {"unlink", 0, ""},
	} {
		got := run(t, append(append([]string{"--dir", dir}, strings.Fields(tt.command)...), name)...)
		if got.status != tt.status || got.stdout != tt.stdout || inGo.MatchString(got.stderr) {
			t.Errorf("%s: %+v, want status %d and %q", tt.command, got, tt.status, tt.stdout)
		}
	}
	checkValue(t, name, 7)
}

// In the directory that procsem uses without --dir a POSIX semaphore is in the way, for nobody could open either of the two.
func TestPOSIXInTheUsualDirectory(t *testing.T) {
	dir := storeOf(t)
	name := newSemaphore(t, 7)
	for _, tt := range []struct {
		command string
		status  int
		says    string
	}{
		{"create -n 2 @N", 65, "is a POSIX semaphore, and in "},
		{"run @N true", 65, "is a POSIX semaphore, and in "},
		{"resize @N 3", 65, "is a POSIX semaphore"},
		{"show @N", 66, "no such semaphore"},
		{"value @N", 66, "no such semaphore"},
		{"try @N", 66, "no such semaphore"},
		{"unlink @N", 66, "no such semaphore"},
	} {
		got := run(t, append([]string{"--dir", dir}, strings.Fields(strings.ReplaceAll(tt.command, "@N", name))...)...)
		if got.status != tt.status || got.stdout != "" || !isOneLine(got.stderr) || !strings.Contains(got.stderr, tt.says) {
			t.Errorf("%s: %+v, want status %d and %q", tt.command, got, tt.status, tt.says)
		}
	}
	if left := filesIn(t, dir); len(left) > 0 {
		t.Errorf("made: %v", left)
	}
	checkValue(t, name, 7)
}

// What the library says about directories names the options of a program in Go.
func TestMessageAboutDirectories(t *testing.T) {
	err := &semaphore.Error{Op: "open", Name: "x", Err: store.Unseen(filepath.Join("d", "rec.x"), "the locks")}
	if got := message(err); !strings.Contains(got, "use a directory on a local filesystem (--dir, or SEMAPHORE_DIR)") {
		t.Error(got)
	}
}
