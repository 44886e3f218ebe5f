//go:build cgo && linux

package semaphore

import (
	"encoding/binary"
	"os"
	"runtime"
	"time"
	"unsafe"

	"github.com/procsem/semaphore/internal/names"
)

// What sem_posix.go needs to know of the semaphores of glibc and musl.

// libcPath returns the file of a name; it is nil for a libc whose files we don't know.
var libcPath = func() func(name string) string {
	switch {
	case isGlibc:
		return glibcPath
	case isMusl: // src/mman/shm_open.c, __shm_mapname
		return func(name string) string { return names.GlibcDir + "/" + name }
	}
	return nil
}()

// checkLibc checks the file of a semaphore.
func checkLibc(path string) error {
	check := checkGlibcFile
	if isMusl {
		check = checkMuslFile
	}
	f, err := openChecked(path, check)
	if err != nil {
		return err
	}
	return f.Close()
}

// checkMuslFile refuses what is no semaphore of musl's, which keeps them without a
// prefix: one that is called "flk.x" there has the place of our own flock-counter "x".
// musl's sem_t has glibc's size, and 0 in its third word if it is shared
// (src/thread/sem_init.c).
func checkMuslFile(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := checkGlibcSize(f.Name(), info.Size()); err != nil {
		return err
	}
	var b [4]byte
	if _, err := f.ReadAt(b[:], 8); err != nil {
		return err
	}
	if private := binary.NativeEndian.Uint32(b[:]); private != 0 {
		return because(ErrCorrupt, "%s is not shared as musl's sem_open would have it (%d in place of 0)", f.Name(), private)
	}
	return nil
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
