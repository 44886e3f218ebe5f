//go:build unix || windows

package semaphore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/names"
)

// The files of this package's own engines: where they are, and how they come to be
// opened and made.

// storeDir is the directory of this package's own files.
func storeDir() (string, error) {
	dir, err := names.Dir()
	if err != nil {
		return "", because(ErrInvalidOption, "%w", err)
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

// openChecked is openRegular of a file that must pass a check.
func openChecked(path string, check func(*os.File) error) (*os.File, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	if err := check(f); err != nil {
		filelock.Close(f)
		return nil, err
	}
	return f, nil
}

// openOrPublish opens the file of that name in dir if it passes the check, or
// publishes it, as how says.
func openOrPublish(dir, name string, how openHow, check, fill func(*os.File) error, mode fs.FileMode) (*os.File, error) {
	// Others create and unlink meanwhile, programs of libc's and those whom
	// lockStores does not lock out (AIX), so either step may find that the
	// other was the right one.
	for {
		if how != createNew {
			f, err := openChecked(filepath.Join(dir, name), check)
			if err == nil || how == openExisting || !errors.Is(err, fs.ErrNotExist) {
				return f, err
			}
		}
		f, err := publish(dir, name, fill, mode)
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
		if how == createNew {
			return nil, errExists
		}
	}
}

func fileExists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
