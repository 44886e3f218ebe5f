//go:build unix && !linux

package main

import "syscall"

// setDefaultAction says whether sig kills once signal.Reset has given it to
// Go's runtime: SIGQUIT does not, but ends with status 2 and a dump of all
// goroutines.
func setDefaultAction(sig syscall.Signal) bool { return sig != syscall.SIGQUIT }
