//go:build unix

package semaphore

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/procsem/semaphore/internal/filelock"
)

// storeDir is the directory of this package's own files. $TMPDIR is not asked:
// macOS has one for each user.
func storeDir() (string, error) {
	dir := os.Getenv("SEMAPHORE_DIR")
	if dir == "" {
		dir = "/tmp"
		if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
			dir = "/dev/shm"
		}
		return dir, nil
	}
	if !filepath.IsAbs(dir) {
		return "", because(ErrInvalidOption, "SEMAPHORE_DIR is %q; it must be an absolute path", dir)
	}
	return dir, nil
}

// checkLocal refuses a directory on a network filesystem.
func checkLocal(dir string) error {
	fsys, err := networkFS(dir)
	if err != nil {
		return fmt.Errorf("semaphore directory: %w", err)
	}
	if fsys != "" {
		return because(ErrUnsupported, "%s is on a network filesystem (%s), whose locks other machines may not see; set SEMAPHORE_DIR to a local directory", dir, fsys)
	}
	return nil
}

// storesPatience bounds the wait for the lock of lockStores. Its holders need
// microseconds; one that is stopped in that time must not hang everybody else
// without a word.
var storesPatience = 10 * time.Second

// lockStores takes the lock under which semaphores of whatever kind are
// created: that of the directory itself, which leaves no file behind and goes
// when its holder dies. Programs with different directories don't exclude each
// other, and don't see each other's files either.
func lockStores() (unlock func(), err error) {
	dir, err := storeDir()
	if err != nil {
		return nil, err
	}
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return func() {}, nil // no file of ours can be there or come there
	}
	if err != nil {
		return nil, fmt.Errorf("semaphore directory: %w", err)
	}
	for start, pause := time.Now(), 50*time.Microsecond; ; pause = min(2*pause, 5*time.Millisecond) {
		locked, err := filelock.TryLock(f)
		if errors.Is(err, syscall.EBADF) {
			// Where locks are fcntl's (AIX), a directory can't have one.
			return func() { filelock.Close(f) }, nil
		}
		if err != nil {
			filelock.Close(f)
			return nil, err
		}
		if locked {
			return func() { filelock.Close(f) }, nil
		}
		if time.Since(start) > storesPatience {
			filelock.Close(f)
			return nil, fmt.Errorf("another process has held the lock of %s for %v; is one stopped while opening a semaphore? (fuser -v %s)", dir, storesPatience, dir)
		}
		time.Sleep(pause)
	}
}

// publish makes a file that appears under its name only when it is whole:
// whoever opens it, and whenever a creator is killed, finds all of it or
// nothing. It fails with fs.ErrExist if the name is taken.
func publish(dir, name string, content []byte, mode fs.FileMode) (*os.File, error) {
	f, err := publishUnnamed(dir, name, content, mode)
	if !errors.Is(err, errors.ErrUnsupported) {
		return f, err
	}
	// A killed creator may leave the temporary name behind. It is the same
	// for all creators of this name and user, of whom one at a time is here
	// (lockStores), so the next one removes it.
	sum := sha256.Sum256([]byte(name))
	temp := filepath.Join(dir, fmt.Sprintf("tmp.%d.%x", os.Getuid(), sum[:16]))
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err = os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, mode)
	if err != nil {
		return nil, err
	}
	if _, err = f.Write(content); err == nil {
		err = os.Link(temp, filepath.Join(dir, name))
	}
	os.Remove(temp)
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
