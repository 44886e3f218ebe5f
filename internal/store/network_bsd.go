//go:build darwin || dragonfly || freebsd

package store

import "golang.org/x/sys/unix"

// networkName says what shows that a filesystem is on a network, "" if it is local.
// MNT_LOCAL means that its data is stored on this machine (statfs(2)).
// Flags has another type on each of these systems.
func networkName(st *unix.Statfs_t) string {
	if uint64(st.Flags)&unix.MNT_LOCAL == 0 {
		return "not MNT_LOCAL"
	}
	return ""
}
