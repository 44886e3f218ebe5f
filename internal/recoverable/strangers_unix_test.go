//go:build unix && !aix && !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

// Lock files that another user has put there, or somebody has replaced.

package recoverable_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/recoverable"
	"github.com/procsem/semaphore/internal/testhook"
	. "github.com/procsem/semaphore/internal/testkit"
)

// commonDir makes a directory that all users may write, with the sticky bit or without, the
// one for semaphores.
func commonDir(t *testing.T, mode fs.FileMode) string {
	t.Helper()
	dir := filepath.Join(os.TempDir(), UniqueName(t))
	Must(t, os.Mkdir(dir, 0o700))
	t.Cleanup(func() { os.RemoveAll(dir) })
	Must(t, os.Chmod(dir, mode))
	t.Setenv("SEMAPHORE_DIR", dir)
	return dir
}

// lockFiles returns the lock files of a directory's only semaphore, which has a handle
// with slot 0, as a pattern for the slot.
func lockFiles(t *testing.T, dir string) (pattern string) {
	t.Helper()
	own, err := filepath.Glob(filepath.Join(dir, "rlk.*.0"))
	Must(t, err)
	if len(own) != 1 {
		t.Fatalf("lock files of slot 0: %v", own)
	}
	return strings.TrimSuffix(own[0], "0") + "%d"
}

// asStranger runs a shell script as another user, with $0.
func asStranger(t *testing.T, script, arg string) {
	t.Helper()
	cmd := exec.Command("sh", "-e", "-c", script, arg)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: OtherUser, Gid: OtherUser}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
}

func wantStranger(t *testing.T, what string, err error, path string) {
	t.Helper()
	WantErr(t, what, err, fs.ErrPermission)
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), fmt.Sprint("user ", OtherUser)) || !strings.Contains(err.Error(), "root") {
		t.Errorf("%s: %v: does not say which file, whose, and whose is allowed", what, err)
	}
}

// In a sticky directory another user makes lock files before handles need them. It could
// replace such a file by one that is not locked, and the holder would seem dead.
func TestStrangersLockFile(t *testing.T) {
	NeedRoot(t)
	defer Portable()()
	dir := commonDir(t, 0o777|fs.ModeSticky)
	s := Open(t, "x", Recoverable)
	slot := lockFiles(t, dir)
	path := fmt.Sprintf(slot, 1)
	const make, replace = "umask 0; : > $0", "rm $0; umask 0; : > $0"
	asStranger(t, make, path)
	second := Open(t, "x", Recoverable)
	Must(t, second.Wait())
	asStranger(t, replace, path)
	Becomes(t, s, 0)
	WantErr(t, "TryWait beside a holder", s.TryWait(), semaphore.ErrWouldBlock)
	Must(t, second.Post())
	Must(t, second.Close())

	// All that a claimer tries: no handle can be opened, and nothing is left behind.
	for n := 2; n < 32; n++ {
		asStranger(t, make, fmt.Sprintf(slot, n))
	}
	for _, mode := range []fs.FileMode{0o666, 0o600} {
		for n := 1; n < 32; n++ {
			Must(t, os.Chmod(fmt.Sprintf(slot, n), mode))
		}
		unchanged := Unchanging(t, Recoverable, "x")
		_, err := semaphore.Open("x", semaphore.WithRecovery(true))
		wantStranger(t, fmt.Sprintf("Open beside lock files of mode %#o", mode), err, strings.TrimSuffix(slot, "%d"))
		unchanged("Open")
	}
	Must(t, s.Wait()) // whoever is in is not disturbed
	Must(t, s.Post())
}

// In a directory without the sticky bit another user replaces a holder's lock file, by what
// it likes.
func TestLockFileReplacedByAStranger(t *testing.T) {
	NeedRoot(t)
	defer Portable()()
	for what, replace := range map[string]string{
		"a file":           "rm -f $0; umask 0; : > $0",
		"a file of mode 0": "rm -f $0; umask 777; : > $0",
	} {
		t.Run(what, func(t *testing.T) {
			dir := commonDir(t, 0o777)
			s := Open(t, "x", Recoverable)
			slot := lockFiles(t, dir)
			second := Open(t, "x", Recoverable)
			Must(t, second.Wait())
			asStranger(t, replace, fmt.Sprintf(slot, 1))
			wantStranger(t, "TryWait beside a holder", s.TryWait(), fmt.Sprintf(slot, 1))
			_, err := s.Value()
			wantStranger(t, "Value", err, fmt.Sprintf(slot, 1))
		})
	}
}

// If the lock file of a living holder is gone nobody gets its slot, also where exits are not
// reported.
func TestRemovedLockFile(t *testing.T) {
	defer Portable()()
	testhook.NoRobustList.Store(true)
	defer testhook.NoRobustList.Store(false)
	dir := commonDir(t, 0o700)
	s := Open(t, "x", Recoverable)
	Must(t, s.Wait())
	Must(t, os.Remove(fmt.Sprintf(lockFiles(t, dir), 0)))
	second, err := semaphore.Open("x", semaphore.WithRecovery(true))
	WantErr(t, "Open", err, semaphore.ErrCorrupt)
	if err == nil {
		WantErr(t, "TryWait beside a holder", second.TryWait(), semaphore.ErrWouldBlock)
		second.Close()
	}
	Must(t, s.Post())
}

