// White-box tests of the recoverable engine's files on Windows.

package recoverable_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/recoverable"
	"github.com/procsem/semaphore/internal/store"
	"github.com/procsem/semaphore/internal/testhook"
	. "github.com/procsem/semaphore/internal/testkit"
)

// openRaw opens a file, until the function that it returns is called.
func openRaw(t *testing.T, path string, share uint32) (closeIt func(), err error) {
	p, err := windows.UTF16PtrFromString(path)
	Must(t, err)
	h, err := windows.CreateFile(p, windows.GENERIC_READ, share, nil, windows.OPEN_EXISTING, 0, 0)
	return func() { windows.CloseHandle(h) }, err
}

// unused makes a semaphore's file that no process has open, or mapped.
func unused(t *testing.T, name string) {
	s, err := semaphore.Open(name, semaphore.WithRecovery(true))
	Must(t, err)
	Must(t, s.Close())
	WaitFor(t, "the end of the handle", func() bool {
		runtime.GC()
		closeIt, err := openRaw(t, StoreFile(Recoverable, name), 0)
		if err == nil {
			closeIt()
		}
		return err == nil
	})
}

// A program that has the file open does not keep other processes from opening the file,
// or from making one.
func TestOpenBesideAReader(t *testing.T) {
	read := func(path string, share uint32) {
		closeIt, err := openRaw(t, path, share)
		Must(t, err)
		time.AfterFunc(20*time.Millisecond, closeIt)
	}
	fill := func(f *os.File) error {
		read(f.Name(), windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE)
		return nil
	}
	f, _, err := store.OpenOrPublish(TempDir(t), "x", engine.CreateNew, nil, fill, &engine.Options{Mode: 0o600})
	Must(t, err)
	Must(t, f.Close())
	name := UniqueName(t)
	unused(t, name)
	defer semaphore.Unlink(name)
	read(StoreFile(Recoverable, name), windows.FILE_SHARE_READ)
	s, err := semaphore.Open(name, semaphore.WithRecovery(true))
	Must(t, err)
	Must(t, s.Close())
}

// Open finds out that the file which it has opened was unlinked meanwhile, and leaves
// nothing behind.
func TestUnlinkDuringOpen(t *testing.T) {
	dir := TempDir(t)
	t.Setenv("SEMAPHORE_DIR", dir)
	unused(t, "x")
	err := recoverable.OpenAround(filepath.Join(dir, "rec.x"), func() { Must(t, semaphore.Unlink("x")) })
	WantErr(t, "making a handle", err, recoverable.ErrVanished)
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// A file's name has gone to another file while it was opened.
func TestReplacedDuringOpen(t *testing.T) {
	dir := TempDir(t)
	t.Setenv("SEMAPHORE_DIR", dir)
	unused(t, "x")
	err := recoverable.OpenAround(filepath.Join(dir, "rec.x"), func() {
		Must(t, semaphore.Unlink("x"))
		unused(t, "x")
	})
	WantErr(t, "making a handle", err, recoverable.ErrVanished)
	Must(t, Open(t, "x", Recoverable).Close())
}

// A filesystem is not believed: where the lock, or the memory, of one handle is not seen
// through another one of the same name, here because the second one is of a copy, Open
// refuses.
func TestHandlesThatDoNotSeeEachOther(t *testing.T) {
	dir := TempDir(t)
	t.Setenv("SEMAPHORE_DIR", dir)
	s := Open(t, "x", Recoverable)
	backend := testhook.Inspect(s).Backend
	open := func(path string) *os.File {
		f, err := store.OpenRegular(path)
		Must(t, err)
		t.Cleanup(func() { f.Close() })
		return f
	}
	wantUnseen := func(err error, what string) {
		t.Helper()
		WantErr(t, "unseen "+what, err, semaphore.ErrUnsupported)
		if err == nil || !strings.Contains(err.Error(), what) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%v: does not say what is wrong in which directory", err)
		}
	}
	lock := func(f *os.File, at int64) {
		t.Helper()
		if locked, err := filelock.TryLockByte(f, at); !locked {
			t.Fatal(err)
		}
	}

	same := open(StoreFile(Recoverable, "x"))
	slot, claim, seen := recoverable.SeenThrough(backend, same)
	wantUnseen(claim, "the locks") // for nobody has it
	Must(t, seen)
	lock(same, permits.ClaimByte)
	_, claim, seen = recoverable.SeenThrough(backend, same)
	Must(t, errors.Join(claim, seen))
	Must(t, filelock.UnlockByte(same, permits.ClaimByte))

	copied := filepath.Join(dir, "copy")
	head := make([]byte, 4096)
	_, err := same.ReadAt(head, 0)
	Must(t, err)
	Must(t, os.WriteFile(copied, append(head, make([]byte, permits.Size-len(head))...), 0o600))
	second := open(copied)
	lock(second, permits.ClaimByte)
	_, claim, seen = recoverable.SeenThrough(backend, second)
	wantUnseen(claim, "the locks")
	wantUnseen(seen, "the locks")
	lock(open(copied), permits.SlotByte+int64(slot))
	_, _, seen = recoverable.SeenThrough(backend, second)
	wantUnseen(seen, "the memory")
}

// A call that is for no waiter wakes a waiter for nothing, and does no other harm.
func TestNeedlessCalls(t *testing.T) {
	s := Open(t, UniqueName(t), Recoverable)
	backend := testhook.Inspect(s).Backend.(permits.Host)
	Must(t, s.Wait())
	for range 10 {
		if !backend.Wake(0, nil) {
			t.Fatal("no event of the slot")
		}
		WantErr(t, "WaitTimeout", s.WaitTimeout(5*time.Millisecond), semaphore.ErrTimeout)
	}
	if backend.Wake(1, nil) {
		t.Error("a slot that nobody has has an event")
	}
	a := StartActor(t, "recoverable")
	a.OK("open %s", s.Name())
	a.Send("waits 1")
	WaitFor(t, "its wait", func() bool { return Waits(t, s, a) })
	for range 10 {
		if !backend.Wake(1, nil) {
			t.Error("no event of the waiter's slot")
		}
	}
	Must(t, s.Post())
	if got := a.Answer(); got != "ok" {
		t.Error(got)
	}
}
