//go:build !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package recoverable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/recoverable"
	"github.com/procsem/semaphore/internal/store"
	. "github.com/procsem/semaphore/internal/testkit"
)

// locksBeside returns the lock files that there are beside a semaphore.
func locksBeside(t *testing.T, name string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(filepath.Dir(StoreFile(Recoverable, name)), "rlk.*"))
	Must(t, err)
	return all
}

// aDirectory makes SEMAPHORE_DIR one in which there is nothing else.
func aDirectory(t *testing.T) {
	t.Helper()
	t.Setenv("SEMAPHORE_DIR", t.TempDir())
}

// If somebody has removed the lock file of an owner, and whether that lives is not known, another one
// that lives is seen all the same.
func TestUnlinkUnusedWithoutALockFile(t *testing.T) {
	defer Portable()()
	aDirectory(t)
	name := UniqueName(t)
	first := Open(t, name, Recoverable)
	lost := locksBeside(t, name)
	second := Open(t, name, Recoverable)
	for _, file := range lost {
		Must(t, os.Remove(file))
	}
	var in *engine.InUse
	if err := unlinkUnused(name); !errors.As(err, &in) {
		t.Errorf("got %v, want that it is in use", err)
	}
	Must(t, second.Close())
	WantErr(t, "where the only owner cannot be seen", unlinkUnused(name), semaphore.ErrCorrupt)
	if _, err := os.Stat(StoreFile(Recoverable, name)); err != nil {
		t.Error(err)
	}
	first.Close()
}

// With the name go the lock files of dead owners, but none of another semaphore, whose number anybody may write
// into a file of his own.
func TestUnlinkUnusedRemovesItsLockFiles(t *testing.T) {
	UseHelper("actor")
	defer Portable()()
	aDirectory(t)
	name, crafted := UniqueName(t), UniqueName(t)
	s := Open(t, name, Recoverable, semaphore.WithValue(3))
	own := locksBeside(t, name)
	other := Open(t, crafted, Recoverable)
	Must(t, other.Close())
	number := make([]byte, 8)
	f, err := os.OpenFile(StoreFile(Recoverable, name), os.O_RDWR, 0)
	Must(t, err)
	defer f.Close()
	g, err := os.OpenFile(StoreFile(Recoverable, crafted), os.O_RDWR, 0)
	Must(t, err)
	defer g.Close()
	const numberAt = 16
	if _, err := f.ReadAt(number, numberAt); err != nil {
		t.Fatal(err)
	}
	if _, err := g.WriteAt(number, numberAt); err != nil {
		t.Fatal(err)
	}
	Must(t, unlinkUnused(crafted))
	if left := locksBeside(t, name); !slices.Equal(left, own) {
		t.Errorf("of %v, which is locked, %v is left", own, left)
	}
	Must(t, s.Close())

	a := Holding(t, name, 1)
	Must(t, a.Cmd.Process.Kill())
	a.Cmd.Wait()
	if len(locksBeside(t, name)) != 1 {
		t.Fatalf("the dead holder has left %v", locksBeside(t, name))
	}
	Must(t, unlinkUnused(name))
	if left := locksBeside(t, name); len(left) != 0 {
		t.Errorf("left is %v", left)
	}
}

// The number of its names does not tell that a file has lost the one by which it was opened.
func TestNameLostBesideAnotherOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "name")
	Must(t, os.WriteFile(path, nil, 0o600))
	f, err := store.OpenRegular(path)
	Must(t, err)
	defer f.Close()
	Must(t, os.Link(path, path+".other"))
	for _, want := range []bool{false, true} {
		if lost, err := recoverable.HasLostName(f, path); lost != want || err != nil {
			t.Errorf("lost %v, %v, want %v", lost, err, want)
		}
		if err := os.Remove(path); !want && err != nil || want && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
}

// A removal does not wait for long for the lock of somebody who is opening the semaphore, and stopped: nobody can
// create one meanwhile.
func TestUnlinkUnusedAgainstAClaim(t *testing.T) {
	if !HasByteLocks() {
		t.Skip("not on this system: open-file-description locks")
	}
	name := UniqueName(t)
	s := Open(t, name, Recoverable)
	Must(t, s.Close())
	f, err := os.OpenFile(StoreFile(Recoverable, name), os.O_RDWR, 0)
	Must(t, err)
	defer f.Close()
	if locked, err := filelock.TryLockByte(f, permits.ClaimByte); !locked {
		t.Fatal(err)
	}
	store.Patience *= 100 // for that would be too long for this test
	defer func() { store.Patience /= 100 }()
	var in *engine.InUse
	if err := unlinkUnused(name); !errors.As(err, &in) {
		t.Errorf("got %v, want that it is in use", err)
	}
	f.Close()
	Must(t, unlinkUnused(name))
}
