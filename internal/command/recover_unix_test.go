//go:build unix

package command

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/names"
)

// The command has the lock too, so its permit stays taken when procsem has ended.
func TestKilledRunKeepsPermitWhileCommandLives(t *testing.T) {
	name, file := newName(t), filepath.Join(t.TempDir(), "held")
	first, command := startHolder(t, name, file)
	kill(t, first.Process.Pid)
	wait(t, first)
	second, said := startWaiter(t, name, file)
	checkValue(t, name, 0)
	kill(t, command)
	said.want(t, "held: false")
	if got := wait(t, second); got.status != 0 {
		t.Errorf("the second run: %+v", got)
	}
	checkValue(t, name, 1)
}

// So does its number, which another command must not get meanwhile.
func TestKilledRunKeepsNumberWhileCommandLives(t *testing.T) {
	name, file := newName(t), filepath.Join(t.TempDir(), "held")
	first, command := startHolder(t, name, file, "-n", "2")
	other := func(want string) {
		t.Helper()
		if got := run(t, "run", name, "-c", echoSlot); got != (outcome{stdout: want + "\n"}) {
			t.Errorf("got %+v, want the number %s", got, want)
		}
	}
	other("[1]")
	kill(t, first.Process.Pid)
	wait(t, first)
	other("[1]")
	kill(t, command)
	eventually(t, "the permit is back", func() bool { return valueOf(t, name) == 2 })
	other("[0]")
}

// A waiter that waited before the kill is notified twice: of procsem's end and of the
// command's. It must not take the permit after the first notification.
func TestWaiterWaitsForCommandOfKilledRun(t *testing.T) {
	name, file := newName(t), filepath.Join(t.TempDir(), "held")
	first, command := startHolder(t, name, file)
	second, said := startWaiter(t, name, file)
	kill(t, first.Process.Pid)
	wait(t, first)
	kill(t, command)
	said.want(t, "held: false")
	wait(t, second)
}

func TestNoForkHoldsPermitAsCommand(t *testing.T) {
	name, file := newName(t), filepath.Join(t.TempDir(), "held")
	first, command := startHolder(t, name, file, "-F")
	if command != first.Process.Pid {
		t.Errorf("the command is process %d, procsem was %d", command, first.Process.Pid)
	}
	second, said := startWaiter(t, name, file, "-F")
	checkValue(t, name, 0)
	kill(t, command)
	said.want(t, "held: false")
	if got := wait(t, second); got.status != 0 {
		t.Errorf("the second run: %+v", got)
	}
	wait(t, first)
	checkValue(t, name, 1) // after a normal end
}

// The command gets the descriptors that procsem inherited for it (make's jobserver).
func TestRunPassesDescriptorsOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("from descriptor 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"--posix=false", "--close", "--no-fork", "--posix", "--bg"} {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		cmd := procsemCommand(t, "run", how, newName(t), "--", "sh", "-c", "cat <&3; echo $X")
		cmd.ExtraFiles = []*os.File{f}
		cmd.Env = append(cmd.Env, "X=from the environment")
		got := runCmd(t, cmd)
		f.Close()
		want := outcome{stdout: "from descriptor 3\nfrom the environment\n"}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(outcome{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", how, diff)
		}
	}
}

