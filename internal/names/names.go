// Package names says in which files semaphores are stored, and lists those that exist.
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

// The prefixes of file names; the semaphore's name follows. All are as long as glibc's,
// so that one limit applies to all names.
const (
	Recoverable = "rec."
	Flock       = "flk."
	Glibc       = "sem."

	// GlibcDir is where glibc stores its semaphores, whatever DirVariable says.
	GlibcDir = "/dev/shm"
)

// DirVariable is the environment variable that names a directory to use instead of the
// usual one. A program that has more rights than whoever started it (setuid, setgid, a
// file's capabilities) ignores it: it would make and open files with these rights wherever
// its user wants.
const DirVariable = "SEMAPHORE_DIR"

// fromEnvironment returns the directory that the environment names, "" if it names none.
func fromEnvironment() string {
	dir := os.Getenv(DirVariable)
	if dir == "" || elevated() {
		return ""
	}
	return dir
}

// Dir returns the directory of the files that this module defines itself.
func Dir() (string, error) {
	dir := fromEnvironment()
	if dir == "" {
		return usualDir()
	}
	if !filepath.IsAbs(dir) {
		return "", fmt.Errorf("%s is %q; it must be an absolute path", DirVariable, dir)
	}
	return dir, nil
}

// IsDefault reports whether dir, by whatever path, is the directory Dir, or the one that it is for those who have no
// DirVariable.
func IsDefault(dir string) bool {
	info, err := os.Stat(dir)
	if err != nil {
		return false
	}
	for _, usual := range []func() (string, error){Dir, usualDir} {
		if path, err := usual(); err == nil {
			if there, err := os.Stat(path); err == nil && os.SameFile(info, there) {
				return true
			}
		}
	}
	return false
}

// FileName returns the name of the file of a semaphore.
func FileName(prefix, name string) string { return prefix + encode(name) }

// A File has the name of a semaphore's file, and may be one.
type File struct {
	Prefix string
	Name   string // the semaphore's
}

// ListIn returns the files in a directory that have names of this module's own semaphores' files.
func ListIn(dir string) ([]File, error) { return list(dir, Recoverable, Flock) }

// List returns the files that have names of semaphores' files, in the directory Dir and in glibc's.
func List() ([]File, error) {
	dir, err := Dir()
	if err != nil {
		return nil, err
	}
	files, err := ListIn(dir)
	// If the usual directory does not exist, it contains no semaphores.
	if err != nil && (fromEnvironment() != "" || !errors.Is(err, fs.ErrNotExist)) {
		return nil, err
	}
	if runtime.GOOS != "linux" {
		return files, nil // other systems' libcs don't list their semaphores
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
