//go:build unix && !aix

package main

import "golang.org/x/sys/unix"

const (
	wNoHang   = unix.WNOHANG
	wUntraced = unix.WUNTRACED
)
