//go:build unix

package command

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/names"
)

// The mode is that of the line, whatever the umask.
func TestCreateFromMode(t *testing.T) {
	dir := tempDir(t)
	cmd := procsemCommand(t)
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", `umask 077; exec "$@"`, "sh", self(t), "create", "--from", "-"}
	cmd.Env = append(cmd.Env, "SEMAPHORE_DIR="+dir)
	cmd.Stdin = strings.NewReader("a 1\nb 1 0660\nc 1 0666")
	if got := runCmd(t, cmd); got != (outcome{}) {
		t.Fatal(got)
	}
	for name, want := range map[string]os.FileMode{"a": 0o600, "b": 0o660, "c": 0o666} {
		if info, err := os.Stat(filepath.Join(dir, names.Recoverable+name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
	got, path := from(t, dir, "c 1 0660\nb 1 0666")
	// c may be written by others than the line says: that is refused, as by create.
	if lines := strings.Split(got.stderr, "\n"); got.status != statusNoPerm || len(lines) != 3 ||
		lines[0] != "procsem: "+path+":2: b exists: its mode, 0660, stands; to make a new one: procsem unlink b" || !strings.HasPrefix(lines[1], "procsem: "+path+":1: ") {
		t.Errorf("other modes: %+v", got)
	}
}

func TestCreateFromOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		got, path := from(t, tempDir(t), "a 1 0600 0\n")
		if want := "procsem: " + path + `:1: OWNER "0": only root can choose who owns a semaphore` + "\n"; got.status != statusNoPerm || got.stderr != want {
			t.Errorf("not as root: %+v, want %q", got, want)
		}
		t.Skip("missing: root")
	}
	const user, group = 12345, 23456
	dir := tempDir(t)
	const content = "a 1 0600 12345\nb 2 0660 12345:23456\nc 3 0660 root:23456\nd 1 0600 root\n"
	for range 2 { // also what belongs to others is opened
		if got, _ := from(t, dir, content); got != (outcome{}) {
			t.Fatal(got)
		}
	}
	for name, want := range map[string]engine.Owner{"a": {UID: user, GID: 0}, "b": {UID: user, GID: group}, "c": {UID: 0, GID: group}, "d": {}} {
		info, err := os.Stat(filepath.Join(dir, names.Recoverable+name))
		if err != nil {
			t.Fatal(err)
		}
		if got := ownerOf(info); got != want {
			t.Errorf("%s belongs to %v, want %v", name, got, want)
		}
	}
	// The owner uses it.
	if err := errors.Join(os.Chmod(dir, 0o777), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "procsem")
	content2, err := os.ReadFile(self(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(binary, content2, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := procsemCommand(t, "run", "-w", "0", "-n", "1", "a", "true")
	cmd.Path = binary
	cmd.Env = append(cmd.Env, "SEMAPHORE_DIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	if got := runCmd(t, cmd); got != (outcome{}) {
		t.Errorf("its owner's run: %+v", got)
	}

	// What belongs to somebody else is refused, or said.
	got, path := from(t, dir, "a 1 0600 54321\nc 3 0660 root:54321\n")
	lines := strings.Split(got.stderr, "\n")
	if got.status != statusNoPerm || len(lines) != 3 ||
		lines[0] != "procsem: "+path+":2: c exists: it belongs to user 0 and group 23456, who stay its owners; to make a new one: procsem unlink c" ||
		!strings.HasPrefix(lines[1], "procsem: "+path+`:1: "a" belongs to user 12345`) {
		t.Errorf("other owners: %+v", got)
	}
	// Also if the line is for root's own, and its mode expects others.
	if err := errors.Join(os.Chmod(filepath.Join(dir, names.Recoverable+"d"), 0o666), os.Chown(filepath.Join(dir, names.Recoverable+"d"), user, user)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, names.Recoverable+"d")
	was, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range []string{"d 3 0666", "d 3 0666 54321"} {
		next := fmt.Sprint("next", i)
		got, path := from(t, dir, line+"\n"+next+" 1\n")
		want := "procsem: " + path + `:1: "d" belongs to user 12345, and not to the owner of the line, or root: it is not touched; to make a new one: procsem unlink d` + "\n"
		if got.status != statusNoPerm || got.stderr != want {
			t.Errorf("%s, and it is a stranger's: %+v, want status 77 and %q", line, got, want)
		}
		if is, err := os.ReadFile(file); err != nil || !bytes.Equal(is, was) {
			t.Errorf("%s has changed a stranger's file, %v", line, err)
		}
		if _, err := os.Stat(filepath.Join(dir, names.Recoverable+next)); err != nil {
			t.Errorf("%s has kept the next line from being made: %v", line, err)
		}
	}
	if got, _ := from(t, dir, "d 1 0666 12345\n"); got != (outcome{}) {
		t.Errorf("the line's owner's: %+v", got)
	}
	for line, says := range map[string]string{
		"a 1 0600 procsem-no-such-user":  `OWNER "procsem-no-such-user": there is no user "procsem-no-such-user"`,
		"a 1 0600 root:procsem-no-group": `OWNER "root:procsem-no-group": there is no group "procsem-no-group"`,
		"a 1 0600 :root":                 `user ""`,
		"a 1 0600 root:":                 `group ""`,
		"a 1 0600 4294967295":            `user "4294967295": a name or a number from 0 to 4294967294`,
		"a 1 0600 99999999999999999999":  `user "99999999999999999999"`,
		"a 1 0600 root:0:0":              `there is no group "0:0"`,
	} {
		got, path := from(t, tempDir(t), line)
		if got.status != statusDataErr || !isOneLine(got.stderr) || !strings.HasPrefix(got.stderr, "procsem: "+path+":1: ") || !strings.Contains(got.stderr, says) {
			t.Errorf("%q: %+v, want status 65 and one line with %q", line, got, says)
		}
	}
}
