package recoverable

import (
	"fmt"
	"io/fs"
	"os"

	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/store"
)

func unlink(name string) error {
	if err := checkName(name); err != nil {
		return fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	}
	path, err := pathOf(name)
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
	return store.Remove(path, goneName(head))
}

func goneName(head *permits.Head) string { return fmt.Sprintf("%s%016x", store.GonePrefix, head.ID()) }

// reopenNamed has no name to open: the second handle is one of the same open file, see
// reopen.
func reopenNamed(f *os.File, path string) (*os.File, error) { return reopen(f, path) }

// seesClaim and isSeen have nothing to ask: see reopenNamed. Drives of other machines are
// refused, and those that a process serves count as other machines'.
func (h *handle) seesClaim(*os.File) error { return nil }

func (h *handle) isSeen(*os.File) error { return nil }

// reopen returns another handle of the same open file, which no other process has: a
// lock excludes also the handle that has it, so it does for the claim.
func reopen(f *os.File, path string) (*os.File, error) { return store.Duplicate(f, path) }
