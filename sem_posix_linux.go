//go:build cgo && linux

package semaphore

import (
	"encoding/binary"
	"io/fs"
	"os"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/glibc"
	"github.com/procsem/semaphore/internal/names"
	"github.com/procsem/semaphore/internal/testhook"
)

// What sem_posix.go needs to know of the semaphores of glibc and musl.

func init() {
	switch {
	case isGlibc:
		libcPath, libcFile, libcContent = glibc.Path, glibc.CheckFile, glibc.NewFile
	case isMusl: // src/mman/shm_open.c, __shm_mapname
		libcPath = func(name string) string { return names.GlibcDir + "/" + name }
		libcFile, libcContent = checkMuslFile, newMuslFile
	}
	testhook.Libc.Path = libcPath
}

// newMuslFile returns the content of a new file: the value, and no waiters.
func newMuslFile(value uint32) []byte {
	content := make([]byte, glibc.Size) // all else is 0
	binary.NativeEndian.PutUint32(content, value)
	return content
}

// checkMuslFile refuses what is no semaphore of musl's, which keeps them without a
// prefix: one that is called "flk.x" there has the file of our own flock-counter "x".
// musl's sem_t has glibc's size, and 0 in its third word if it is shared
// (src/thread/sem_init.c).
func checkMuslFile(f *os.File, info fs.FileInfo) error {
	if err := glibc.CheckSize(f.Name(), info.Size()); err != nil {
		return err
	}
	var b [4]byte
	if _, err := f.ReadAt(b[:], 8); err != nil {
		return err
	}
	if private := binary.NativeEndian.Uint32(b[:]); private != 0 {
		return engine.Because(ErrCorrupt, "%s is not shared as musl's sem_open would have it (%d in place of 0)", f.Name(), private)
	}
	return nil
}
