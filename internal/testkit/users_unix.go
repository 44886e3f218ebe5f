//go:build unix

package testkit

import (
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/testhook"
)

// OtherUser is the user "nobody", which owns nothing.
const OtherUser = 65534

// AsOther starts an actor of an engine as another user.
func AsOther(t *testing.T, e semaphore.Engine) *Actor {
	t.Helper()
	return startForOthers(t, e, "for-others", 0o755, &syscall.Credential{Uid: OtherUser, Gid: OtherUser})
}

// AsMember starts an actor of an engine as another user, whose own group has the user's
// number, and who is a member of a second group.
func AsMember(t *testing.T, e semaphore.Engine, user, group uint32) *Actor {
	t.Helper()
	return startForOthers(t, e, "for-others", 0o755, &syscall.Credential{Uid: user, Gid: user, Groups: []uint32{group}})
}

// AsSetuid starts an actor of an engine as another user, from a program that is setuid root.
// It skips where the system does not give such a program its owner's rights.
func AsSetuid(t *testing.T, e semaphore.Engine) *Actor {
	t.Helper()
	a := startForOthers(t, e, "setuid", 0o755|fs.ModeSetuid, &syscall.Credential{Uid: OtherUser, Gid: OtherUser})
	a.Send("euid")
	if a.Answer() != "ok 0" {
		t.Skip("not on this system: setuid programs (nosuid, no_new_privs, an emulator)")
	}
	return a
}

func startForOthers(t *testing.T, e semaphore.Engine, file string, mode fs.FileMode, as *syscall.Credential) *Actor {
	t.Helper()
	cmd := Helper(t, "actor", e.String())
	// Another user cannot enter the directory of the test binary: it gets a copy.
	path := filepath.Join(scratch(), file)
	if _, err := os.Stat(path); err != nil {
		Must(t, os.Chmod(scratch(), 0o755))
		from, err := os.Open(cmd.Path)
		Must(t, err)
		defer from.Close()
		to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o755)
		Must(t, err)
		_, err = io.Copy(to, from)
		Must(t, err)
		Must(t, to.Chmod(mode))
		Must(t, to.Close())
	}
	other := exec.Command(path, cmd.Args[1:]...)
	other.Env = cmd.Env
	other.Dir = "/"
	other.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	return StartActorCommand(t, "another user's "+e.String(), other)
}

// NeedSeteuid skips a test where changing the user crashes sooner or later: the signal
// by which musl does it is handled on the stacks of goroutines (golang.org/issue/39857).
func NeedSeteuid(t testing.TB) {
	t.Helper()
	if testhook.Libc.Musl {
		t.Skip("not in this build: a seteuid that spares Go's stacks (golang.org/issue/39857)")
	}
}
