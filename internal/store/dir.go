package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/names"
)

// Dir is the directory of this package's own files: the one that was chosen for a semaphore, or
// else, for "", the usual one.
func Dir(chosen string) (string, error) {
	if chosen != "" {
		return chosen, nil
	}
	dir, err := names.Dir()
	if err != nil {
		return "", engine.Because(engine.ErrInvalidOption, "%w", err)
	}
	return dir, nil
}

// Choose returns the absolute path of a directory that a program or a user has chosen. It has to
// exist: who mistypes it should hear of that, and not have a limit of his own in a new directory.
//
// The path has no symbolic links, for one may lead elsewhere when the path is used next. Where links cannot be
// followed though the directory can be used, as on some drives of Windows, it is as it was written.
func Choose(dir string) (string, error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("%q in the working directory: %w", dir, err)
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", missing(path)
	case err != nil:
		return "", err
	case !info.IsDir():
		return "", engine.Because(engine.ErrInvalidOption, "%s is no directory", path)
	}
	switch direct, err := filepath.EvalSymlinks(path); {
	case err == nil:
		return direct, nil
	case errors.Is(err, fs.ErrNotExist):
		return "", missing(path)
	}
	return path, nil
}

func missing(dir string) error {
	return fmt.Errorf("there is no directory %s, and none is made: %w", dir, fs.ErrNotExist)
}
