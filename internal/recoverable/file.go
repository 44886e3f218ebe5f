//go:build ((unix && !aix && !filelock_fcntl) || windows) && !mips && !mipsle && (!arm || arm.7)

package recoverable

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/names"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/store"
)

// The file: its name, making a new one, and checking what is there.

func pathOf(dir, name string) (string, error) {
	dir, err := store.Dir(dir)
	return filepath.Join(dir, names.FileName(names.Recoverable, name)), err
}

// maxFile is the longest name of a file on the filesystems of Windows.
const maxFile = 255

// checkName refuses names that cannot be a file's. Elsewhere than on Windows each name
// can.
func checkName(name string) error {
	file := names.FileName(names.Recoverable, name)
	switch {
	case runtime.GOOS != "windows":
	case strings.Contains(name, `\`):
		return engine.Because(engine.ErrInvalidName, `it contains a backslash: the namespaces Global\ and Local\ are those of engine windows; engine recoverable has one for the machine`)
	case len(file) > maxFile:
		return engine.Because(engine.ErrInvalidName, "as the name of a file it has %d characters (%s); at most %d are allowed, of which all but a-z, 0-9, \"-\", \"_\" and \".\" take three", len(file), file, maxFile)
	}
	return nil
}

// fill makes a new file whole, before it has its name.
func fill(f *os.File, newHead func(permits.Locks, uint64) *permits.Head) error {
	locks, err := chooseLocks(f)
	if err != nil {
		return err
	}
	head := newHead(locks, rand.Uint64())
	if err := f.Truncate(permits.Size); err != nil {
		return err
	}
	if info, err := f.Stat(); err != nil {
		return err
	} else if info.Mode()&0o600 != 0o600 {
		return engine.Because(engine.ErrInvalidOption, "the umask leaves mode %#o; the owner needs the right to read and to write", info.Mode().Perm())
	}
	for _, r := range head.Needed() {
		if err := allocate(f, r.From, r.To, true); err != nil {
			return err
		}
	}
	_, err = f.WriteAt(head.Bytes(), 0)
	return err
}

// check refuses what is no recoverable semaphore, or none that we may trust, or one of another
// name: whoever may write a file can give it further names by hard links, and the owner of
// the file, whom we trust, knows nothing of them. The error is an olderVersion if nothing else is
// wrong. It returns the head that it has read.
func check(f *os.File, info fs.FileInfo, name string, o *engine.Options) (*permits.Head, error) {
	if err := store.CheckOwner(f, info, o); err != nil {
		return nil, err
	}
	head, err := readHeadOf(f, info)
	if head == nil {
		return nil, err
	}
	if !head.IsFor(name) {
		return nil, store.OtherName(f, head.Name())
	}
	return head, cmp.Or(store.CheckWriters(f, o), err) // one of these may have written the name
}

// readHead reads and checks a file's head, which it returns together with an error if that is an
// olderVersion.
func readHead(f *os.File) (*permits.Head, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return readHeadOf(f, info)
}

func readHeadOf(f *os.File, info fs.FileInfo) (*permits.Head, error) {
	head := new(permits.Head)
	if _, err := f.ReadAt(head.Bytes(), 0); err != nil && err != io.EOF {
		return nil, err
	}
	if wrong := head.Check(info.Size()); wrong != "" {
		return nil, engine.Because(engine.ErrCorrupt, "%s: %s", f.Name(), wrong)
	}
	if head.Version() != permits.Version {
		return head, &olderVersion{f.Name(), head.Version()}
	}
	return head, nil
}

// reopenNamed opens the same file once more by its name; it fails with errVanished if the
// name is gone, or another file's.
func reopenNamed(f *os.File, path string) (*os.File, error) {
	again, _, err := store.OpenChecked(path, func(named *os.File, _ fs.FileInfo) error {
		same, err := store.Same(f, named)
		if !same {
			return cmp.Or(err, errVanished)
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errVanished
	}
	return again, err
}

// No filesystem is believed to show to one open file of a name what another one does: there
// are some on which two users of a semaphore would not see each other, and both be inside.
// So each Open checks with a second description, opened by the file's name, which it needs for
// the claim in any case: that the handle's own one sees the claim's lock, taken through the
// second; that the second sees the lock of the slot; and that memory mapped through the
// second has what was written into the slot. Permits are words of the same memory.

// seesClaim refuses a file whose lock of the claim, taken through another description, the
// handle's own does not see. Nothing of the file was changed.
func (h *handle) seesClaim(second *os.File) error {
	seen, err := h.locks.seesClaim(h.f)
	if err != nil || seen {
		return err
	}
	return store.Unseen(h.path, "the locks")
}

// isSeen refuses a file if the handle, which has just got its slot, is not seen through
// another description.
func (h *handle) isSeen(second *os.File) error {
	seen, err := h.locks.isSeen(second)
	if err != nil {
		return err
	}
	if !seen {
		return store.Unseen(h.path, "the locks")
	}
	memory, unmap, err := viewOf(second)
	if err != nil {
		return err
	}
	defer unmap()
	if !h.owner.In(permits.At(memory)) {
		return store.Unseen(h.path, "the memory")
	}
	return nil
}
