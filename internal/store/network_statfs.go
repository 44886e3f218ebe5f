//go:build linux || darwin || dragonfly || freebsd || openbsd

package store

import (
	"os"

	"golang.org/x/sys/unix"
)

func init() { networkFS = networkOf }

// networkOf is networkFS where statfs(2) tells.
func networkOf(dir string) (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "", &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return networkName(&st), nil
}
