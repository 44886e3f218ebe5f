//go:build cgo && unix

// Package startsignals knows the signals that were ignored when the program was started.
// Go's runtime catches them before any code in Go runs, but for SIGINT and SIGHUP, and
// tells nobody what they were; a constructor in C runs before it. A program that imports
// this package makes a system call for each signal at its start, so only procsem does.
package startsignals

// extern const unsigned char *procsem_ignored_at_start(int *count);
import "C"

import (
	"syscall"
	"unsafe"
)

// All says whether Ignored knows more than os/signal.Ignored.
const All = true

// Ignored returns the signals that were ignored.
func Ignored() (ignored []syscall.Signal) {
	var count C.int
	flags := C.procsem_ignored_at_start(&count)
	for sig, is := range unsafe.Slice((*byte)(flags), int(count)) {
		if is != 0 {
			ignored = append(ignored, syscall.Signal(sig))
		}
	}
	return ignored
}
