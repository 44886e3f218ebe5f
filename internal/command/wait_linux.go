package command

import "golang.org/x/sys/unix"

const (
	wNoHang    = unix.WNOHANG
	wUntraced  = unix.WUNTRACED
	wContinued = unix.WCONTINUED
)
