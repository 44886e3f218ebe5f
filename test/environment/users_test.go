//go:build unix

package environment_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/testhook"
	. "github.com/procsem/semaphore/internal/testkit"
)

func TestTwoUsers(t *testing.T) {
	UseHelper("actor")
	NeedRoot(t)
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		// The umask belongs to the process: tests of this package don't run in parallel.
		old := syscall.Umask(0)
		private := Open(t, UniqueName(t), e, semaphore.WithMode(0o600))
		shared := Open(t, UniqueName(t), e, semaphore.WithMode(0o666))
		syscall.Umask(old)

		a := AsOther(t, e)
		a.Expect("EACCES", "open /%s", private.Name())
		a.Expect("EEXIST", "create /%s 1", private.Name())
		a.OK("open /%s", shared.Name())
		Must(t, shared.Wait())
		a.Send("waits 1")
		Must(t, shared.Post())
		if got := a.Answer(); got != "ok" {
			t.Error(got)
		}
		waiting := Blocked(t, shared, shared.Wait)
		a.OK("posts 1")
		Must(t, Result(t, waiting))
		a.Expect("EACCES", "unlink") // in a sticky directory
		if Owns(e) {                 // what the other user's process holds comes back to us
			Must(t, shared.Post())
			a.OK("waits 1")
			waiting := Blocked(t, shared, shared.Wait)
			Must(t, a.Cmd.Process.Kill())
			Must(t, Result(t, waiting))
		}
	})
}

// A creator can use what it has made, also if the mode keeps even it from opening that by
// its name.
func TestModeThatKeepsTheCreatorOut(t *testing.T) {
	NeedRoot(t)
	NeedSeteuid(t)
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		if Owns(e) {
			return // the mode has to give the owner both rights
		}
		NeedFile(t, e)
		Must(t, syscall.Seteuid(OtherUser))
		defer syscall.Seteuid(0)
		for _, tt := range []struct {
			umask int
			mode  fs.FileMode
		}{{0, 0o400}, {0o222, 0o666}} {
			name := UniqueName(t)
			old := syscall.Umask(tt.umask)
			s, err := semaphore.Open(name, semaphore.WithEngine(e), semaphore.WithMode(tt.mode))
			syscall.Umask(old)
			Must(t, err)
			defer s.Unlink()
			if info, err := os.Stat(StoreFile(e, name)); err != nil || info.Mode() != 0o400 {
				t.Errorf("umask %#o, mode %#o: %v, %v; want 0400", tt.umask, uint32(tt.mode), info.Mode(), err)
			}
			Must(t, s.Wait())
			Must(t, s.Post())
			Must(t, s.Close())
		}
	})
}

// In a directory that all users may write to, another user could put a file under our
// semaphore's name, and decide what it does. Such a file is refused, unless the caller
// expects files of other users.
func TestFileOfAnotherOwner(t *testing.T) {
	NeedRoot(t)
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		if e != semaphore.EngineFlock && !Owns(e) {
			return // libc's own rules
		}
		const someone = 12345
		name := UniqueName(t)
		Must(t, Open(t, name, e).Close())
		path := StoreFile(e, name)
		Must(t, os.Chmod(path, 0o666))
		Must(t, os.Chown(path, someone, someone))
		refused := func() {
			t.Helper()
			_, err := semaphore.Open(name, semaphore.WithEngine(e))
			WantErr(t, "Open", err, fs.ErrPermission)
			if err == nil || !strings.Contains(err.Error(), "12345") {
				t.Errorf("%v: does not name the owner", err)
			}
			Must(t, Open(t, name, e, semaphore.WithCreate(false)).Close())
			Must(t, Open(t, name, e, semaphore.WithMode(0o666)).Close())
		}
		refused()                                                 // also as root
		for _, mode := range []fs.FileMode{0o622, 0o620, 0o602} { // which share nothing: see engine.BothOrNeither
			_, err := semaphore.Open(name, semaphore.WithEngine(e), semaphore.WithMode(mode))
			WantErr(t, fmt.Sprintf("Open with mode %#o", mode), err, fs.ErrPermission)
		}

		NeedSeteuid(t)
		Must(t, syscall.Seteuid(OtherUser))
		defer syscall.Seteuid(0)
		refused()
	})
}

