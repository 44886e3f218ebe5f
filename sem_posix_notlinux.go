//go:build cgo && unix && !linux

package semaphore

import (
	"errors"
	"time"
	"unsafe"
)

// What sem_posix.go needs of glibc's semaphores is on Linux only.

const glibcStore, glibcSize = "glibc", 0

type probedLibc struct {
	tryWait, post func() bool
	wait          func(time.Duration) bool
}

var libcPath func(string) string // in what files, if any, these libcs don't tell

func checkLibc(string) error                     { return nil }
func probeGlibc(unsafe.Pointer, probedLibc) bool { return false }

func newNative(unsafe.Pointer, func(), *options) backend { panic(errors.ErrUnsupported) }
