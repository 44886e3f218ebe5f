package command

import (
	"os"
	"strconv"

	"github.com/procsem/semaphore/internal/names"
	"golang.org/x/sys/unix"
)

// inheritedFiles are kept: to close one would take it from the command.
var inheritedFiles []*os.File

// handedToUs returns a descriptor that procsem has inherited, of an open file to which procsem lock has given a permit of
// the semaphore, or -1.
func handedToUs(name string) (fd int) {
	path, err := pathOf(name)
	if err != nil {
		return -1
	}
	named, err := os.Stat(path)
	if err != nil {
		return -1
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// What procsem opens itself is closed when it runs a program, unlike what it has got from one.
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC != 0 {
			continue
		}
		f := os.NewFile(uintptr(fd), names.Recoverable+name)
		inheritedFiles = append(inheritedFiles, f)
		if info, err := f.Stat(); err != nil || !os.SameFile(info, named) {
			continue
		}
		if n, err := (handed{name: name, fd: fd, file: f}).permits(false); err == nil && n > 0 {
			return fd
		}
	}
	return -1
}
