//go:build !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

// Filesystems on which two open files of one name do not see each other.

package recoverable_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/recoverable"
	"github.com/procsem/semaphore/internal/testhook"
	. "github.com/procsem/semaphore/internal/testkit"
)

// By a hard link on FUSE the kernel has another file, which says that it is the same one.
func TestAnotherInodeIsRefused(t *testing.T) {
	NeedRoot(t)
	EachVariant(t, func(t *testing.T) {
		source, mount := Bindfs(t)
		t.Setenv("SEMAPHORE_DIR", source)
		Must(t, Open(t, "x", Recoverable).Close())
		path, link := filepath.Join(mount, "rec.x"), filepath.Join(mount, "link")
		Must(t, os.Link(path, link))
		for _, tt := range []struct {
			opened string
			seen   bool
		}{{path, true}, {link, false}} {
			f, err := os.OpenFile(tt.opened, os.O_RDWR, 0)
			Must(t, err)
			unchanged := Unchanging(t, Recoverable, "x")
			h, err := recoverable.OpenHandle(f, path)
			if tt.seen {
				Must(t, err)
				Must(t, h.Close())
				continue
			}
			wantUnseen(t, err, mount, "locks")
			unchanged("a refused Open")
		}
	})
}

// The locks may be seen and the memory not: here because the second open file is a copy.
func TestMemoryThatIsNotSeen(t *testing.T) {
	EachVariant(t, func(t *testing.T) {
		dir := t.TempDir()
		t.Setenv("SEMAPHORE_DIR", dir)
		s := Open(t, "x", Recoverable)
		path := filepath.Join(dir, "rec.x")
		same, err := os.OpenFile(path, os.O_RDWR, 0)
		Must(t, err)
		defer same.Close()
		slot, err := recoverable.SeenThrough(testhook.Inspect(s).Backend, same)
		Must(t, err)

		copied := filepath.Join(dir, "copy")
		Must(t, os.WriteFile(copied, make([]byte, permits.Size), 0o600))
		locker, err := os.OpenFile(copied, os.O_RDWR, 0)
		Must(t, err)
		defer locker.Close()
		_, err = io.Copy(locker, io.NewSectionReader(same, 0, 4096))
		Must(t, err)
		second, err := os.OpenFile(copied, os.O_RDWR, 0)
		Must(t, err)
		defer second.Close()
		if locksHere(t) == permits.ByteLocks {
			_, err = recoverable.SeenThrough(testhook.Inspect(s).Backend, second)
			wantUnseen(t, err, dir, "locks")
			if locked, err := filelock.TryLockByte(locker, permits.SlotByte+int64(slot)); !locked {
				t.Fatal(err)
			}
		}
		_, err = recoverable.SeenThrough(testhook.Inspect(s).Backend, second)
		wantUnseen(t, err, dir, "memory")
	})
}

func wantUnseen(t *testing.T, err error, dir, what string) {
	t.Helper()
	WantErr(t, "unseen "+what, err, semaphore.ErrUnsupported)
	if err == nil || !strings.Contains(err.Error(), what) || !strings.Contains(err.Error(), "the filesystem ") || what == "locks" && !strings.Contains(err.Error(), dir) {
		t.Errorf("%v: does not say what is wrong with which filesystem", err)
	}
}
