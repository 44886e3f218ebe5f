//go:build !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package store_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/names"
	"github.com/procsem/semaphore/internal/store"
	. "github.com/procsem/semaphore/internal/testkit"
)

// fileEngines are those whose files are where SEMAPHORE_DIR says.
var fileEngines = []semaphore.Engine{semaphore.EngineFlock, semaphore.EngineRecoverable}

// A directory and its mount by FUSE do not see each other's locks.
func TestRefusesFUSE(t *testing.T) {
	source, mount := Bindfs(t)
	for _, e := range fileEngines {
		NeedEngine(t, e)
	}
	t.Setenv("SEMAPHORE_DIR", mount)
	for _, e := range fileEngines {
		_, err := semaphore.Open("x", semaphore.WithEngine(e))
		WantErr(t, "Open", err, semaphore.ErrUnsupported)
		if err == nil || !strings.Contains(err.Error(), mount) || !strings.Contains(err.Error(), "FUSE") {
			t.Errorf("%v: %v: names neither directory nor filesystem", e, err)
		}
	}
	if entries, _ := os.ReadDir(source); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

// believed makes the package take FUSE for local, until the test ends.
func believed(t *testing.T) {
	delete(store.NetworkTypes, unix.FUSE_SUPER_MAGIC)
	t.Cleanup(func() { store.NetworkTypes[unix.FUSE_SUPER_MAGIC] = "FUSE" })
}

// Whoever makes a file has its locks and its memory in common with those who open it, also
// where it was made under another name, and the kernel takes that for another file.
func TestCreatorIsWithinTheLimit(t *testing.T) {
	NeedRoot(t)
	for _, e := range fileEngines {
		t.Run(e.String(), func(t *testing.T) {
			if e == Recoverable {
				NeedEngine(t, e)
				EachVariant(t, func(t *testing.T) { creatorIsWithinTheLimit(t, e) })
				return
			}
			creatorIsWithinTheLimit(t, e)
		})
	}
}

func creatorIsWithinTheLimit(t *testing.T, e semaphore.Engine) {
	_, mount := Bindfs(t)
	t.Setenv("SEMAPHORE_DIR", mount)
	believed(t)
	for _, exclusive := range []bool{false, true} {
		name := fmt.Sprint("exclusive-", exclusive)
		creator := Open(t, name, e, semaphore.WithExclusive(exclusive))
		second := Open(t, name, e)
		Must(t, creator.TryWait())
		WantErr(t, "TryWait of the second handle", second.TryWait(), semaphore.ErrWouldBlock)
		waiting := Blocked(t, second, second.Wait)
		Must(t, creator.Post())
		Must(t, Result(t, waiting))
		WantErr(t, "TryWait of the creator", creator.TryWait(), semaphore.ErrWouldBlock)
	}
}

// A filesystem is not believed: of one on which two open files of a name do not see each
// other's locks, here those of two hard links, a flock-counter is refused.
func TestLocksThatAreNotSeen(t *testing.T) {
	_, mount := Bindfs(t)
	path, link := filepath.Join(mount, names.Flock+"x"), filepath.Join(mount, "link")
	Must(t, os.WriteFile(path, nil, 0o600))
	Must(t, os.Link(path, link))
	for _, tt := range []struct {
		opened string
		seen   bool
	}{{path, true}, {link, false}} {
		f, err := os.OpenFile(tt.opened, os.O_RDWR, 0)
		Must(t, err)
		defer f.Close()
		if locked, err := filelock.TryLock(f); !locked {
			t.Fatal(err)
		}
		Must(t, filelock.Unlock(f))
		err = store.CheckLocks(f, path)
		if tt.seen {
			Must(t, err)
			continue
		}
		WantErr(t, "CheckLocks", err, errors.ErrUnsupported)
		if err == nil || !strings.Contains(err.Error(), "locks") || !strings.Contains(err.Error(), "fuse") || !strings.Contains(err.Error(), mount) {
			t.Errorf("%v: does not say what is wrong with which filesystem", err)
		}
	}
	// What is locked by another open file of the name has been seen to be.
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	Must(t, err)
	defer f.Close()
	if locked, err := filelock.TryLock(f); !locked {
		t.Fatal(err)
	}
	g, err := os.OpenFile(path, os.O_RDWR, 0)
	Must(t, err)
	defer g.Close()
	Must(t, store.CheckLocks(g, path))
}

// No network filesystem can be mounted here, so a local one's type stands in.
func TestFlockRefusesNetworkFilesystem(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("SEMAPHORE_DIR", dir)
	Must(t, store.CheckLocal(dir))
	var st unix.Statfs_t
	Must(t, unix.Statfs(dir, &st))
	store.NetworkTypes[uint32(st.Type)] = "pretended"
	defer delete(store.NetworkTypes, uint32(st.Type))
	_, err := semaphore.Open("x", semaphore.WithEngine(semaphore.EngineFlock))
	WantErr(t, "Open", err, semaphore.ErrUnsupported)
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "pretended") {
		t.Errorf("%v: names neither directory nor filesystem", err)
	}
	for _, e := range fileEngines {
		_, err := semaphore.Open("x", semaphore.WithEngine(e), semaphore.WithDir(dir))
		WantErr(t, "Open with WithDir", err, semaphore.ErrUnsupported)
		if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "pretended") {
			t.Errorf("%v: %v: names neither directory nor filesystem", e, err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
	if store.NetworkTypes[unix.NFS_SUPER_MAGIC] != "NFS" {
		t.Error("NFS is not in the table")
	}
}
