package command

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/procsem/semaphore/internal/testkit"
)

// inPath returns a directory that has this binary by the name procsem.
func inPath(t *testing.T) string {
	t.Helper()
	dir := tempDir(t)
	if err := os.Symlink(self(t), filepath.Join(dir, "procsem")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return dir
}

// Shells complete commands, options and the names of semaphores, and say how many permits
// are free.
func TestCompletion(t *testing.T) {
	inPath(t)
	name, s := newRecoverable(t, 3)
	if err := s.TryWait(); err != nil {
		t.Fatal(err)
	}
	begun := name[:len(name)-2]
	for shell, script := range map[string]string{
		"bash": `source /usr/share/bash-completion/bash_completion; source <(procsem completion bash)
			complete -p procsem >/dev/null || exit
			try() { COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_TYPE=63; COMP_POINT=${#COMP_LINE}; __start_procsem; printf '%s\n' "${COMPREPLY[@]}"; }
			try procsem resi; try procsem run --time; try procsem show BEGUN`,
		"fish": `procsem completion fish | source
			complete -C "procsem resi"; complete -C "procsem run --time"; complete -C "procsem show BEGUN"`,
	} {
		t.Run(shell, func(t *testing.T) {
			testkit.NeedTool(t, shell)
			if _, err := os.Stat("/usr/share/bash-completion/bash_completion"); shell == "bash" && err != nil {
				testkit.Missing(t, "bash-completion")
			}
			cmd := procsemCommand(t)
			cmd.Path, cmd.Args = "/usr/bin/env", []string{"env", shell, "-c", strings.ReplaceAll(script, "BEGUN", begun)}
			got := runCmd(t, cmd)
			lines := strings.Split(strings.TrimSpace(got.stdout), "\n")
			if len(lines) != 3 || got.status != 0 {
				t.Fatalf("got %+v, want three lines", got)
			}
			for i, begins := range []string{"resize", "--timeout", name} {
				if !strings.HasPrefix(lines[i], begins) {
					t.Errorf("completed to %q, want %q", lines[i], begins)
				}
			}
			// Bash shows descriptions only where there is a choice.
			if shell == "fish" && !strings.Contains(lines[2], "2 of 3 free, 0 waiting") {
				t.Errorf("%q does not say how many permits are free", lines[2])
			}
		})
	}

	t.Run("zsh", func(t *testing.T) {
		testkit.NeedTool(t, "zsh")
		t.Setenv("TERM", "dumb")
		cmd, said, press := onTerminal(t, "bash", "exec zsh -f -i")
		typed := func(text string) {
			for _, key := range []byte(text) {
				press(key)
			}
		}
		typed("PS1=; autoload -U compinit && compinit -u -D && source <(procsem completion zsh) && echo ready\n")
		said.want(t, "ready")
		typed("procsem val\t" + begun + "\t\nexit\n")
		said.want(t, "2")
		wait(t, cmd)
	})
}

// A name that means something to a shell is not completed: bash would evaluate it.
func TestCompletionOfHarmfulNames(t *testing.T) {
	dir := tempDir(t)
	t.Setenv("SEMAPHORE_DIR", dir)
	for _, name := range []string{"good", "g$(touch pwned)1", "g$(touch pwned)2", "g`id`", "g;id", "g h", "g'", `g"`, "g|h", "g&", "g>h", "g*", "g~", "g\\h", "g{a,b}", "g!x", "g#", "gé"} {
		if got := run(t, "create", name); got.status != 0 {
			t.Fatalf("%q: %+v", name, got)
		}
	}
	if got := run(t, "create", "--", "-good"); got.status != 0 {
		t.Fatal(got)
	}
	got := run(t, "__complete", "show", "g")
	if lines := strings.Split(got.stdout, "\n"); !strings.HasPrefix(lines[0], "good\t") || len(lines) != 3 {
		t.Errorf("completed to %q, want the good name only", got.stdout)
	}
	if got := run(t, "__complete", "create", "--from", ""); !strings.HasPrefix(got.stdout, ":0\n") { // files
		t.Errorf("create --from is completed to %q", got.stdout)
	}
	if got := run(t, "__complete", "run", "--also", "g"); !strings.HasPrefix(got.stdout, "good\t") {
		t.Errorf("--also completed to %q, want a name", got.stdout)
	}
	if got := run(t, "__complete", "show", ""); strings.Contains(got.stdout, "-good") { // beside those of others in /dev/shm
		t.Errorf("completed to %q, one of which looks like an option", got.stdout)
	}
}

// The manual pages have no mistake that man finds, and say what --help says.
func TestManualPages(t *testing.T) {
	testkit.NeedTool(t, "man")
	t.Setenv(storeVariable, "nonsense") // they are the same with any store
	dir := tempDir(t)
	if got := run(t, "man", dir); got != (outcome{}) {
		t.Fatalf("%+v", got)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil || len(pages) < 10 {
		t.Fatal(pages, err)
	}
	for _, page := range pages {
		cmd := procsemCommand(t)
		cmd.Path, cmd.Args = "/usr/bin/env", []string{"env", "LC_ALL=C", "MANWIDTH=80", "man", "--warnings", "-l", page}
		got := runCmd(t, cmd)
		if got.status != 0 || got.stderr != "" {
			t.Errorf("%s: %+v", page, got)
		}
		for _, part := range []string{"NAME\n", "SYNOPSIS\n", "OPTIONS\n", "-h, --help\n"} {
			if !strings.Contains(got.stdout, part) {
				t.Errorf("%s has no %q", page, part)
			}
		}
	}
	if got := run(t, "man", filepath.Join(dir, "none")); got.status != 66 || !isOneLine(got.stderr) {
		t.Errorf("no such directory: %+v, want status 66 and one line", got)
	}

	// A link in the place of a page is replaced, and not what it leads to; nothing else is left there.
	file, page := filepath.Join(tempDir(t), "file"), filepath.Join(dir, "procsem.1")
	if err := errors.Join(os.WriteFile(file, []byte("as it was"), 0o600), os.Remove(page), os.Symlink(file, page)); err != nil {
		t.Fatal(err)
	}
	if got := run(t, "man", dir); got != (outcome{}) {
		t.Errorf("%+v", got)
	}
	if got, err := os.ReadFile(file); string(got) != "as it was" {
		t.Errorf("a file to which a link leads is now %q, %v", got, err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); len(left) != len(pages) {
		t.Errorf("there are %d files, %v, want %d", len(left), err, len(pages))
	}
}
