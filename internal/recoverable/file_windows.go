package recoverable

import (
	"fmt"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/store"
)

func unlink(dir, name string) error {
	if err := checkName(name); err != nil {
		return fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	}
	path, err := pathOf(dir, name)
	if err != nil {
		return err
	}
	var head *permits.Head
	if f, err := store.OpenRegular(path); err == nil {
		head, _ = readHead(f)
		f.Close()
	}
	if head == nil { // damaged
		head = new(permits.Head)
	}
	return removeName(head, path)
}

func removeName(head *permits.Head, path string) error { return store.Remove(path, goneName(head)) }

func goneName(head *permits.Head) string { return fmt.Sprintf("%s%016x", store.GonePrefix, head.ID()) }

// viewOf maps a file to look at it once.
func viewOf(f *os.File) (memory unsafe.Pointer, unmap func(), err error) {
	memory, err = mapView(f)
	if err != nil {
		return nil, nil, err
	}
	return memory, func() { windows.UnmapViewOfFile(uintptr(memory)) }, nil
}

// hasLostName reports whether a file has lost its name while we waited for the claim.
func hasLostName(f *os.File, path string) (bool, error) { return store.NameGone(f, path) }

// reopen returns another handle of the same open file, which no other process has: a
// lock excludes also the handle that has it, so it does for the claim.
func reopen(f *os.File, path string) (*os.File, error) { return store.Duplicate(f, path) }

// replaceFile puts a new file in the place of f.
func replaceFile(head *permits.Head, f *os.File, path string, fill func(*os.File) error) error {
	return store.Replace(f, path, goneName(head), fill)
}

func removeLockFiles(*permits.Head, slotLocks) {} // there are none
