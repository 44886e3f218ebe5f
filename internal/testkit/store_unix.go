//go:build unix

package testkit

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/testhook"
)

// StoreFile returns the path at which an engine keeps a name, or "" if it is in no file
// that we know.
func StoreFile(e semaphore.Engine, name string) string {
	if e == semaphore.EngineAuto {
		for _, e = range []semaphore.Engine{semaphore.EngineLibc, semaphore.EngineNative, semaphore.EngineFlock} {
			if HasEngine(e) {
				break
			}
		}
	}
	switch {
	case e == semaphore.EngineFlock || e == semaphore.EngineRecoverable:
		dir := os.Getenv("SEMAPHORE_DIR")
		if dir == "" {
			dir = "/tmp"
			if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
				dir = "/dev/shm"
			}
		}
		return filepath.Join(dir, map[semaphore.Engine]string{semaphore.EngineFlock: "flk.", semaphore.EngineRecoverable: "rec."}[e]+name)
	case e == semaphore.EngineLibc && HasEngine(e):
		if testhook.Libc.Path == nil {
			return ""
		}
		return testhook.Libc.Path(name)
	case runtime.GOOS == "linux":
		return filepath.Join("/dev/shm", "sem."+name)
	}
	return ""
}

// NeedFile skips a test where an engine's semaphores are in no file that we know.
func NeedFile(t *testing.T, e semaphore.Engine) {
	t.Helper()
	if StoreFile(e, "x") == "" {
		t.Skipf("not on this system: a file for engine %v", e)
	}
}

// lockWhole takes the lock of a file.
func lockWhole(f *os.File) (bool, error) { return filelock.TryLock(f) }
