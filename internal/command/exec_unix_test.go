//go:build unix

package command

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/procsem/semaphore/internal/names"
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

// The script learns its permit too, which the shell runs in the command's stead.
func TestScriptLearnsItsPermit(t *testing.T) {
	script := filepath.Join(t.TempDir(), "procsem-test-script")
	if err := os.WriteFile(script, []byte(`echo "[$PROCSEM_NAME] [$PROCSEM_SLOT] [$PROCSEM_LIMIT]"`), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, how := range hows("--close", "--posix") {
		name := newName(t)
		want := "[" + name + "] [0] [3]\n"
		if how == "--posix" {
			want = "[" + name + "] [] []\n"
		}
		cmd := procsemCommand(t, "run", how, "-n", "3", name, "--", script)
		cmd.Env = append(cmd.Env, inherited...)
		if got := runCmd(t, cmd); got != (outcome{stdout: want}) {
			t.Errorf("%s: got %+v, want %q", how, got, want)
		}
	}
}

// The examples of docs/command.md give each of the commands that run together what only one
// can have.
func TestExamplesOfNumbers(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "command.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Which permit\n")
	section, _, _ = strings.Cut(section, "\n## ")
	dir := t.TempDir()
	for program, script := range map[string]string{
		"procsem": helperEnv + `=1 exec "` + self(t) + `" "$@"`,
		"server":  `echo "$@"; cat`,
		"train":   `echo "$CUDA_VISIBLE_DEVICES"; cat`,
	} {
		if err := os.WriteFile(filepath.Join(dir, program), []byte("#!"+shell+"\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for example, want := range map[string][]string{
		"procsem run -n 4 -c ": {"--port 8000", "--port 8001", "--port 8002", "--port 8003"},
		"procsem run -n 2 -c ": {"0", "1"},
	} {
		_, rest, found := strings.Cut(section, "\n"+example)
		if !found {
			t.Errorf("docs/command.md has no example %q", example)
			continue
		}
		line, _, _ := strings.Cut(rest, "\n")
		var got []string
		for range want {
			cmd := exec.Command(shell, "-c", example+line)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "PATH="+dir+string(filepath.ListSeparator)+os.Getenv("PATH"), names.DirVariable+"="+dir)
			cmd.Stderr = os.Stderr
			in, err := cmd.StdinPipe() // which the command reads until the test ends
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			start(t, cmd)
			got = append(got, readLines(out).read(t))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s%s: the commands had %q, want %q", example, line, got, want)
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
