//go:build unix || windows

package command

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/procsem/semaphore/internal/names"
)

// from runs create --from with a file of that content, and returns its path too.
func from(t *testing.T, dir, content string) (got outcome, path string) {
	t.Helper()
	path = filepath.Join(tempDir(t), "list")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := procsemCommand(t, "create", "--from", path)
	cmd.Env = append(cmd.Env, "SEMAPHORE_DIR="+dir)
	return runCmd(t, cmd), path
}

// made returns what list says of the semaphores in a directory: "NAME LIMIT".
func made(t *testing.T, dir string) (list []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, names.Recoverable+"*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := strings.TrimPrefix(filepath.Base(file), names.Recoverable)
		cmd := procsemCommand(t, "value", name)
		cmd.Env = append(cmd.Env, "SEMAPHORE_DIR="+dir)
		list = append(list, name+" "+strings.TrimSpace(runCmd(t, cmd).stdout))
	}
	return list
}

func TestCreateFrom(t *testing.T) {
	dir := tempDir(t)
	const content = "# NAME LIMIT MODE\n\nbuild 4\n   \t\n  gpu\t2   0600\r\n/nightly 1\n#x 1\nhalf 50%"
	want := fmt.Sprint([]string{"build 4", "gpu 2", fmt.Sprint("half ", max(1, processors()/2)), "nightly 1"})
	for range 2 { // what exists is no error, and nothing to speak of
		if got, _ := from(t, dir, content); got != (outcome{}) {
			t.Errorf("got %+v, want status 0 and silence", got)
		}
		if got := fmt.Sprint(made(t, dir)); got != want {
			t.Errorf("there are %v, want %v", got, want)
		}
	}

	// A limit that differs is set, as by create, if nobody has the semaphore open.
	got, path := from(t, dir, "gpu 3\nmore 1\n")
	if got.status != 0 || got.stderr != "procsem: "+path+":1: gpu exists: its limit was 2 and is 3 now\n" {
		t.Errorf("another limit: %+v", got)
	}
	// One that resize has set stays.
	cmd := procsemCommand(t, "resize", "gpu", "5")
	cmd.Env = append(cmd.Env, "SEMAPHORE_DIR="+dir)
	if got := runCmd(t, cmd); got.status != 0 {
		t.Fatal(got)
	}
	if got, path := from(t, dir, "gpu 3\n"); got.status != 0 || got.stderr != "procsem: "+path+":1: gpu exists: procsem resize has set its limit to 5, which stands\n" {
		t.Errorf("after resize: %+v", got)
	}
}

func TestCreateFromStandardInput(t *testing.T) {
	dir := tempDir(t)
	for content, want := range map[string]outcome{
		"":        {},
		"build 4": {},
		"other":   {status: 65, stderr: "procsem: standard input:1: 1 words; NAME LIMIT [MODE [OWNER[:GROUP]]] is allowed\n"},
	} {
		cmd := procsemCommand(t, "create", "--from", "-")
		cmd.Env = append(cmd.Env, "SEMAPHORE_DIR="+dir)
		cmd.Stdin = strings.NewReader(content)
		if got := runCmd(t, cmd); got != want {
			t.Errorf("%q: got %+v, want %+v", content, got, want)
		}
	}
	if got := fmt.Sprint(made(t, dir)); got != "[build 4]" {
		t.Errorf("there are %v", got)
	}
}