// What another user has put under the name of another kind hides no semaphore from the commands.
func TestStrangersFileHidesNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("missing: root")
	}
	dir, err := names.Dir()
	if err != nil {
		t.Fatal(err)
	}
	name, s := newRecoverable(t, 3)
	s.Close()
	const stranger = 65534
	path := filepath.Join(dir, names.Flock+name)
	for what, make := range map[string]func() error{
		"a file":          func() error { return os.WriteFile(path, nil, 0o666) },
		"a dangling link": func() error { return os.Symlink(path+".absent", path) },
	} {
		if err := errors.Join(make(), os.Lchown(path, stranger, stranger)); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"run", name, "--", "true"}, {"value", name}, {"show", name}, {"resize", name, "3"}, {"run", "-n", "3", name, "--", "true"}} {
			if got := run(t, args...); got.status != 0 {
				t.Errorf("%s: %v: %+v", what, args, got)
			}
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// Users that share a semaphore need --mode on both sides.
func TestRunSharesWithOtherUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("missing: root")
	}
	const creator, other = 12345, 65534
	name := newName(t)
	binary := filepath.Join(t.TempDir(), "procsem") // where others may read it
	content, err := os.ReadFile(self(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(binary, content, 0o755); err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(binary); dir != os.TempDir(); dir = filepath.Dir(dir) {
		os.Chmod(dir, 0o755)
	}
	as := func(user uint32, args ...string) outcome {
		t.Helper()
		cmd := procsemCommand(t, args...)
		cmd.Path = binary
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
		return runCmd(t, cmd)
	}
	made := func(name, mode string, umask int) {
		t.Helper()
		old := syscall.Umask(umask)
		created := as(creator, "run", "--mode", mode, name, "--", "true")
		syscall.Umask(old)
		if created.status != 0 {
			t.Fatalf("%+v", created)
		}
	}
	made(name, "0666", 0)
	for _, user := range []uint32{0, creator, other} {
		for _, makes := range [][]string{{"run", name, "--", "true"}, {"create", name}} {
			if got := as(user, makes...); got.status != statusNoPerm || !strings.Contains(got.stderr, "add --mode 0666") {
				t.Errorf("user %d's %s: %+v, want status %d and advice without --mode", user, makes[0], got, statusNoPerm)
			}
		}
	}
	for _, looks := range [][]string{{"list"}, {"show", name}, {"value", name}} {
		if got := as(0, looks...); got.status != 0 || !strings.Contains(got.stdout, name) && looks[0] == "list" {
			t.Errorf("root's %v: %+v", looks, got)
		}
	}
	for _, user := range []uint32{creator, other} {
		if got := as(user, "run", "--mode", "0666", name, "--", "true"); got.status != 0 {
			t.Errorf("user %d: %+v", user, got)
		}
	}

	// The bits that the umask took are none of the file's: its creator need not repeat the mode.
	masked := newName(t)
	made(masked, "0666", 0o022)
	if got := as(creator, "run", masked, "--", "true"); got.status != 0 {
		t.Errorf("under a umask of 022: %+v", got)
	}
	// They are not for others, who learn whose it is.
	for _, args := range [][]string{{"run", masked, "--", "true"}, {"run", "--mode", "0666", masked, "--", "true"}, {"create", masked}} {
		if got, want := as(other, args...), fmt.Sprintf("%q belongs to user %d, and is not shared with others", masked, creator); got.status != statusNoPerm || !strings.Contains(got.stderr, want) {
			t.Errorf("another user's %v: %+v, want status %d and %s", args, got, statusNoPerm, want)
		}
	}
	// And who shares it with more users than its mode does takes it too.
	group := newName(t)
	made(group, "0660", 0)
	if got := as(creator, "run", group, "--", "true"); got.status != statusNoPerm || !strings.Contains(got.stderr, "add --mode 0660") {
		t.Errorf("a group's: %+v, want status %d and advice without --mode", got, statusNoPerm)
	}
	for _, mode := range []string{"0660", "0666"} {
		if got := as(creator, "run", "--mode", mode, group, "--", "true"); got.status != 0 {
			t.Errorf("a group's, with --mode %s: %+v", mode, got)
		}
	}
	// Without one, there is the other thing that the advice names.
	if got := as(creator, "unlink", group); got.status != 0 {
		t.Errorf("%+v", got)
	}
	if got := as(creator, "run", group, "--", "true"); got.status != 0 {
		t.Errorf("%+v", got)
	}

	// Nor is a flock-counter of another user taken for a POSIX semaphore.
	counter := newName(t)
	s, err := semaphore.Open(counter, semaphore.WithEngine(semaphore.EngineFlock))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	dir, err := names.Dir()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, names.Flock+counter)
	if err := errors.Join(os.Chown(path, creator, creator), os.Chmod(path, 0o666)); err != nil {
		t.Fatal(err)
	}
	for _, user := range []uint32{0, other} {
		if got := as(user, "run", "--posix", counter, "--", "true"); got.status != statusNoPerm {
			t.Errorf("user %d: %+v, want status %d without --mode", user, got, statusNoPerm)
		}
		if got := as(user, "run", "--posix", "--mode", "0666", counter, "--", "true"); got.status != 0 {
			t.Errorf("user %d: %+v", user, got)
		}
	}
}
