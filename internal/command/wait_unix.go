//go:build unix && !linux && !aix

package command

import "golang.org/x/sys/unix"

const (
	wNoHang    = unix.WNOHANG
	wUntraced  = unix.WUNTRACED
	wContinued = 0 // WaitStatus takes some of these systems' for a death
)
