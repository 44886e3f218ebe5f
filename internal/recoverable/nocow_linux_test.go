//go:build !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package recoverable_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	. "github.com/procsem/semaphore/internal/testkit"
)

// On btrfs a change of a file needs new space, and a store to its memory without is a SIGBUS:
// unless the file is written in place.
func TestFullCopyOnWriteFilesystem(t *testing.T) {
	UseHelper("actor")
	if Emulated() {
		t.Skip("on an emulator: the ioctls of btrfs")
	}
	NeedRoot(t)
	NeedTool(t, "mkfs.btrfs")
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	Must(t, os.WriteFile(image, nil, 0o600))
	Must(t, os.Truncate(image, 128<<20))
	if out, err := exec.Command("mkfs.btrfs", "-q", image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.btrfs: %v\n%s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop", image, dir).CombinedOutput(); err != nil {
		Missing(t, fmt.Sprintf("the right to mount btrfs (%s)", strings.TrimSpace(string(out))))
	}
	t.Cleanup(func() { exec.Command("umount", "-l", dir).Run() })
	t.Setenv("SEMAPHORE_DIR", dir)
	a := StartActor(t, Recoverable.String())
	a.OK("create x 1000")
	a.OK("trywait")
	fill(t, filepath.Join(dir, "rest"))
	for range 20 { // each turn what was changed goes to the disk, and may need space again
		a.OK("trywait")
		d, err := os.Open(dir)
		Must(t, err)
		Must(t, unix.Syncfs(int(d.Fd())))
		Must(t, d.Close())
	}
	a.OK("close")
}

// fill writes into a file until its filesystem is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	Must(t, err)
	defer f.Close()
	b := make([]byte, 1<<20)
	rand.Read(b)
	for n := len(b); n >= 4096; n /= 2 {
		for err = nil; err == nil; {
			if _, err = f.Write(b[:n]); err == nil {
				err = f.Sync()
			}
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
	}
}
