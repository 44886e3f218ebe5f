//go:build unix

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A command is found and run as execvp(3) does it, for env, nice and flock.
func TestRunFindsCommandAsExecvp(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "procsem-test-script")
	if err := os.WriteFile(script, []byte(`echo "$0 $1"; exit 5`), 0o700); err != nil {
		t.Fatal(err)
	}
	const unset = "unset"
	for _, tt := range []struct {
		name, path string
		args       []string
		want       outcome
	}{
		{"script without #!", os.Getenv("PATH"), []string{"--", script, "a b"}, outcome{status: 5, stdout: script + " a b\n"}},
		{"script without #! in PATH", dir, []string{"--", "procsem-test-script", "a"}, outcome{status: 5, stdout: script + " a\n"}},
		{"script without #! here", os.Getenv("PATH"), []string{"--", "./procsem-test-script", "-a"}, outcome{status: 5, stdout: "./procsem-test-script -a\n"}},
		{"PATH empty", "", []string{"--", "procsem-test-script"}, outcome{status: 5, stdout: "./procsem-test-script \n"}},
		{"PATH not set", unset, []string{"--", "sh", "-c", "echo here; exit 3"}, outcome{status: 3, stdout: "here\n"}},
		{"line, PATH not set", unset, []string{"-c", "echo here; exit 3"}, outcome{status: 3, stdout: "here\n"}},
		{"line, no shell in PATH", dir, []string{"-c", "echo here; exit 3"}, outcome{status: 3, stdout: "here\n"}},
	} {
		for _, how := range hows("--close", "--posix") {
			t.Run(tt.name+" "+how, func(t *testing.T) {
				name := newName(t)
				cmd := procsemCommand(t, append([]string{"run", how, name}, tt.args...)...)
				cmd.Dir = dir
				cmd.Env = slices.DeleteFunc(cmd.Env, func(v string) bool { return strings.HasPrefix(v, "PATH=") })
				if tt.path != unset {
					cmd.Env = append(cmd.Env, "PATH="+tt.path)
				}
				if diff := cmp.Diff(tt.want, runCmd(t, cmd), cmp.AllowUnexported(outcome{})); diff != "" {
					t.Errorf("outcome (-want +got):\n%s", diff)
				}
				checkValue(t, name, 1)
			})
		}
	}
}

// A procsem that has too few descriptors to start its command says nothing of the command.
func TestStatusWithoutDescriptors(t *testing.T) {
	for _, how := range hows("--close", "--posix") {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			name := newName(t)
			failed := 0
			for n := 8; ; n++ {
				cmd := procsemCommand(t)
				cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", `ulimit -n "$1" && shift && exec "$@"`, "sh", strconv.Itoa(n), self(t), "run", how, name, "-c", "exit 4"}
				got := runCmd(t, cmd)
				if got.status == 4 {
					break
				}
				if strings.Contains(got.stderr, "netpollinit") || strings.Contains(got.stderr, "eventfd") {
					continue // Go's runtime itself needs some
				}
				failed++
				if got.status != 71 || !isOneLine(got.stderr) {
					t.Fatalf("with %d descriptors: %+v, want status 71 and one line on stderr", n, got)
				}
				if n > 100 {
					t.Fatal("the command never ran")
				}
			}
			if failed == 0 {
				t.Error("the command ran with the fewest descriptors")
			}
			checkValue(t, name, 1)
		})
	}
}