// Whoever may write a file can give it other names. Under such a name nobody finds a
// semaphore: its owner, whom all trust, has not made that one, and others may use it.
func TestHardLinkOfASharedOne(t *testing.T) {
	UseHelper("actor")
	NeedRoot(t)
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		if e != semaphore.EngineFlock && !Owns(e) {
			return // libc's own rules
		}
		old := syscall.Umask(0)
		public := Open(t, UniqueName(t), e, semaphore.WithMode(0o666))
		syscall.Umask(old)
		private := UniqueName(t)
		link := exec.Command("ln", StoreFile(e, public.Name()), StoreFile(e, private))
		link.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: OtherUser, Gid: OtherUser}}
		if out, err := link.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		unchanged := Unchanging(t, e, public.Name())
		for what, opts := range map[string][]semaphore.Option{
			"Open":                   nil,
			"Open of what exists":    {semaphore.WithCreate(false)},
			"Open of what is shared": {semaphore.WithMode(0o666)},
		} {
			s, err := semaphore.Open(private, append(opts, semaphore.WithEngine(e))...)
			if err == nil {
				s.Close()
			}
			WantErr(t, what, err, semaphore.ErrCorrupt)
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", public.Name())) {
				t.Errorf("%s: %v: does not say whose file it is", what, err)
			}
		}
		unchanged("Open by the other name")
		a := AsOther(t, e)
		a.OK("open /%s", public.Name()) // by its own name all is as it was
		Must(t, semaphore.Unlink(private, semaphore.WithEngine(e)))
		Must(t, Open(t, private, e).Close())
	})
}

// And it can write the other name into the file, too, before root makes the semaphore of that
// name. So who would make one for itself takes none that others may write, whoever owns it, and
// also when the link is the file's only name; one that would share it does.
func TestHardLinkWithTheName(t *testing.T) {
	UseHelper("actor")
	NeedRoot(t)
	NeedSeteuid(t)
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		if e != semaphore.EngineFlock && !Owns(e) {
			return // libc's own rules
		}
		nameAt := int64(16) // of a flock-counter's file
		if Owns(e) {
			nameAt = 320
		}
		const third = 12345
		old := syscall.Umask(0)
		public := Open(t, UniqueName(t), e, semaphore.WithMode(0o666))
		syscall.Umask(old)
		private := UniqueName(t)
		path := StoreFile(e, private)
		as := func(user int, f func()) {
			t.Helper()
			Must(t, syscall.Seteuid(user))
			defer syscall.Seteuid(0)
			f()
		}
		as(OtherUser, func() {
			Must(t, os.Link(StoreFile(e, public.Name()), path))
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			Must(t, err)
			defer f.Close()
			made := private + strings.Repeat("\x00", max(0, len(public.Name())-len(private)))
			_, err = f.WriteAt([]byte(made), nameAt)
			Must(t, err)
			if !Owns(e) {
				Must(t, f.Truncate(nameAt+int64(len(private))))
			}
		})
		opens := func(what string, opts ...semaphore.Option) {
			t.Helper()
			s, err := semaphore.Open(private, append(opts, semaphore.WithEngine(e))...)
			if err != nil {
				t.Errorf("%s: %v", what, err)
				return
			}
			Must(t, s.Close())
		}
		refused := func(what string, mode fs.FileMode) {
			t.Helper()
			unchanged := Unchanging(t, e, private)
			s, err := semaphore.Open(private, semaphore.WithEngine(e), semaphore.WithMode(mode))
			if err == nil {
				s.Close()
			}
			WantErr(t, what, err, fs.ErrPermission)
			if err == nil || !strings.Contains(err.Error(), private) || !strings.Contains(err.Error(), "WithMode(0666)") {
				t.Errorf("%s: %v: does not say which file is refused, and what would be allowed", what, err)
			}
			unchanged(what)
		}
		all := func(when string) {
			t.Helper()
			refused("root's Open "+when, 0o600)
			refused("root's Open for a group "+when, 0o660)
			as(third, func() { refused("a third user's Open "+when, 0o600) })
			opens("Open without create "+when, semaphore.WithCreate(false))
			opens("Open with a mode that shares "+when, semaphore.WithMode(0o666))
		}
		all("of a link")
		Must(t, semaphore.Unlink(public.Name(), semaphore.WithEngine(e)))
		all("of the only name")
		Must(t, os.Chown(path, third, third)) // it was a third user's that is shared
		as(third, func() { refused("the owner's own Open", 0o600) })

		Must(t, semaphore.Unlink(private, semaphore.WithEngine(e)))
		s := Open(t, private, e)
		AsOther(t, e).Expect("EACCES", "open /%s", private)
		Must(t, s.Wait())
	})
}

