//go:build !unix && !windows

package exitsignal

import "os"

// Signals are none: such a system has no engine, and a handle has nothing to give back.
var Signals []os.Signal

// Die returns a shell's status of a program that SIGINT has ended.
func Die(os.Signal) (status int) { return 128 + 2 }
