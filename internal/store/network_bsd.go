//go:build darwin || dragonfly || freebsd

package store

import (
	"os"

	"golang.org/x/sys/unix"
)

func init() {
	networkFS = func(dir string) (string, error) {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			return "", &os.PathError{Op: "statfs", Path: dir, Err: err}
		}
		if uint64(st.Flags)&unix.MNT_LOCAL == 0 {
			return "not MNT_LOCAL", nil
		}
		return "", nil
	}
}
