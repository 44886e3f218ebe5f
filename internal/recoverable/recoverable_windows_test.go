// What the recoverable engine does on Windows only, and what its tests need there.

package recoverable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
	files "github.com/procsem/semaphore/internal/names"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/testhook"
	. "github.com/procsem/semaphore/internal/testkit"
	"github.com/procsem/semaphore/internal/win"
)

// systemLocks is the kind of locks of a file that Windows can open.
const systemLocks = permits.RangeLocks

// deaths returns ways to end a process.
func deaths(t *testing.T) map[string]func(a *Actor) {
	return map[string]func(a *Actor){
		"TerminateProcess": func(a *Actor) { Must(t, a.Cmd.Process.Kill()) },
		"os.Exit":          func(a *Actor) { Must(t, a.In.Close()) },
		"TerminateProcess while suspended": func(a *Actor) {
			Suspend(t, a.Cmd)
			Must(t, a.Cmd.Process.Kill())
		},
	}
}

// lendLock checks that a lock cannot be lent.
func lendLock(t *testing.T, s *semaphore.Semaphore) (end func()) {
	_, err := s.LockFile()
	WantErr(t, "LockFile", err, semaphore.ErrUnsupported)
	return func() {}
}

// Names that Windows takes for one file, as it ignores case, or for no file, are
// different semaphores.
func TestRecoverableNames(t *testing.T) {
	t.Setenv("SEMAPHORE_DIR", TempDir(t))
	all := []string{"build", "Build", "BUILD", "a:b", "a*", "a.", "a ", "%41", "con", "\xff\xfe"}
	all = slices.DeleteFunc(all, func(name string) bool { return semaphore.CheckName(name) != nil })
	for _, name := range all {
		s := Open(t, name, Recoverable, semaphore.WithExclusive(true))
		Must(t, s.TryWait())
	}
	listed, err := files.List()
	Must(t, err)
	var got []string
	for _, f := range listed {
		if f.Prefix != files.Recoverable {
			t.Errorf("listed: %+v", f)
		}
		got = append(got, f.Name)
	}
	slices.Sort(got)
	slices.Sort(all)
	if !slices.Equal(got, all) {
		t.Errorf("listed are %q, want %q", got, all)
	}
	for _, name := range all {
		Must(t, semaphore.Unlink(name))
	}

	for name, says := range map[string]string{
		`Global\x`:               "backslash",
		strings.Repeat("n", 252): "256 characters",
		strings.Repeat("N", 84):  "256 characters",
	} {
		_, err := semaphore.Open(name, semaphore.WithRecovery(true))
		WantErr(t, "Open", err, semaphore.ErrInvalidName)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: does not say %q", err, says)
		}
		WantErr(t, "Unlink", semaphore.Unlink(name, semaphore.WithEngine(Recoverable)), semaphore.ErrInvalidName)
		WantErr(t, "Unlink of whatever kind", semaphore.Unlink(name), fs.ErrNotExist)
		s := Open(t, name, semaphore.EngineWindows) // which may have such names
		Must(t, s.Close())
	}
}

// The default directory is made when it is needed; no other directory is made.
func TestDirectoryOfWindows(t *testing.T) {
	data := TempDir(t)
	t.Setenv("ProgramData", data)
	_, err := semaphore.Open("x", semaphore.WithRecovery(true), semaphore.WithCreate(false))
	WantErr(t, "Open of an absent one", err, fs.ErrNotExist)
	if left, _ := os.ReadDir(data); len(left) > 0 {
		t.Errorf("made for nothing: %v", left)
	}
	Must(t, Open(t, "x", Recoverable).Close())
	if _, err := os.Stat(filepath.Join(data, "semaphore", "rec.x")); err != nil {
		t.Error(err)
	}
	Must(t, semaphore.Unlink("x"))

	t.Setenv("SEMAPHORE_DIR", filepath.Join(data, "absent"))
	_, err = semaphore.Open("x", semaphore.WithRecovery(true))
	WantErr(t, "Open in a directory that does not exist", err, fs.ErrNotExist)
	t.Setenv("SEMAPHORE_DIR", "relative")
	_, err = semaphore.Open("x", semaphore.WithRecovery(true))
	WantErr(t, "Open in a relative one", err, semaphore.ErrInvalidOption)
	for _, dir := range []string{`\\server\share\dir`, `\\?\UNC\server\share\dir`} {
		t.Setenv("SEMAPHORE_DIR", dir)
		_, err = semaphore.Open("x", semaphore.WithRecovery(true))
		WantErr(t, "Open in "+dir, err, semaphore.ErrUnsupported)
	}
}

