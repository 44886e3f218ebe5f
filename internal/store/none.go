//go:build !unix && !windows

package store

import (
	"errors"
	"io/fs"
	"os"
)

// Lock has nothing to lock: there is no engine on such a system.
func Lock(string) (unlock func(), err error) { return func() {}, nil }

// CountsBeside: there are no files either.
func CountsBeside(fs.FileInfo) func(fs.FileInfo) bool { return nil }

// ReadRegular finds none.
func ReadRegular(string) (*os.File, fs.FileInfo, error) { return nil, nil, errors.ErrUnsupported }
