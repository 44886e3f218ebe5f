package main

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
