// Package names says where semaphores are kept in files, and finds those that
// are there.
package names

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// What the names of files begin with; the semaphore's name follows. All have the
// length of glibc's, so that names have one limit.
const (
	Recoverable = "rec."
	Flock       = "flk."
	Glibc       = "sem."

	// GlibcDir is where glibc has its own, whatever DirVariable says.
	GlibcDir = "/dev/shm"
)

// DirVariable is the environment variable that names another directory than the
// usual one.
const DirVariable = "SEMAPHORE_DIR"

// Dir is the directory of this package's own files.
func Dir() (string, error) {
	dir := os.Getenv(DirVariable)
	if dir == "" {
		return usualDir()
	}
	if !filepath.IsAbs(dir) {
		return "", fmt.Errorf("%s is %q; it must be an absolute path", DirVariable, dir)
	}
	return dir, nil
}

// FileName returns the name of the file of a semaphore.
func FileName(prefix, name string) string { return prefix + encode(name) }

// A File stands in the place of a semaphore, and may be one.
type File struct {
	Prefix string
	Name   string // the semaphore's
}

// List returns what stands in the places of semaphores.
func List() ([]File, error) {
	dir, err := Dir()
	if err != nil {
		return nil, err
	}
	files, err := list(dir, Recoverable, Flock)
	// The usual directory exists where there are any semaphores.
	if err != nil && (os.Getenv(DirVariable) != "" || !errors.Is(err, fs.ErrNotExist)) {
		return nil, err
	}
	if runtime.GOOS != "linux" {
		return files, nil // other systems' libcs don't tell
	}
	glibc, err := list(GlibcDir, Glibc)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return append(files, glibc...), nil
}

func list(dir string, prefixes ...string) ([]File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []File
	for _, e := range entries {
		for _, p := range prefixes {
			file, ok := strings.CutPrefix(e.Name(), p)
			if !ok || file == "" {
				continue
			}
			if name, ok := decode(file); ok {
				files = append(files, File{p, name})
			}
		}
	}
	return files, nil
}