// What any user can put under the name of another kind of semaphore keeps nobody else from a
// semaphore that exists; what root, the user itself or the semaphore's owner has there does.
func TestStrangersFileOfAnotherKind(t *testing.T) {
	UseHelper("actor")
	NeedRoot(t)
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		NeedFile(t, e)
		other := semaphore.EngineFlock
		if e == other {
			other = semaphore.EngineRecoverable
		}
		NeedEngine(t, other)
		const owner, stranger = 12345, OtherUser
		old := syscall.Umask(0)
		s := Open(t, UniqueName(t), e, semaphore.WithMode(0o666))
		syscall.Umask(old)
		name := s.Name()
		another := StoreFile(other, name)
		opens := func(what string, want error, opts ...semaphore.Option) {
			t.Helper()
			s, err := semaphore.Open(name, append(opts, semaphore.WithEngine(e))...)
			if err == nil {
				s.Close()
			}
			WantErr(t, what, err, want)
		}
		for what, make := range map[string]string{
			"a file":           "touch $0",
			"a dangling link":  "ln -s $0.absent $0",
			"a directory":      "mkdir $0",
			"a pipe":           "mkfifo $0",
			"a link to a file": "ln -s /etc/passwd $0",
			"a hard link":      "ln $1 $0", // of a file of root's that all may write
		} {
			cmd := exec.Command("sh", "-c", make, another, StoreFile(e, name))
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger}}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			opens(what, nil, semaphore.WithMode(0o666))
			opens(what+", without create", nil, semaphore.WithCreate(false))
			a := AsOther(t, e)
			if what == "a file" {
				a.Expect("mismatch", "open /%s", name) // its own, so it could mean either
			} else {
				a.OK("open /%s", name)
			}
			Must(t, os.Remove(another))
		}

		existing := semaphore.WithCreate(false)
		Must(t, os.WriteFile(another, nil, 0o600))
		opens("root's own", semaphore.ErrKindMismatch, existing)
		Must(t, os.Chown(another, owner, owner))
		opens("a third user's", nil, existing)
		Must(t, os.Chown(StoreFile(e, name), owner, owner))
		opens("the owner's", semaphore.ErrKindMismatch, existing)
		Must(t, os.Chown(another, stranger, stranger))
		opens("a stranger's, beside an owner's", nil, existing)
		AsOther(t, e).Expect("mismatch", "open /%s", name)
		Must(t, os.Remove(another))
		AsOther(t, e).OK("open /%s", name)
	})
}

// Whoever starts a program that is setuid does not say where it makes files. (Who starts one
// that is not, does.)
func TestSetuidIgnoresDirectory(t *testing.T) {
	UseHelper("actor")
	NeedRoot(t)
	const variable = "SEMAPHORE_DIR"
	for _, e := range []semaphore.Engine{semaphore.EngineFlock, semaphore.EngineRecoverable} {
		if !HasEngine(e) {
			continue
		}
		t.Setenv(variable, "") // until after the cleanup of the name
		name := UniqueName(t)
		usual := StoreFile(e, name)
		dir := t.TempDir()
		t.Setenv(variable, dir)
		a := AsSetuid(t, e)
		a.OK("create /%s 1", name)
		info, err := os.Stat(usual)
		if err != nil || info.Sys().(*syscall.Stat_t).Uid != 0 {
			t.Errorf("%v: %v: the file in the usual directory", e, err)
		}
		a.OK("close")
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
			t.Errorf("%v: in the directory of the variable: %v, %v", e, entries, err)
		}

		// What the program itself says is not its user's.
		Must(t, os.Chmod(dir, 0o755))
		a.OK("dir %s", dir)
		a.OK("create /%s 1", name)
		if _, err := os.Stat(filepath.Join(dir, filepath.Base(usual))); err != nil {
			t.Errorf("%v: in the directory that WithDir names: %v", e, err)
		}
		a.OK("unlink")
		a.OK("close")

		b := StartActor(t, e.String())
		b.OK("create /%s 1", name)
		if _, err := os.Stat(StoreFile(e, name)); err != nil {
			t.Error(err)
		}
		b.OK("close")
	}
}