// A wrong line is named, and then nothing is made.
func TestCreateFromWrongLines(t *testing.T) {
	for line, says := range map[string]string{
		"a":                             "1 words; NAME LIMIT [MODE [OWNER[:GROUP]]] is allowed",
		"a 1 0600 x y":                  "5 words;",
		"a 1 # why":                     `"#" after the LIMIT: comments are on lines of their own`,
		"a 1 0600 #why so":              `"#why" after the LIMIT: comments are on lines of their own`,
		"a #1":                          `LIMIT "#1"`,
		"a b":                           `LIMIT "b": a whole number from 1 to 65535`,
		"a 0":                           `LIMIT "0"`,
		"a 65536":                       `LIMIT "65536"`,
		"a -1x":                         `LIMIT "-1x"`,
		"a/b 1":                         "slash",
		".. 1":                          "directory",
		"a\x00b 1":                      "NUL",
		strings.Repeat("x", 300) + " 1": "the name",
		"a 1 rw":                        `MODE "rw": permission bits in octal`,
		"a 1 0999":                      `MODE "0999"`,
		"a 1 01777":                     `MODE "01777"`,
		"a 1 0644":                      `MODE "0644": the group, and others, get the rights to read and to write only together; 0600 is allowed`,
		"a 1 0066":                      `MODE "0066": the owner needs the rights`,
		"good 2":                        `"good" is in line 1 too`,
		"/good 2":                       `"good" is in line 1 too`,
		strings.Repeat("x", 70000):      "the line has more than 65536 bytes",
	} {
		dir := tempDir(t)
		got, path := from(t, dir, "good 1\n# a comment\n"+line+"\nfine 1")
		if got.status != 65 || got.stdout != "" || !isOneLine(got.stderr) || !strings.HasPrefix(got.stderr, "procsem: "+path+":3: ") || !strings.Contains(got.stderr, says) {
			t.Errorf("%.40q: got %+v, want status 65 and one line with %q", line, got, says)
		}
		if got := made(t, dir); len(got) > 0 {
			t.Errorf("%.40q: there are %v, want nothing", line, got)
		}
	}

	// Each has its line.
	got, path := from(t, tempDir(t), "a 0\nb 1\nc\n")
	if lines := strings.Split(got.stderr, "\n"); got.status != 65 || len(lines) != 3 || !strings.HasPrefix(lines[0], "procsem: "+path+":1: ") || !strings.HasPrefix(lines[1], "procsem: "+path+":3: ") {
		t.Errorf("two wrong lines: %+v", got)
	}
}

// One that cannot be created does not keep the others from being created.
func TestCreateFromGoesOn(t *testing.T) {
	dir := tempDir(t)
	if err := os.WriteFile(filepath.Join(dir, names.FileName(names.Recoverable, "broken")), []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SEMAPHORE_DIR", dir)
	if got := run(t, "create", "-n", "2", "busy"); got.status != 0 {
		t.Fatal(got)
	}
	cmd := procsemCommand(t, append([]string{"run", "busy", "--"}, helperCommand(t, "stay")...)...)
	start(t, cmd)
	eventually(t, "busy is in use", func() bool { return run(t, "value", "busy").stdout == "1\n" })
	got, path := from(t, dir, "broken 1\nfirst 1\nbusy 3\nlast 1\n")
	lines := strings.Split(got.stderr, "\n")
	if got.status != 65 || len(lines) != 3 || !strings.HasPrefix(lines[0], "procsem: "+path+":1: ") ||
		!strings.HasPrefix(lines[1], "procsem: "+path+":3: ") || !strings.Contains(lines[1], "to change it for all: procsem resize busy 3") {
		t.Errorf("got %+v, want the status of the first error, and two lines", got)
	}
	for _, name := range []string{"first", "last"} {
		if got := run(t, "value", name); got.stdout != "1\n" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestCreateFromMissingFile(t *testing.T) {
	for path, says := range map[string]string{
		filepath.Join(tempDir(t), "none"): "", // the system's words
		tempDir(t):                        "", // a directory
	} {
		got := run(t, "create", "--from", path)
		if got.status == 0 || !isOneLine(got.stderr) || !strings.Contains(got.stderr, "--from "+path) || !strings.Contains(got.stderr, says) {
			t.Errorf("%s: %+v, want an error in one line", path, got)
		}
	}
	if got := run(t, "create", "--from", filepath.Join(tempDir(t), "none")); got.status != 66 {
		t.Errorf("a file that does not exist: %+v, want status 66", got)
	}
}
