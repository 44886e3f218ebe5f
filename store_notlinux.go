//go:build unix && !linux

package semaphore

import (
	"errors"
	"io/fs"
	"os"
)

var nativeKind *kind

func publishUnnamed(string, string, func(*os.File) error, fs.FileMode) (*os.File, error) {
	return nil, errors.ErrUnsupported
}
