package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

func init() { publishUnnamed = publishTmpfile }

// publishTmpfile publishes through a file that has no name until it is whole
// (O_TMPFILE), so that a kill leaves nothing behind. errors.ErrUnsupported where the
// filesystem has no such files, /proc is not mounted, or a call is refused. If it is the
// directory that may not be written, the file with a temporary name fails with that error.
func publishTmpfile(dir, name string, fill func(*os.File) error, mode fs.FileMode) (*os.File, error) {
	f, err := openNarrowed(mode, func(mode fs.FileMode) (*os.File, error) {
		return os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, mode)
	}, func(f *os.File) { f.Close() })
	if refused(err) || errors.Is(err, unix.EISDIR) {
		return nil, errors.ErrUnsupported
	}
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, name)
	if err = fill(f); err == nil {
		unnamed := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
		err = unix.Linkat(unix.AT_FDCWD, unnamed, unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
		if err == unix.ENOENT || refused(err) {
			err = errors.ErrUnsupported
		} else if err != nil {
			err = &os.PathError{Op: "link", Path: path, Err: err}
		}
	}
	defer f.Close()
	if err != nil {
		return nil, err
	}
	return Duplicate(f, path) // the same description under its name
}
