//go:build unix && !aix && !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

// Files of older versions: who may replace them, and who may use what takes their place.

package recoverable_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/store"
	. "github.com/procsem/semaphore/internal/testkit"
)

// Those who could use the old file, and no others, can use the new one.
func TestOlderVersionKeepsItsMode(t *testing.T) {
	eachOlder(t, func(t *testing.T, version int) {
		for _, mode := range []fs.FileMode{0o600, 0o660, 0o606, 0o666} {
			old := syscall.Umask(0o077)
			name := UniqueName(t)
			file := MakeOlder(t, name, version, 3, mode)
			s, err := semaphore.Open(name, semaphore.WithRecovery(true), semaphore.WithMode(0o666))
			syscall.Umask(old)
			Must(t, err)
			defer s.Close()
			if info, err := os.Stat(file.Path); err != nil || info.Mode() != mode {
				t.Errorf("mode %v (%v), want %v", info.Mode(), err, mode)
			}
		}
	})
}

// A file that this caller would refuse if it were of this version stays what it is.
func TestOlderVersionThatOthersMayWrite(t *testing.T) {
	eachOlder(t, func(t *testing.T, version int) {
		name := UniqueName(t)
		old := MakeOlder(t, name, version, 3, 0o666)
		_, err := semaphore.Open(name, semaphore.WithRecovery(true))
		WantErr(t, "Open with mode 0600", err, fs.ErrPermission)
		old.Unchanged(t, "refused")
		Must(t, openExisting(name))
	})
}

// No other process may create meanwhile: if the old file's name is removed a new file could have it, and
// be replaced, though it is in use.
func TestReplacingTakesTheLockOfTheDirectory(t *testing.T) {
	eachOlder(t, func(t *testing.T, version int) {
		dir := commonDir(t, 0o700)
		old := MakeOlder(t, "x", version, 3, 0o600)
		unlock, err := store.Lock(dir)
		Must(t, err)
		patience := store.Patience
		store.Patience = time.Millisecond
		failed := map[string]error{"Open": openExisting("x")}
		t.Setenv("SEMAPHORE_DIR", t.TempDir()) // and in one that is not the usual one
		failed["SetLimit"] = theEngine(t).SetLimit("x", 4, &engine.Options{Dir: dir})
		failed["UnlinkUnused"] = theEngine(t).UnlinkUnused(dir, "x")
		store.Patience = patience
		for what, err := range failed {
			if err == nil || !strings.Contains(err.Error(), "lock of "+dir) {
				t.Errorf("%s: got %v, want it to name the lock", what, err)
			}
		}
		old.Unchanged(t, "while another process may create")
		unlock()
		t.Setenv("SEMAPHORE_DIR", dir)
		Must(t, openExisting("x"))
	})
}

// A name that another kind of semaphore has, too, is refused before anything is replaced.
func TestOlderVersionBesideAnotherKind(t *testing.T) {
	eachOlder(t, func(t *testing.T, version int) {
		name := UniqueName(t)
		Open(t, name, semaphore.EngineFlock)
		old := MakeOlder(t, name, version, 3, 0o600)
		_, err := semaphore.Open(name, semaphore.WithRecovery(true))
		WantErr(t, "Open", err, semaphore.ErrKindMismatch)
		old.Unchanged(t, "beside a flock-counter")
		Must(t, os.Remove(old.Path)) // the name is the flock-counter's
	})
}

// A file with two names would not be gone for the programs that have it open when it loses one.
func TestOlderVersionWithTwoNames(t *testing.T) {
	eachOlder(t, func(t *testing.T, version int) {
		dir := commonDir(t, 0o700)
		name := UniqueName(t)
		old := MakeOlder(t, name, version, 3, 0o600)
		second := filepath.Join(dir, "second")
		Must(t, os.Link(old.Path, second))
		_, err := semaphore.Open(name, semaphore.WithRecovery(true))
		WantErr(t, "Open", err, semaphore.ErrCorrupt)
		if err == nil || !strings.Contains(err.Error(), "2 names") {
			t.Errorf("%v: does not say what is wrong", err)
		}
		old.Unchanged(t, "with two names")
		Must(t, os.Remove(second))
		Must(t, openExisting(name))
	})
}

