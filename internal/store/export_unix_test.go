//go:build unix

package store

import (
	"errors"
	"io/fs"
	"os"
)

// NoUnnamed takes away files without a name, and returns how to have them again.
func NoUnnamed() (restore func()) {
	before := publishUnnamed
	publishUnnamed = func(string, string, func(*os.File) error, fs.FileMode) (*os.File, error) {
		return nil, errors.ErrUnsupported
	}
	return func() { publishUnnamed = before }
}

var OpenNarrowed = openNarrowed
