//go:build openbsd

package store

import "golang.org/x/sys/unix"

// networkName says what shows that a filesystem is on a network, "" if it is local.
// MNT_LOCAL means that its data is stored on this machine (statfs(2)).
// OpenBSD calls the field F_flags that other systems call Flags.
func networkName(st *unix.Statfs_t) string {
	if st.F_flags&unix.MNT_LOCAL == 0 {
		return "not MNT_LOCAL"
	}
	return ""
}