// What is no regular file tells nothing, whoever has put it in a lock file's place. A pipe
// can be locked, and opening it must not block.
func TestLockFileReplacedByNoFile(t *testing.T) {
	defer Portable()()
	for what, put := range map[string]func(path string) error{
		"a pipe":      func(path string) error { return exec.Command("mkfifo", path).Run() },
		"a link":      func(path string) error { return os.Symlink("/dev/null", path) },
		"a directory": func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		t.Run(what, func(t *testing.T) {
			dir := commonDir(t, 0o700)
			s := Open(t, "x", Recoverable)
			path := fmt.Sprintf(lockFiles(t, dir), 1)
			second := Open(t, "x", Recoverable)
			Must(t, second.Wait())
			Must(t, os.Remove(path))
			Must(t, put(path))
			err := s.TryWait()
			WantErr(t, "TryWait beside a holder", err, semaphore.ErrCorrupt)
			if err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("%v: does not name the file", err)
			}
			Must(t, second.Post())
			Must(t, second.Close())
			Must(t, Open(t, "x", Recoverable).Close()) // another slot
		})
	}
}

// A file with several names could be the lock of two slots, and the dead of one would seem
// alive.
func TestLockFileWithSeveralNames(t *testing.T) {
	defer Portable()()
	dir := commonDir(t, 0o700)
	s := Open(t, "x", Recoverable)
	slot := lockFiles(t, dir)
	other := filepath.Join(dir, "other")
	f, err := os.OpenFile(other, os.O_RDWR|os.O_CREATE, 0o600)
	Must(t, err)
	defer f.Close()
	path := fmt.Sprintf(slot, 1)
	Must(t, os.Link(other, path))
	second := Open(t, "x", Recoverable)
	// What has the other name is locked, and the handle's slot is not concerned.
	if locked, err := tryLockFile(f); !locked {
		t.Errorf("a handle has locked the file of another name: %v", err)
	}
	Must(t, second.Wait())
	Becomes(t, s, 0)
	if _, err := os.Stat(fmt.Sprintf(slot, 2)); err != nil {
		t.Errorf("not the next slot: %v", err)
	}
}

// moveThere has another user move a file of root's, from a directory that the user may write, to
// a lock file's name. It returns the file, open.
func moveThere(t *testing.T, dir, path string) *os.File {
	t.Helper()
	home := filepath.Join(dir, "home")
	Must(t, os.Mkdir(home, 0o700))
	Must(t, os.Chown(home, OtherUser, OtherUser))
	moved, err := os.OpenFile(filepath.Join(home, "file"), os.O_RDWR|os.O_CREATE, 0o600)
	Must(t, err)
	t.Cleanup(func() { moved.Close() })
	asStranger(t, "mv "+moved.Name()+" $0", path)
	return moved
}

// A private file that another user has moved to a lock file's name is not given to those who
// share the semaphore.
func TestMovedFileStaysPrivate(t *testing.T) {
	NeedRoot(t)
	defer Portable()()
	for _, tt := range []struct {
		mode  fs.FileMode
		owner int
		opt   semaphore.Option
	}{
		{0o666, 0, semaphore.WithMode(0o666)},
		{0o666, OtherUser, semaphore.WithMode(0o666)},
		{0o600, OtherUser, semaphore.WithCreate(false)},
	} {
		t.Run(fmt.Sprintf("%#o of user %d", tt.mode, tt.owner), func(t *testing.T) {
			dir := commonDir(t, 0o777|fs.ModeSticky)
			old := syscall.Umask(0)
			Open(t, "x", Recoverable, semaphore.WithMode(tt.mode))
			syscall.Umask(old)
			Must(t, os.Chown(StoreFile(Recoverable, "x"), tt.owner, tt.owner))
			path := fmt.Sprintf(lockFiles(t, dir), 1)
			moved := moveThere(t, dir, path)
			second := Open(t, "x", Recoverable, tt.opt)
			info, err := moved.Stat()
			Must(t, err)
			if st := info.Sys().(*syscall.Stat_t); st.Uid != 0 || st.Gid != 0 || info.Mode() != 0o600 {
				t.Errorf("the private file has user %d, group %d, mode %v", st.Uid, st.Gid, info.Mode())
			}
			s := Open(t, "x", Recoverable, tt.opt)
			Must(t, second.Wait())
			Becomes(t, s, 0)
			WantErr(t, "TryWait beside a holder", s.TryWait(), semaphore.ErrWouldBlock)
			Must(t, second.Close())
			Becomes(t, s, 1)
		})
	}
}

