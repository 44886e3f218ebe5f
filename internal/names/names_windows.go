package names

import (
	"errors"
	"os"
	"path/filepath"
)

// usualDir is a directory that all users of the machine share. The first process that
// needs it creates it. The rights that it inherits from its parent let users create files
// there but not remove those of others, as in a sticky /tmp.
func usualDir() (string, error) {
	data := os.Getenv("ProgramData")
	if !filepath.IsAbs(data) {
		return "", errors.New("%ProgramData% is no absolute path, and " + DirVariable + " names no directory")
	}
	return filepath.Join(data, "semaphore"), nil
}

// IsUsual reports whether dir is that directory.
func IsUsual(dir string) bool {
	usual, err := usualDir()
	return err == nil && dir == usual
}

func encode(name string) string { return escape(name) }

func decode(file string) (name string, ok bool) { return unescape(file) }
