//go:build darwin || dragonfly || freebsd || openbsd

package semaphore

import (
	"os"

	"golang.org/x/sys/unix"
)

// networkFS names the network filesystem that dir is on, "" if it is local.
func networkFS(dir string) (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "", &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	if statfsFlags(&st)&unix.MNT_LOCAL == 0 {
		return "not MNT_LOCAL", nil
	}
	return "", nil
}