func TestRecoverableFilesOfWindows(t *testing.T) {
	name := UniqueName(t)
	path := StoreFile(Recoverable, name)
	Must(t, os.MkdirAll(path, 0o700))
	_, err := semaphore.Open(name, semaphore.WithRecovery(true))
	WantErr(t, "Open of a directory", err, semaphore.ErrCorrupt)
	Must(t, os.Remove(path))

	linux := make([]byte, permits.Size)
	copy(linux, permits.NewHead(name, 1, permits.ByteLocks, 7).Bytes())
	Must(t, os.WriteFile(path, linux, 0o600))
	_, err = semaphore.Open(name, semaphore.WithRecovery(true))
	WantErr(t, "Open of a file of Linux", err, semaphore.ErrUnsupported)

	if !UnderWine() { // where root may write to it
		Must(t, os.Chmod(path, 0o400))
		_, err = semaphore.Open(name, semaphore.WithRecovery(true))
		WantErr(t, "Open of a read-only file", err, fs.ErrPermission)
		Must(t, os.Chmod(path, 0o600))
	}
	Must(t, semaphore.Unlink(name))
}

// A file that others may write may have been put under its name by any of them.
func TestFileThatOthersMayWrite(t *testing.T) {
	for _, tt := range []struct {
		mode    fs.FileMode
		refused bool
	}{{0o600, false}, {0o644, false}, {0o666, true}} {
		name := UniqueName(t)
		Must(t, Open(t, name, Recoverable, semaphore.WithMode(tt.mode)).Close())
		if UnderWine() { // which takes the umask of Unix off a new file's access list
			sa, err := win.SecurityOf(tt.mode)
			Must(t, err)
			list, _, err := sa.SecurityDescriptor.DACL()
			Must(t, err)
			Must(t, windows.SetNamedSecurityInfo(StoreFile(Recoverable, name), windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION, nil, nil, list, nil))
		}
		s, err := semaphore.Open(name, semaphore.WithRecovery(true))
		if err == nil {
			s.Close()
		}
		var exposed *engine.Exposed
		if errors.As(err, &exposed) != tt.refused || errors.Is(err, fs.ErrPermission) != tt.refused {
			t.Errorf("mode %#o: %v; to be refused: %v", tt.mode, err, tt.refused)
		}
		if tt.refused && (exposed == nil || exposed.Mode&0o002 == 0) {
			t.Errorf("mode %#o: %v: does not say that everybody may write it", tt.mode, err)
		}
		Must(t, Open(t, name, Recoverable, semaphore.WithCreate(false)).Close())
		Must(t, Open(t, name, Recoverable, semaphore.WithMode(0o666)).Close())
	}
}

