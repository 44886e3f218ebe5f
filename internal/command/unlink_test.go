//go:build linux || windows

package command

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/procsem/semaphore"
)

// The name of a semaphore in use is not removed, whoever has it open, but with -f.
func TestUnlinkRefusesWhatIsInUse(t *testing.T) {
	name, dir := newName(t), tempDir(t)
	holder, command := startHolder(t, name, filepath.Join(dir, "held"), "-o", "--label", "deploy")
	waiter, _ := startWaiter(t, name, filepath.Join(dir, "held"))
	refused := func(says string) {
		t.Helper()
		got := run(t, "unlink", name)
		if got.status != statusTempFail || !isOneLine(got.stderr) || !strings.Contains(got.stderr, fmt.Sprintf("%q is in use: %s", name, says)) || !strings.Contains(got.stderr, "with -f") {
			t.Errorf("unlink: %+v, want status 75 and %q", got, says)
		}
		if got := run(t, "show", name); got.status != 0 {
			t.Fatalf("its name is gone: %+v", got)
		}
	}
	refused(fmt.Sprintf("held by %d (deploy) for ", holder.Process.Pid))
	if got := run(t, "unlink", name); !strings.Contains(got.stderr, "; 1 waits;") {
		t.Errorf("%+v", got)
	}
	kill(t, waiter.Process.Pid)
	wait(t, waiter)
	kill(t, holder.Process.Pid)
	wait(t, holder)
	killIfThere(command)
	s, err := semaphore.Open(name, semaphore.WithRecovery(true))
	if err != nil {
		t.Fatal(err)
	}
	refused(fmt.Sprintf("open in %d (", os.Getpid()))
	s.Close()
	if got := run(t, "unlink", name); got != (outcome{}) {
		t.Errorf("nobody has it open: %+v", got)
	}
	if got := run(t, "unlink", name); got.status != statusNoInput {
		t.Errorf("it was removed: %+v", got)
	}
	if s, err = semaphore.Open(name, semaphore.WithRecovery(true)); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := run(t, "unlink", "--force", name); got != (outcome{}) {
		t.Errorf("with -f: %+v", got)
	}
	if got := run(t, "show", name); got.status != statusNoInput {
		t.Errorf("it was removed: %+v", got)
	}
}

// Of several names each is removed that can be; --idle removes those that nobody has open.
func TestUnlinkSeveral(t *testing.T) {
	t.Setenv("SEMAPHORE_DIR", tempDir(t))
	make := func(names ...string) {
		t.Helper()
		for _, name := range names {
			if got := run(t, "create", name); got.status != 0 {
				t.Fatalf("%+v", got)
			}
		}
	}
	left := func(want ...string) {
		t.Helper()
		var got []string
		for _, line := range strings.Split(run(t, "list").stdout, "\n") {
			if f := strings.Fields(line); len(f) > 1 && f[1] == kindRecoverable {
				got = append(got, f[0])
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("left are %q, want %q", got, want)
		}
	}
	make("a", "b", "c", "used")
	s, err := semaphore.Open("used", semaphore.WithRecovery(true))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := run(t, "__complete", "unlink", "a", ""); !strings.HasPrefix(got.stdout, "b\t1 of 1 free, 0 waiting\nc\t") {
		t.Errorf("completion after the name a: %+v", got)
	}
	got := run(t, "unlink", "a", "absent", "used", "b")
	if got.status != statusNoInput || strings.Count(got.stderr, "\n") != 2 || !strings.Contains(got.stderr, `"absent"`) || !strings.Contains(got.stderr, `"used" is in use`) {
		t.Errorf("%+v, want status 66, and lines about two", got)
	}
	left("c", "used")
	if got := run(t, "unlink", "c", "c/d"); got.status != statusUsage {
		t.Errorf("%+v, want status 64", got)
	}
	left("c", "used") // none is removed if one is no name
	make("a")
	if got := run(t, "unlink", "--idle"); got != (outcome{stdout: "a\nc\n"}) {
		t.Errorf("--idle: %+v", got)
	}
	left("used")
	if got := run(t, "unlink", "--idle"); got != (outcome{}) {
		t.Errorf("--idle: %+v", got)
	}
	// What is no semaphore stays, and is an error.
	if err := os.WriteFile(filepath.Join(os.Getenv("SEMAPHORE_DIR"), "rec.damaged"), []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := run(t, "unlink", "--idle"); got.status != statusDataErr || !isOneLine(got.stderr) {
		t.Errorf("--idle beside a damaged one: %+v", got)
	}
	if got := run(t, "unlink", "damaged"); got != (outcome{}) {
		t.Errorf("a damaged one by its name: %+v", got)
	}
}