// Who has moved a file to a lock file's name, and has it open, cannot make a dead holder seem
// alive by it.
func TestMovedFileLocksNoSlot(t *testing.T) {
	UseHelper("actor")
	NeedRoot(t)
	defer Portable()()
	dir := commonDir(t, 0o777|fs.ModeSticky)
	s := Open(t, "x", Recoverable)
	moved := moveThere(t, dir, fmt.Sprintf(lockFiles(t, dir), 1))
	holder := AsMember(t, Recoverable, 0, 0)
	holder.OK("open /x")
	holder.OK("waits 1")
	Becomes(t, s, 0)
	if locked, err := tryLockFile(moved); !locked {
		t.Fatalf("the file that was moved: %v, %v", locked, err)
	}
	Must(t, holder.Cmd.Process.Kill())
	holder.Cmd.Wait()
	Becomes(t, s, 1)
}

// Members of a group share a semaphore of mode 0660, whatever their own groups are, also
// beside lock files that strangers have made; and root uses what is another user's.
func TestLockFilesOfAGroup(t *testing.T) {
	UseHelper("actor")
	NeedRoot(t)
	defer Portable()()
	const group, first, second = 23456, 12345, 12346
	dir := commonDir(t, 0o777|fs.ModeSticky)
	old := syscall.Umask(0)
	made := Open(t, "x", Recoverable, semaphore.WithMode(0o660))
	syscall.Umask(old)
	Must(t, made.Close())
	Must(t, os.Chown(StoreFile(Recoverable, "x"), first, group))
	s := Open(t, "x", Recoverable, semaphore.WithCreate(false))
	asStranger(t, "umask 0; : > $0", fmt.Sprintf(lockFiles(t, dir), 1))

	a, b := AsMember(t, Recoverable, first, group), AsMember(t, Recoverable, second, group)
	b.OK("open /x") // before the owner, so that its file is one of a member
	a.OK("open /x")
	for _, holder := range []*Actor{b, a} {
		holder.OK("waits 1")
		Becomes(t, s, 0)
		for _, other := range []*Actor{a, b} {
			other.Expect("EAGAIN", "trywait")
		}
		WantErr(t, "TryWait of root", s.TryWait(), semaphore.ErrWouldBlock)
		holder.OK("posts 1")
	}
	Must(t, s.Wait())
	a.Expect("EAGAIN", "trywait") // sees that root lives
	Must(t, s.Post())
	b.OK("waits 1")
	Must(t, b.Cmd.Process.Kill())
	b.Cmd.Wait()
	a.OK("waits 1") // sees that the member is dead
	a.OK("posts 1")
	AsOther(t, Recoverable).Expect("EACCES", "open /x")
}

// Trusted are the owners of lock files who may write the semaphore's file.
func TestWhoseLockFilesAreTrusted(t *testing.T) {
	const root, owner, member, stranger, group, others = 0, 1001, 1002, 1003, 50, 60
	type who struct{ uid, gid uint32 }
	all := []who{{root, others}, {owner, others}, {member, group}, {member, others}, {stranger, others}}
	for _, tt := range []struct {
		mode    fs.FileMode
		byGroup bool
		want    []bool
	}{
		{0o600, false, []bool{true, true, false, false, false}},
		{0o644, false, []bool{true, true, false, false, false}},
		{0o660, false, []bool{true, true, false, false, false}},
		{0o660, true, []bool{true, true, true, false, false}},
		{0o664, true, []bool{true, true, true, false, false}},
		{0o666, true, []bool{true, true, true, true, true}},
		{0o666, false, []bool{true, true, true, true, true}},
	} {
		var got []bool
		for _, w := range all {
			got = append(got, recoverable.TrustsLockFile(owner, group, tt.mode, tt.byGroup, w.uid, w.gid))
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("mode %#o, by group %v: %v, want %v, of %v", tt.mode, tt.byGroup, got, tt.want, all)
		}
	}
}

// A file's group says that a member has made it, unless the directory may have given it.
func TestGroupOfLockFiles(t *testing.T) {
	dir := t.TempDir()
	f, err := os.CreateTemp(dir, "")
	Must(t, err)
	defer f.Close()
	info, err := f.Stat()
	Must(t, err)
	Must(t, os.Chown(dir, -1, int(info.Sys().(*syscall.Stat_t).Gid)))
	for _, tt := range []struct {
		dir, file fs.FileMode
		want      bool
	}{
		{0o777, 0o600, false},
		{0o777, 0o660, false},
		{0o777 | fs.ModeSticky, 0o660, false},
		{0o770, 0o660, true},
		{0o775, 0o660, true},
		{0o775, 0o600, false},
	} {
		Must(t, os.Chmod(dir, tt.dir))
		Must(t, f.Chmod(tt.file))
		if got, err := recoverable.GroupTells(f, dir); got != tt.want || err != nil {
			t.Errorf("directory %v, file %v, one group: %v, %v, want %v", tt.dir, tt.file, got, err, tt.want)
		}
	}
	if os.Geteuid() == 0 {
		Must(t, os.Chmod(dir, 0o777))
		Must(t, f.Chmod(0o660))
		Must(t, os.Chown(f.Name(), -1, 23456))
		if got, err := recoverable.GroupTells(f, dir); !got || err != nil {
			t.Errorf("two groups: %v, %v", got, err)
		}
	}
}