// While a program has the file open without FILE_SHARE_DELETE, Unlink waits until the
// program closes it.
func TestUnlinkBesideAReader(t *testing.T) {
	name := UniqueName(t)
	Must(t, Open(t, name, Recoverable).Close())
	f, err := os.Open(StoreFile(Recoverable, name))
	Must(t, err)
	unlinked := InBackground(func() error { return semaphore.Unlink(name) })
	select {
	case err := <-unlinked:
		t.Fatalf("not while it is open: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	Must(t, f.Close())
	Must(t, Result(t, unlinked))
}

// More processes than one wait can watch. The safety net finds exits of the others.
func TestManyHolders(t *testing.T) {
	defer Rescuing()()
	const holders = 70
	s := Open(t, UniqueName(t), Recoverable, semaphore.WithValue(holders))
	var all []*Actor
	for range holders {
		all = append(all, Holding(t, s.Name(), 1))
	}
	for _, i := range []int{0, holders - 1, holders / 2} {
		waiting := Blocked(t, s, s.Wait)
		Must(t, all[i].Cmd.Process.Kill())
		Must(t, Result(t, waiting))
	}
}

// A copy of a file is another semaphore, whose waiters take none of the wake-ups of the
// first.
func TestCopiedFile(t *testing.T) {
	name, copied := UniqueName(t), UniqueName(t)
	s := Open(t, name, Recoverable)
	content, err := os.ReadFile(StoreFile(Recoverable, name))
	Must(t, err)
	const nameAt, nameSize = 320, 256 // or it would be refused
	copy(content[nameAt:nameAt+nameSize], append([]byte(copied), make([]byte, nameSize-len(copied))...))
	Must(t, os.WriteFile(StoreFile(Recoverable, copied), content, 0o600))
	other := Open(t, copied, Recoverable)
	Must(t, s.Wait())
	Must(t, other.Wait())
	sleeps := Blocked(t, other, other.Wait)
	for range 20 {
		waiting := Blocked(t, s, s.Wait)
		WaitFor(t, "a sleep", func() bool { return Table(s).Waiters() == 1 })
		Must(t, s.Post())
		Must(t, Result(t, waiting))
	}
	Must(t, other.Post())
	Must(t, Result(t, sleeps))
}

// Close closes all that a handle has open in the system. A file that was unlinked is
// removed with the last handle, or by a later creation or Unlink.
func TestRecoverableHandlesAreClosed(t *testing.T) {
	dir := TempDir(t)
	t.Setenv("SEMAPHORE_DIR", dir)
	const rounds = 50
	use := func() {
		a := StartActor(t, "recoverable")
		for range rounds {
			s, err := semaphore.Open("x", semaphore.WithRecovery(true), semaphore.WithExclusive(true))
			Must(t, err)
			a.OK("open x")
			a.OK("waits 1") // so that we watch it
			WantErr(t, "WaitTimeout", s.WaitTimeout(time.Millisecond), semaphore.ErrTimeout)
			a.OK("close")
			Must(t, s.SetLimit(2))
			Must(t, errors.Join(s.Wait(), s.Close(), s.Unlink()))
		}
		Must(t, a.Cmd.Process.Kill())
		a.Cmd.Wait()
		WaitFor(t, "an empty directory", func() bool {
			s, err := semaphore.Open("y", semaphore.WithRecovery(true))
			Must(t, err)
			Must(t, errors.Join(s.Close(), s.Unlink()))
			runtime.GC()
			left, _ := filepath.Glob(filepath.Join(dir, "*"))
			return len(left) == 0
		})
	}
	use()
	const slack = rounds / 2 // the runtime's threads
	before := HandleCount(t)
	use()
	WaitFor(t, "as few handles as before", func() bool {
		runtime.GC()
		return HandleCount(t) < before+slack
	})
}

func locksHere(testing.TB) permits.Locks { return permits.RangeLocks }

// tryLockFile is for systems that have a file for each slot.
func tryLockFile(*os.File) (bool, error) { panic("no such files") }

// Waits that are each served before the net is due do not keep it from being due.
func TestNetAmongShortWaits(t *testing.T) {
	defer WithoutReports()()
	name := UniqueName(t)
	taker, giver := Open(t, name, Recoverable, semaphore.WithValue(2)), Open(t, name, Recoverable)
	a := Holding(t, name, 1)
	Must(t, giver.Wait())
	Must(t, a.Cmd.Process.Kill())
	a.Cmd.Wait()
	WaitFor(t, "the dead holder's permit", func() bool {
		waiting := InBackground(taker.Wait)
		// Not Blocked: the net may have been due just before, and then there is a permit at once.
		WaitFor(t, "a wait, or its end", func() bool { return testhook.Inspect(taker).Waiting > 0 || len(waiting) > 0 })
		Must(t, giver.Post())
		Must(t, Result(t, waiting))
		taker, giver = giver, taker
		held := 0
		for _, h := range Table(taker).Holders() {
			held += h.Permits
		}
		return held == 1
	})
}
