//go:build unix && !aix && !filelock_fcntl

package semtest_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/procsem/semaphore/internal/testkit"
)

// rounds is how often the tests of another module are run. "-args -semtest.rounds 50" is the whole check.
var rounds = flag.Int("semtest.rounds", 3, "how often the tests of another module are run")

// The tests of four packages of another module write to one file of SQLite, which lets one write at a time. "go test ./..."
// runs them at once, and passes with semtest alone.
func TestDatabaseOfAnotherModule(t *testing.T) {
	testkit.NeedTool(t, "sqlite3")
	testkit.NeedTool(t, "go")
	dir := t.TempDir()
	copyOf := func(from, to string) {
		t.Helper()
		text, err := os.ReadFile(from)
		testkit.Must(t, err)
		to = filepath.Join(dir, to)
		testkit.Must(t, os.MkdirAll(filepath.Dir(to), 0o755))
		testkit.Must(t, os.WriteFile(to, text, 0o644))
	}
	for _, p := range []string{"a", "b", "c", "d"} {
		copyOf("testdata/database_test.go.txt", p+"/database_test.go")
	}
	copyOf("../go.sum", "go.sum")
	ours, err := os.ReadFile("../go.mod")
	testkit.Must(t, err)
	root, err := filepath.Abs("..")
	testkit.Must(t, err)
	module := fmt.Sprintf("module example.test/shared\n\n%s\n\nrequire (\n\tgithub.com/procsem/semaphore v0.0.0\n%s // indirect\n)\n\nreplace github.com/procsem/semaphore => %s\n",
		regexp.MustCompile(`(?m)^go .*`).Find(ours), regexp.MustCompile(`(?m)^\s*golang.org/x/sys v\S+`).Find(ours), root)
	testkit.Must(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte(module), 0o644))

	database := filepath.Join(dir, "database")
	sqlite := func(statement string) string {
		t.Helper()
		out, err := exec.Command("sqlite3", database, statement).CombinedOutput()
		if err != nil {
			t.Fatalf("sqlite3: %v: %s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	test := func(variables ...string) (string, error) {
		cmd := exec.Command("go", "test", "-count=1", "-p=4", "./...")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off", "DATABASE="+database, "SEMAPHORE_DIR="+t.TempDir())
		cmd.Env = append(cmd.Env, variables...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	sqlite("CREATE TABLE rows (i)")
	for i := range *rounds {
		if out, err := test(); err != nil {
			t.Fatalf("round %d: %v\n%s", i, err, out)
		}
		if got, want := sqlite("SELECT count(*) FROM rows"), fmt.Sprint((i+1)*4*3*100); got != want {
			t.Fatalf("%s rows, want %s", got, want)
		}
	}
	for i := 0; ; i++ {
		if out, err := test("UNGUARDED=1"); err != nil && strings.Contains(out, "database is locked") {
			break
		} else if i == 20 {
			t.Fatalf("passes without semtest: %v\n%s", err, out)
		}
	}
}
