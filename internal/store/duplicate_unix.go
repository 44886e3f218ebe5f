//go:build unix && !aix

package store

import (
	"os"

	"golang.org/x/sys/unix"
)

// Duplicate returns another descriptor of f's open file, under that name for errors.
func Duplicate(f *os.File, name string) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
