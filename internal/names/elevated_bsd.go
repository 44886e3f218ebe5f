//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package names

import "golang.org/x/sys/unix"

// elevated reports whether the program was started with more rights than its user has
// (issetugid(2)).
func elevated() bool { return unix.Issetugid() }
