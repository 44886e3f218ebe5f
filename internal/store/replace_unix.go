//go:build unix

package store

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/filelock"
)

// Replace puts a new file in the place of old, an open file that has that path. Whoever opens
// the path finds the one or the other, and all of it; so it is after a kill, which may also
// leave a temporary name behind (see OpenTemporary). The caller has made sure that nobody
// makes another file of that name meanwhile (Lock).
//
// The same users may use the new file as could the old one, and it is as its owner's as that
// was: so only the owner replaces a file, or root, who can give it to the owner. Both could
// have done so by hand, where the directory lets them: a rename needs the right that unlink
// needs. Nobody else than the caller can open the new file before it has its owner, group and mode.
//
// A file with a further name would not go when it loses this one, and those that have it open,
// who ask for the number of its names (NameGone), would go on using it.
func Replace(old *os.File, path string, fill func(*os.File) error) error {
	info, err := old.Stat()
	if err != nil {
		return err
	}
	st := info.Sys().(*syscall.Stat_t)
	if me := os.Geteuid(); me != 0 && me != int(st.Uid) {
		return fmt.Errorf("%w: only its owner, user %d, and root may replace it, or unlink it", fs.ErrPermission, st.Uid)
	}
	if st.Nlink > 1 {
		return engine.Because(fs.ErrPermission, "it has %d names (hard links); only a file with one is replaced. Unlink it", st.Nlink)
	}
	dir := filepath.Dir(path)
	Sweep(dir)
	f, err := OpenTemporary(dir, 0o600)
	if err != nil {
		return err
	}
	writeInPlace(f)
	if err = fill(f); err == nil {
		err = shareAs(f, old, info)
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	filelock.Close(f)
	return err
}

// shareAs gives a new file, which only the caller may open, to those that may use the old one. A
// group that may not use it does not matter.
func shareAs(f, old *os.File, as fs.FileInfo) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	is, want := info.Sys().(*syscall.Stat_t), as.Sys().(*syscall.Stat_t)
	uid, gid := -1, -1
	if is.Uid != want.Uid {
		uid = int(want.Uid)
	}
	if is.Gid != want.Gid && as.Mode()&0o070 != 0 {
		gid = int(want.Gid)
	}
	if uid >= 0 || gid >= 0 {
		if err := f.Chown(uid, gid); err != nil {
			return fmt.Errorf("the new file needs the old one's owner and group (user %d, group %d): %w", want.Uid, want.Gid, err)
		}
	}
	if err := copyAccessList(old, f); err != nil {
		return err
	}
	if info, err = f.Stat(); err == nil && info.Mode().Perm() != as.Mode().Perm() {
		err = f.Chmod(as.Mode().Perm())
	}
	return err
}