// A user cannot make what root then trusts: neither a semaphore of its own under the name of
// root's, nor one that it truncates under root's feet.
func TestRootTrustsWhatRootMade(t *testing.T) {
	UseHelper("actor")
	NeedRoot(t)
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		if e != semaphore.EngineFlock && !Owns(e) {
			return // libc's own rules
		}
		name := UniqueName(t)
		a := AsOther(t, e)
		a.OK("create /%s 1", name)
		unchanged := Unchanging(t, e, name)
		s, err := semaphore.Open(name, semaphore.WithEngine(e))
		if err == nil {
			s.Close()
		}
		WantErr(t, "root's Open of another user's", err, fs.ErrPermission)
		unchanged("root's Open")

		Must(t, semaphore.Unlink(name, semaphore.WithEngine(e))) // root removes whose it is
		s = Open(t, name, e, semaphore.WithMode(0o600))
		b := AsOther(t, e)
		b.Expect("EACCES", "open /%s", name)
		Must(t, s.Wait())
		a.OK("waits 1")
		a.OK("posts 1") // to its own, which has no name any more
		Becomes(t, s, 0)
		a.OK("close") // else its lock file stays, if it has one
	})
}

func TestConformanceMode(t *testing.T) {
	// A libc without timed waits is not known to have glibc's format, so its sem_open makes the
	// file, and of the mode that it is told takes what the umask says.
	libcMakesFiles := testhook.Libc.Glibc && testhook.Libc.Polls
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		NeedFile(t, e)
		for _, tt := range []struct {
			umask      int
			mode, want fs.FileMode
		}{
			{0o022, 0o666, 0o600}, {0, 0o666, 0o666}, {0o077, 0o660, 0o600},
			// Nobody gets the right to read, or to write, alone: by umask or by mode.
			{0o002, 0o666, 0o660}, {0o024, 0o666, 0o600}, {0, 0o644, 0o600}, {0o022, 0o644, 0o600}, {0, 0o622, 0o600},
		} {
			name := UniqueName(t)
			old := syscall.Umask(tt.umask)
			s, err := semaphore.Open(name, semaphore.WithEngine(e), semaphore.WithMode(tt.mode))
			syscall.Umask(old)
			Must(t, err)
			s.Close()
			info, err := os.Stat(StoreFile(e, name))
			Must(t, err)
			want := tt.want
			if libcMakesFiles && (e == semaphore.EngineAuto || e == semaphore.EngineLibc) {
				want = engine.BothOrNeither(tt.mode) &^ fs.FileMode(tt.umask)
			}
			if got := info.Mode(); got != want {
				t.Errorf("umask %#o, mode %#o: %#o, want %#o", tt.umask, tt.mode, got, want)
			}
		}
		name := UniqueName(t)
		Open(t, name, e)
		if info, err := os.Stat(StoreFile(e, name)); err != nil || info.Mode() != 0o600 {
			t.Errorf("default mode: %v, %v; want 0600", info.Mode(), err)
		}
	})
}

// A user that may only read a file could lock it, or bytes of it, and so keep others from
// opening and giving. Neither a mode nor an umask makes one that another user may only read,
// or only write.
func TestNobodyMayOnlyRead(t *testing.T) {
	UseHelper("actor")
	NeedRoot(t)
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		NeedFile(t, e)
		for _, tt := range []struct {
			umask int
			mode  fs.FileMode
			may   bool
		}{{0, 0o666, true}, {0o022, 0o666, false}, {0o044, 0o666, false}, {0, 0o644, false}, {0, 0o622, false}} {
			old := syscall.Umask(tt.umask)
			s := Open(t, UniqueName(t), e, semaphore.WithMode(tt.mode))
			syscall.Umask(old)
			for _, opens := range []string{`: <"$1"`, `: >>"$1"`} {
				cmd := exec.Command("/bin/sh", "-c", opens, "sh", StoreFile(e, s.Name()))
				cmd.Dir = "/"
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: OtherUser, Gid: OtherUser}}
				out, err := cmd.CombinedOutput()
				if (err == nil) != tt.may {
					t.Errorf("umask %#o, mode %#o: another user's %s: %v (%s); want it allowed: %v", tt.umask, uint32(tt.mode), opens, err, out, tt.may)
				}
			}
			if tt.may {
				continue
			}
			a := AsOther(t, e)
			a.Expect("EACCES", "open /%s", s.Name())
			Must(t, s.Wait())
			Must(t, s.Post())
		}
	})
}