// Unlink removes the lock files, too.
func TestUnlinkOfAnOlderVersion(t *testing.T) {
	defer Portable()()
	dir := commonDir(t, 0o700)
	for version := 1; version < permits.Version; version++ {
		old := MakeOlder(t, "x", version, 3, 0o600)
		release := old.Hold(t, false)
		Must(t, semaphore.Unlink("x"))
		if _, err := os.Stat(old.LockFile); err != nil {
			t.Errorf("in use: %v", err)
		}
		release()
		Must(t, os.Remove(old.LockFile))
		MakeOlder(t, "x", version, 3, 0o600)
		Must(t, semaphore.Unlink("x"))
		if left, err := os.ReadDir(dir); len(left) > 0 || err != nil {
			t.Errorf("left: %v (%v)", left, err)
		}
	}
}

// A lock file that was removed does not say that a slot's owner is dead.
func TestOlderVersionWithoutALockFile(t *testing.T) {
	defer Portable()()
	name := UniqueName(t)
	old := MakeOlder(t, name, 2, 3, 0o600)
	Must(t, os.Remove(old.LockFile))
	_, err := semaphore.Open(name, semaphore.WithRecovery(true))
	WantErr(t, "Open", err, semaphore.ErrCorrupt)
	if err == nil || !strings.Contains(err.Error(), old.LockFile) {
		t.Errorf("%v: does not name %s", err, old.LockFile)
	}
	old.Unchanged(t, "without its lock file")
}

// Root gives the new file to the old one's owner, and its group.
func TestRootReplacesForTheOwner(t *testing.T) {
	UseHelper("actor")
	NeedRoot(t)
	eachOlder(t, func(t *testing.T, version int) {
		commonDir(t, 0o777|fs.ModeSticky)
		const group = 12345
		old := MakeOlder(t, "x", version, 3, 0o660)
		Must(t, os.Chown(old.Path, OtherUser, group))
		if old.LockFile != "" {
			Must(t, os.Chown(old.LockFile, OtherUser, group))
		}
		s, err := semaphore.Open("x", semaphore.WithRecovery(true), semaphore.WithCreate(false))
		Must(t, err)
		defer s.Close()
		info, err := os.Stat(old.Path)
		Must(t, err)
		st := info.Sys().(*syscall.Stat_t)
		if st.Uid != OtherUser || st.Gid != group || info.Mode() != 0o660 {
			t.Errorf("user %d, group %d, mode %v; want %d, %d, 0660", st.Uid, st.Gid, info.Mode(), OtherUser, group)
		}
		if v := VersionOf(t, "x"); v != permits.Version {
			t.Errorf("version %d", v)
		}
		a := AsMember(t, Recoverable, OtherUser, group)
		a.OK("open /x")
		a.OK("waits 1")
	})
}

// Another user replaces none, also where it could remove the file: the new one would be its own.
func TestAnotherUserReplacesNothing(t *testing.T) {
	UseHelper("actor")
	NeedRoot(t)
	eachOlder(t, func(t *testing.T, version int) {
		for _, mode := range []fs.FileMode{0o777, 0o777 | fs.ModeSticky} {
			commonDir(t, mode)
			old := MakeOlder(t, "x", version, 3, 0o666)
			a := AsOther(t, Recoverable)
			a.Expect("EACCES", "open /x")
			old.Unchanged(t, fmt.Sprintf("in a directory of mode %v", mode))
			Must(t, openExisting("x"))
			a.OK("open /x")
		}
	})
}

// Without space for a new file the old one stays.
func TestReplacingWithoutSpace(t *testing.T) {
	NeedRoot(t)
	eachOlder(t, func(t *testing.T, version int) {
		dir := SmallFilesystem(t, 64<<10)
		old := MakeOlder(t, "x", version, 3, 0o600)
		full := filepath.Join(dir, "full")
		os.WriteFile(full, make([]byte, 64<<10), 0o600) // as much as there is
		_, err := semaphore.Open("x", semaphore.WithRecovery(true))
		WantErr(t, "Open", err, syscall.ENOSPC)
		old.Unchanged(t, "without space")
		if left, _ := filepath.Glob(filepath.Join(dir, "tmp.*")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		Must(t, os.Remove(full))
		Must(t, openExisting("x"))
		if old.LockFile != "" {
			left, _ := filepath.Glob(filepath.Join(dir, "rlk.*"))
			if len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		}
	})
}
