//go:build unix

package semaphore

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/procsem/semaphore/internal/filelock"
)

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
func publish(dir, name string, fill func(*os.File) error, mode fs.FileMode) (*os.File, error) {
	f, err := publishUnnamed(dir, name, fill, mode)
	if !errors.Is(err, errors.ErrUnsupported) {
		return f, err
	}
	// A creator that is killed here leaves its temporary file behind. Nobody
	// opens that name, and no other creator comes upon it.
	temp := filepath.Join(dir, fmt.Sprintf("tmp.%d.%x", os.Getpid(), rand.Uint64()))
	f, err = os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, mode)
	if err != nil {
		return nil, err
	}
	if err = fill(f); err == nil {
		err = os.Link(temp, filepath.Join(dir, name))
	}
	os.Remove(temp)
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// openRegular opens a regular file without O_CREAT: in a sticky directory Linux
// refuses that on another user's file even where the mode allows its use
// (fs.protected_regular). It follows no symbolic link and blocks on nothing.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoSuch
	}
	var info fs.FileInfo
	if err == nil {
		info, err = f.Stat()
	} else if seen, statErr := os.Lstat(path); statErr == nil && !seen.Mode().IsRegular() {
		info, err = seen, nil // the reason why it could not be opened
	}
	if err == nil && !info.Mode().IsRegular() {
		err = because(ErrCorrupt, "%s is no regular file but %v", path, info.Mode().Type())
	}
	if err != nil {
		if f != nil {
			f.Close()
		}
		return nil, err
	}
	return f, nil
}

// filled returns the filler of a small file.
func filled(content []byte) func(*os.File) error {
	return func(f *os.File) error {
		_, err := f.Write(content)
		return err
	}
}

// writeZeros gives storage to a part of a file that was never used.
func writeZeros(f *os.File, from, to int64) error {
	_, err := f.WriteAt(make([]byte, to-from), from)
	return err
}

func removeFile(path string) error {
	err := syscall.Unlink(path)
	if err == syscall.ENOENT {
		return errNoSuch
	}
	if err != nil {
		return &os.PathError{Op: "unlink", Path: path, Err: err}
	}
	return nil
}
