package command

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// Without /dev/shm the command says what is missing.
func TestNoDirectoryForPOSIX(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("missing: root")
	}
	if _, err := exec.LookPath("mount"); err != nil {
		t.Skip("missing: mount")
	}
	t.Setenv("SEMAPHORE_DIR", t.TempDir())
	for command, status := range map[string]int{"create --posix NAME": 69, "run --posix NAME -c exit": 69, "value NAME": 66, "show NAME": 66, "wait NAME": 66, "post NAME": 66} {
		t.Run(command, func(t *testing.T) {
			cmd := procsemCommand(t)
			cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", `mount -t tmpfs none /dev && exec "$@"`, "sh", self(t)}, strings.Fields(strings.ReplaceAll(command, "NAME", newName(t)))...)
			cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Setpgid: true}
			got := runCmd(t, cmd)
			if got.status != status || !isOneLine(got.stderr) || !strings.Contains(got.stderr, "no /dev/shm") {
				t.Errorf("got %+v, want status %d and one line about /dev/shm", got, status)
			}
		})
	}
}

// Whatever a command prints, it does not succeed if that cannot be written.
func TestOutputThatIsFull(t *testing.T) {
	name, _ := newRecoverable(t, 1)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, command := range []string{"--help", "help", "help run", "run --help", "--version", "list", "list --json", "show " + name, "show --json " + name, "value " + name} {
		cmd := procsemCommand(t, strings.Fields(command)...)
		var stderr strings.Builder
		cmd.Stdout, cmd.Stderr = full, &stderr
		start(t, cmd)
		if got := wait(t, cmd); got.status != statusOSErr || !isOneLine(stderr.String()) || !strings.Contains(stderr.String(), "no space left") {
			t.Errorf("%s: %+v, stderr %q, want status %d and one line", command, got, stderr.String(), statusOSErr)
		}
	}
}
