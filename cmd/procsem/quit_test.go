//go:build unix && !linux

package main

import "syscall"

// Only on Linux can procsem die of SIGQUIT.
func quitElsewhere(sig syscall.Signal, got outcome) bool {
	return sig == syscall.SIGQUIT && got.status == 128+int(sig)
}
