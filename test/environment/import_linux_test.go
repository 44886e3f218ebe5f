package environment_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/procsem/semaphore/internal/testkit"
)

// A program that imports the package makes no other system calls than one that imports
// what the package imports, and has no goroutine more: a filter that ends programs which
// make unusual calls, as Android's, does not meet it before its first Open.
func TestImportDoesNothing(t *testing.T) {
	NeedCallNumbers(t)
	NeedTool(t, "go")
	NeedTool(t, "strace")
	with, without := systemCalls(t, "importing"), systemCalls(t, "baseline")
	for call, runs := range with {
		// Go's runtime makes some calls or not, by chance. It interrupts a goroutine that runs for long by a signal.
		if runs == importRuns && without[call] == 0 && call != "tgkill" && call != "rt_sigreturn" {
			t.Errorf("a program that imports the package makes the system call %s", call)
		}
	}
	if with["exit_group"] != importRuns || without["exit_group"] != importRuns {
		t.Errorf("the programs were not seen to end: %v, %v", with, without)
	}
}

const importRuns = 5

// systemCalls builds a program and returns the system calls that it makes, and in how
// many runs it made them.
func systemCalls(t *testing.T, program string) map[string]int {
	binary, log := build(t, program), filepath.Join(t.TempDir(), "strace")
	calls := make(map[string]int)
	for range importRuns {
		run(t, "strace", "-f", "-qq", "-o", log, binary)
		b, err := os.ReadFile(log)
		Must(t, err)
		seen := make(map[string]bool)
		for line := range strings.Lines(string(b)) {
			if name, _, call := strings.Cut(strings.Fields(line)[1], "("); call && !seen[name] {
				seen[name] = true
				calls[name]++
			}
		}
	}
	return calls
}

// build returns the file of a program of testdata that it has built.
func build(t *testing.T, program string) string {
	binary := filepath.Join(t.TempDir(), program)
	run(t, "go", "build", "-o", binary, "./testdata/"+program)
	if err := exec.Command(binary).Run(); errors.Is(err, fs.ErrNotExist) {
		t.Skip("not on this system: the C library with which the program is linked")
	}
	return binary
}

func run(t *testing.T, name string, args ...string) {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}
