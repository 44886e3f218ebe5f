package names

import (
	"errors"
	"os"
	"path/filepath"
)

// usualDir is a directory that all users of the machine share. Who needs it first
// makes it. What it inherits from its parent lets users create files there, and leave
// those of others alone, as in a sticky /tmp.
func usualDir() (string, error) {
	data := os.Getenv("ProgramData")
	if !filepath.IsAbs(data) {
		return "", errors.New("%ProgramData% is no absolute path, and " + DirVariable + " names no directory")
	}
	return filepath.Join(data, "semaphore"), nil
}

func encode(name string) string { return escape(name) }

func decode(file string) (name string, ok bool) { return unescape(file) }
