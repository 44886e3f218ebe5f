//go:build unix

package semaphore_test

import (
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/testhook"
)

const otherUser = 65534 // nobody

// asOther starts an actor of an engine as another user. That one cannot enter
// the directory of the test binary, so it gets a copy.
func asOther(t *testing.T, e semaphore.Engine) *actor {
	t.Helper()
	cmd := helper(t, "actor", e.String())
	path := filepath.Join(scratch(), "for-others")
	if _, err := os.Stat(path); err != nil {
		must(t, os.Chmod(scratch(), 0o755))
		from, err := os.Open(cmd.Path)
		must(t, err)
		defer from.Close()
		to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o755)
		must(t, err)
		_, err = io.Copy(to, from)
		must(t, err)
		must(t, to.Close())
	}
	other := exec.Command(path, cmd.Args[1:]...)
	other.Env = cmd.Env
	other.Dir = "/"
	other.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: otherUser, Gid: otherUser}}
	return startActorCommand(t, "another user's "+e.String(), other)
}

// needSeteuid skips where changing the user ends in a crash sooner or later: musl's
// signal for it is handled on the stacks of goroutines (golang.org/issue/39857).
func needSeteuid(t testing.TB) {
	t.Helper()
	if testhook.Libc.Musl {
		t.Skip("not in this build: a seteuid that spares Go's stacks (golang.org/issue/39857)")
	}
}

func TestTwoUsers(t *testing.T) {
	useHelper("actor")
	needRoot(t)
	eachEngine(t, func(t *testing.T, e semaphore.Engine) {
		// Umask is the process's: tests of this package don't run in parallel.
		old := syscall.Umask(0)
		private := open(t, uniqueName(t), e, semaphore.WithMode(0o600))
		shared := open(t, uniqueName(t), e, semaphore.WithMode(0o666))
		syscall.Umask(old)

		a := asOther(t, e)
		a.expect("EACCES", "open /%s", private.Name())
		a.expect("EEXIST", "create /%s 1", private.Name())
		a.ok("open /%s", shared.Name())
		must(t, shared.Wait())
		a.send("waits 1")
		must(t, shared.Post())
		if got := a.answer(); got != "ok" {
			t.Error(got)
		}
		waiting := blocked(t, shared, shared.Wait)
		a.ok("posts 1")
		must(t, result(t, waiting))
		if owns(e) { // what the other user's process holds comes back to us
			must(t, shared.Post())
			a.ok("waits 1")
			waiting := blocked(t, shared, shared.Wait)
			must(t, a.cmd.Process.Kill())
			must(t, result(t, waiting))
			return
		}
		if e != semaphore.EngineFlock {
			return // libc's own rules
		}
		a.send("unlink")
		if got := a.answer(); got == "ok" {
			t.Error("another user removed the name, from a sticky directory")
		}
	})
}

// In a directory that all may write to, another user's file under our name
// decides whom it limits: it is refused, unless other owners are expected.
func TestFileOfAnotherOwner(t *testing.T) {
	needRoot(t)
	eachEngine(t, func(t *testing.T, e semaphore.Engine) {
		if e != semaphore.EngineFlock && !owns(e) {
			return // libc's own rules
		}
		const someone = 12345
		name := uniqueName(t)
		must(t, open(t, name, e).Close())
		path := storeFile(e, name)
		must(t, os.Chmod(path, 0o666))
		must(t, os.Chown(path, someone, someone))
		must(t, open(t, name, e, semaphore.WithCreate(false)).Close())
		must(t, open(t, name, e).Close()) // as root

		needSeteuid(t)
		must(t, syscall.Seteuid(otherUser))
		defer syscall.Seteuid(0)
		_, err := semaphore.Open(name, semaphore.WithEngine(e))
		wantErr(t, "Open", err, fs.ErrPermission)
		if err == nil || !strings.Contains(err.Error(), "12345") {
			t.Errorf("%v: does not name the owner", err)
		}
		must(t, open(t, name, e, semaphore.WithCreate(false)).Close())
		must(t, open(t, name, e, semaphore.WithMode(0o666)).Close())
	})
}
