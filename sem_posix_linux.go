//go:build cgo && linux

package semaphore

import (
	"encoding/binary"
	"runtime"
	"time"
	"unsafe"
)

// What sem_posix.go needs to know of glibc's semaphores.

// checkGlibc checks the file of a name.
func checkGlibc(name string) error {
	f, err := openChecked(glibcPath(name), checkGlibcFile)
	if err != nil {
		return err
	}
	return f.Close()
}

// probedLibc are libc's operations on a semaphore that we watch.
type probedLibc struct {
	tryWait, post func() bool
	wait          func(time.Duration) bool
}

// probeGlibc reports whether libc's semaphore, initialized as a shared one with
// the value 2, works as ours: value, waiters, and wake-ups.
func probeGlibc(memory unsafe.Pointer, libc probedLibc) bool {
	words := (*glibcWords)(memory)
	file := unsafe.Slice((*byte)(memory), glibcSize)
	if binary.NativeEndian.Uint32(file[glibcPrivateAt:]) != glibcShared || words.value() != 2 || words.counted() != 0 {
		return false
	}
	if !libc.tryWait() || words.value() != 1 || !words.take() || libc.tryWait() {
		return false
	}
	if words.post() != nil || !libc.tryWait() || !libc.post() || words.value() != 1 || !words.take() {
		return false
	}
	// A waiter in libc counts itself, and our post wakes it.
	const patience = 10 * time.Second // which only a libc that is not as we know it needs
	served := make(chan bool, 1)
	go func() { served <- libc.wait(patience) }()
	for start := time.Now(); words.counted() != 1; runtime.Gosched() {
		if time.Since(start) > patience {
			return <-served && false
		}
	}
	posted := words.post() == nil
	return <-served && posted && words.value() == 0 && words.counted() == 0
}
