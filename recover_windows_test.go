// What the recoverable engine does on Windows only, and what its tests need there.

package semaphore_test

import (
	"errors"
	"fmt"
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
	files "github.com/procsem/semaphore/internal/names"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/win"
)

// systemLocks are those of a file that can be opened here.
const systemLocks = permits.RangeLocks

// In the other variant only the safety net finds the dead.
const otherVariant = "unwatched"

func vary() (restore func()) { return withoutNews() }

// deaths are the ways in which a process ends.
func deaths(t *testing.T) map[string]func(a *actor) {
	return map[string]func(a *actor){
		"TerminateProcess": func(a *actor) { must(t, a.cmd.Process.Kill()) },
		"os.Exit":          func(a *actor) { must(t, a.in.Close()) },
		"TerminateProcess while suspended": func(a *actor) {
			suspend(t, a)
			must(t, a.cmd.Process.Kill())
		},
	}
}

// lendLock finds out that there is no lock to be lent.
func lendLock(t *testing.T, s *semaphore.Semaphore) (end func()) {
	_, err := s.LockFile()
	wantErr(t, "LockFile", err, semaphore.ErrUnsupported)
	return func() {}
}

// suspend suspends a process, which stands still when that returns.
func suspend(t *testing.T, a *actor) {
	t.Helper()
	ofProcess(t, a, suspendProcess)
}

func goOn(t *testing.T, a *actor) {
	t.Helper()
	ofProcess(t, a, resumeProcess)
}

var (
	ntdll          = windows.NewLazySystemDLL("ntdll.dll")
	suspendProcess = ntdll.NewProc("NtSuspendProcess")
	resumeProcess  = ntdll.NewProc("NtResumeProcess")
)

func ofProcess(t testing.TB, a *actor, what *windows.LazyProc) {
	t.Helper()
	h, err := windows.OpenProcess(windows.PROCESS_SUSPEND_RESUME, false, uint32(a.cmd.Process.Pid))
	must(t, err)
	defer windows.CloseHandle(h)
	if status, _, _ := what.Call(uintptr(h)); status != 0 {
		t.Fatalf("%s: %#x", what.Name, status)
	}
}

// Names that are one file's where case is ignored, or none's, are several semaphores.
func TestRecoverableNames(t *testing.T) {
	t.Setenv("SEMAPHORE_DIR", tempDir(t))
	all := []string{"build", "Build", "BUILD", "a:b", "a*", "a.", "a ", "%41", "con", "\xff\xfe"}
	all = slices.DeleteFunc(all, func(name string) bool { return semaphore.CheckName(name) != nil })
	for _, name := range all {
		s := open(t, name, recoverable, semaphore.WithExclusive(true))
		must(t, s.TryWait())
	}
	listed, err := files.List()
	must(t, err)
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
		must(t, semaphore.Unlink(name))
	}

	for name, says := range map[string]string{
		`Global\x`:               "backslash",
		strings.Repeat("n", 252): "256 characters",
		strings.Repeat("N", 84):  "256 characters",
	} {
		_, err := semaphore.Open(name, semaphore.WithRecovery(true))
		wantErr(t, "Open", err, semaphore.ErrInvalidName)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: does not say %q", err, says)
		}
		wantErr(t, "Unlink", semaphore.Unlink(name, semaphore.WithEngine(recoverable)), semaphore.ErrInvalidName)
		wantErr(t, "Unlink of whatever kind", semaphore.Unlink(name), fs.ErrNotExist)
		s := open(t, name, engineWindows) // which may have such names
		must(t, s.Close())
	}
}

// Two kinds of one name exclude each other, also when they race.
func TestRecoverableBesideWindows(t *testing.T) {
	useHelper("create")
	for _, kinds := range [][2]semaphore.Engine{{engineWindows, recoverable}, {recoverable, engineWindows}} {
		name := uniqueName(t)
		s := open(t, name, kinds[0])
		for _, opts := range [][]semaphore.Option{nil, {semaphore.WithExclusive(true)}} {
			_, err := semaphore.Open(name, append(opts, semaphore.WithEngine(kinds[1]))...)
			wantErr(t, fmt.Sprint("Open as ", kinds[1]), err, semaphore.ErrKindMismatch)
		}
		must(t, s.Close())
	}
	for range 5 {
		got := race(t, uniqueName(t), false, []semaphore.Engine{engineWindows, recoverable, engineWindows, recoverable})
		if got["won"] != 2 || got["mismatch"] != 2 || got["windows"] != 0 && got["recoverable"] != 0 {
			t.Errorf("got %v, want two winners of one kind", got)
		}
	}
}

