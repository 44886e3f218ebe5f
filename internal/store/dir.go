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
func Choose(dir string) (string, error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("%q in the working directory: %w", dir, err)
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("there is no directory %s, and none is made: %w", path, fs.ErrNotExist)
	case err != nil:
		return "", err
	case !info.IsDir():
		return "", engine.Because(engine.ErrInvalidOption, "%s is no directory", path)
	}
	return path, nil
}
