//go:build !unix && !windows

package exitsignal

import "os"

// Signals are none: such a system has no engine, and a handle has nothing to give back.
var Signals []os.Signal

// CanBeHandled reports whether a program can listen for sig.
func CanBeHandled(sig os.Signal) bool { return sig != nil && sig != os.Kill }

// Die returns a shell's status of a program that SIGINT has ended.
func Die(os.Signal) (status int) { return 128 + 2 }