// The usual directory is made when it is needed, and no other one is.
func TestDirectoryOfWindows(t *testing.T) {
	data := tempDir(t)
	t.Setenv("ProgramData", data)
	_, err := semaphore.Open("x", semaphore.WithRecovery(true), semaphore.WithCreate(false))
	wantErr(t, "Open of an absent one", err, fs.ErrNotExist)
	if left, _ := os.ReadDir(data); len(left) > 0 {
		t.Errorf("made for nothing: %v", left)
	}
	must(t, open(t, "x", recoverable).Close())
	if _, err := os.Stat(filepath.Join(data, "semaphore", "rec.x")); err != nil {
		t.Error(err)
	}
	must(t, semaphore.Unlink("x"))

	t.Setenv("SEMAPHORE_DIR", filepath.Join(data, "absent"))
	_, err = semaphore.Open("x", semaphore.WithRecovery(true))
	wantErr(t, "Open in a directory that does not exist", err, fs.ErrNotExist)
	t.Setenv("SEMAPHORE_DIR", "relative")
	_, err = semaphore.Open("x", semaphore.WithRecovery(true))
	wantErr(t, "Open in a relative one", err, semaphore.ErrInvalidOption)
	for _, dir := range []string{`\\server\share\dir`, `\\?\UNC\server\share\dir`} {
		t.Setenv("SEMAPHORE_DIR", dir)
		_, err = semaphore.Open("x", semaphore.WithRecovery(true))
		wantErr(t, "Open in "+dir, err, semaphore.ErrUnsupported)
	}
	must(t, semaphore.CheckLocal(data))
	must(t, semaphore.CheckLocal(`\\?\`+data))
}

func TestRecoverableFilesOfWindows(t *testing.T) {
	name := uniqueName(t)
	path := storeFile(recoverable, name)
	must(t, os.MkdirAll(path, 0o700))
	_, err := semaphore.Open(name, semaphore.WithRecovery(true))
	wantErr(t, "Open of a directory", err, semaphore.ErrCorrupt)
	must(t, os.Remove(path))

	linux := make([]byte, permits.Size)
	copy(linux, permits.NewHead(1, permits.ByteLocks, 7).Bytes())
	must(t, os.WriteFile(path, linux, 0o600))
	_, err = semaphore.Open(name, semaphore.WithRecovery(true))
	wantErr(t, "Open of a file of Linux", err, semaphore.ErrUnsupported)

	if !underWine() { // where root may write to it
		must(t, os.Chmod(path, 0o400))
		_, err = semaphore.Open(name, semaphore.WithRecovery(true))
		wantErr(t, "Open of a read-only file", err, fs.ErrPermission)
		must(t, os.Chmod(path, 0o600))
	}
	must(t, semaphore.Unlink(name))
}

// A file that a program has open which shares no deletion can be removed as soon as
// that closes it.
func TestUnlinkBesideAReader(t *testing.T) {
	name := uniqueName(t)
	must(t, open(t, name, recoverable).Close())
	f, err := os.Open(storeFile(recoverable, name))
	must(t, err)
	unlinked := inBackground(func() error { return semaphore.Unlink(name) })
	select {
	case err := <-unlinked:
		t.Fatalf("not while it is open: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	must(t, f.Close())
	must(t, result(t, unlinked))
}

// openRaw opens a file, until the function that it returns is called.
func openRaw(t *testing.T, path string, share uint32) (closeIt func(), err error) {
	p, err := windows.UTF16PtrFromString(path)
	must(t, err)
	h, err := windows.CreateFile(p, windows.GENERIC_READ, share, nil, windows.OPEN_EXISTING, 0, 0)
	return func() { windows.CloseHandle(h) }, err
}

// unused makes a semaphore's file that nobody has open, or mapped.
func unused(t *testing.T, name string) {
	s, err := semaphore.Open(name, semaphore.WithRecovery(true))
	must(t, err)
	must(t, s.Close())
	waitFor(t, "the end of the handle", func() bool {
		runtime.GC()
		closeIt, err := openRaw(t, storeFile(recoverable, name), 0)
		if err == nil {
			closeIt()
		}
		return err == nil
	})
}

// Nor does such a program keep others from opening the file, or from making one.
func TestOpenBesideAReader(t *testing.T) {
	read := func(path string, share uint32) {
		closeIt, err := openRaw(t, path, share)
		must(t, err)
		time.AfterFunc(20*time.Millisecond, closeIt)
	}
	must(t, semaphore.PublishAround(tempDir(t), "x", func(temp string) {
		read(temp, windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE)
	}))
	name := uniqueName(t)
	unused(t, name)
	defer semaphore.Unlink(name)
	read(storeFile(recoverable, name), windows.FILE_SHARE_READ)
	s, err := semaphore.Open(name, semaphore.WithRecovery(true))
	must(t, err)
	must(t, s.Close())
}

// Who had opened the file when it was unlinked, and finds that out, leaves nothing.
func TestUnlinkDuringOpen(t *testing.T) {
	dir := tempDir(t)
	t.Setenv("SEMAPHORE_DIR", dir)
	unused(t, "x")
	err := semaphore.OpenAround(filepath.Join(dir, "rec.x"), func() { must(t, semaphore.Unlink("x")) })
	wantErr(t, "making a handle", err, semaphore.ErrVanished)
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// More processes than one wait can be for. Those beyond are the safety net's.
func TestManyHolders(t *testing.T) {
	defer rescuing()()
	const holders = 70
	s := open(t, uniqueName(t), recoverable, semaphore.WithValue(holders))
	var all []*actor
	for range holders {
		all = append(all, holding(t, s.Name(), 1))
	}
	for _, i := range []int{0, holders - 1, holders / 2} {
		waiting := blocked(t, s, s.Wait)
		must(t, all[i].cmd.Process.Kill())
		must(t, result(t, waiting))
	}
}

// Tokens that lie in the semaphore, for nobody or too many, wake somebody for nothing,
// and no more.
func TestTokens(t *testing.T) {
	s := open(t, uniqueName(t), recoverable)
	wake, err := semaphore.WakeName(s)
	must(t, err)
	h, err := win.OpenSemaphore(wake, win.SemaphoreAccess)
	must(t, err)
	defer windows.CloseHandle(h)
	must(t, s.Wait())
	for _, tokens := range []int32{1, 64} {
		if _, err := win.ReleaseSemaphore(h, tokens); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "WaitTimeout", s.WaitTimeout(50*time.Millisecond), semaphore.ErrTimeout)
		if n, _, err := win.QuerySemaphore(h); n > 1 || err != nil { // who leaves passes one on
			t.Errorf("%d tokens are left, %v", n, err)
		}
		for n := int32(1); n == 1; { // none
			event, err := windows.WaitForSingleObject(h, 0)
			must(t, err)
			if event == uint32(windows.WAIT_TIMEOUT) {
				n = 0
			}
		}
	}
	if _, err := win.ReleaseSemaphore(h, 64); err != nil { // as many as there is room for
		t.Fatal(err)
	}
	a := startActor(t, "recoverable")
	a.ok("open %s", s.Name())
	a.send("waits 1")
	waitFor(t, "its wait", func() bool { return waits(t, s, a) })
	must(t, s.Post())
	if got := a.answer(); got != "ok" {
		t.Error(got)
	}
}

// A copy of a file is another semaphore, whose waiters take nobody's wake-ups.
func TestCopiedFile(t *testing.T) {
	name, copied := uniqueName(t), uniqueName(t)
	s := open(t, name, recoverable)
	content, err := os.ReadFile(storeFile(recoverable, name))
	must(t, err)
	must(t, os.WriteFile(storeFile(recoverable, copied), content, 0o600))
	other := open(t, copied, recoverable)
	must(t, s.Wait())
	must(t, other.Wait())
	sleeps := blocked(t, other, other.Wait)
	for range 20 {
		waiting := blocked(t, s, s.Wait)
		waitFor(t, "a sleep", func() bool { return semaphore.Table(s).Waiters() == 1 })
		must(t, s.Post())
		must(t, result(t, waiting))
	}
	must(t, other.Post())
	must(t, result(t, sleeps))
}

// What a handle has open of the system goes with it, and the file, when it was
// unlinked, with the last one or when somebody comes by.
func TestRecoverableHandlesAreClosed(t *testing.T) {
	dir := tempDir(t)
	t.Setenv("SEMAPHORE_DIR", dir)
	const rounds = 50
	use := func() {
		a := startActor(t, "recoverable")
		for range rounds {
			s, err := semaphore.Open("x", semaphore.WithRecovery(true), semaphore.WithExclusive(true))
			must(t, err)
			a.ok("open x")
			a.ok("waits 1") // whom we watch
			wantErr(t, "WaitTimeout", s.WaitTimeout(time.Millisecond), semaphore.ErrTimeout)
			a.ok("close")
			must(t, s.SetLimit(2))
			must(t, errors.Join(s.Wait(), s.Close(), s.Unlink()))
		}
		must(t, a.cmd.Process.Kill())
		a.cmd.Wait()
		waitFor(t, "an empty directory", func() bool {
			s, err := semaphore.Open("y", semaphore.WithRecovery(true))
			must(t, err)
			must(t, errors.Join(s.Close(), s.Unlink()))
			runtime.GC()
			left, _ := filepath.Glob(filepath.Join(dir, "*"))
			return len(left) == 0
		})
	}
	use()
	const slack = rounds / 2 // the runtime's threads
	before := handleCount(t)
	use()
	waitFor(t, "as few handles as before", func() bool {
		runtime.GC()
		return handleCount(t) < before+slack
	})
}

func locksHere(testing.TB) permits.Locks { return permits.RangeLocks }

// tryLockFile is for systems that have a file for each slot.
func tryLockFile(*os.File) (bool, error) { panic("no such files") }

// Waits that are each served before the net is due do not keep it from being due.
func TestNetAmongShortWaits(t *testing.T) {
	defer withoutNews()()
	name := uniqueName(t)
	taker, giver := open(t, name, recoverable, semaphore.WithValue(2)), open(t, name, recoverable)
	a := holding(t, name, 1)
	must(t, giver.Wait())
	must(t, a.cmd.Process.Kill())
	a.cmd.Wait()
	waitFor(t, "the dead one's permit", func() bool {
		waiting := blocked(t, taker, taker.Wait)
		must(t, giver.Post())
		must(t, result(t, waiting))
		taker, giver = giver, taker
		held := 0
		for _, h := range semaphore.Table(taker).Holders() {
			held += h.Permits
		}
		return held == 1
	})
}
