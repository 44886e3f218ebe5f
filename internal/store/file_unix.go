//go:build unix

package store

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/filelock"
)

// publishUnnamed, where the system has such a thing, is publish that leaves nothing
// behind whenever its process is killed, or errors.ErrUnsupported.
//
// Like publish it returns the open file under whatever name it was made.
var publishUnnamed = func(dir, name string, fill func(*os.File) error, mode fs.FileMode) (*os.File, error) {
	return nil, errors.ErrUnsupported
}

// publish makes a file that appears under its name only when it is whole:
// whoever opens it, and whenever a creator is killed, finds all of it or
// nothing. It fails with fs.ErrExist if the name is taken, and with errRemoved if the
// name was removed as soon as it was there.
//
// The file that it returns was opened by its name, as all others open it, not by the name
// under which it was made: on some filesystems (FUSE's, with hard links) the kernel takes
// the two for two files, and the creator would have locks and memory of its own.
func publish(dir, name string, fill func(*os.File) error, mode fs.FileMode) (*os.File, error) {
	made, err := create(dir, name, func(f *os.File) error {
		writeInPlace(f)
		return fill(f)
	}, mode)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, name)
	f, err := OpenRegular(path)
	if errors.Is(err, fs.ErrPermission) {
		// The mode, or the umask, lets not even us open it: nobody else does either, and
		// its creator is the only one to use it.
		return made, nil
	}
	defer filelock.Close(made)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errRemoved
	}
	if err != nil {
		return nil, err
	}
	same, err := Same(made, f)
	if same {
		return f, nil
	}
	filelock.Close(f)
	if err != nil {
		return nil, err
	}
	if gone, err := NameGone(made, path); err != nil || gone {
		return nil, cmp.Or(err, errRemoved) // and another has made a new one
	}
	// It stays: others may have opened it, and whoever tries is refused as we are.
	return nil, Unseen(path, "the inode")
}

// Same reports whether two open files are one file, as far as their filesystem says.
func Same(f, g *os.File) (bool, error) {
	a, err := f.Stat()
	if err != nil {
		return false, err
	}
	b, err := g.Stat()
	return err == nil && os.SameFile(a, b), err
}

// CheckLocks refuses a file whose lock, taken through one open file, is not seen through a
// second one that is opened by the file's name. It changes nothing in the file. Where locks
// are fcntl's nothing is checked: they belong to the process, which never sees its own
// (F_GETLK reports only those of others), so that it would take a process to be started
// for each Open; what keeps the second file out is the table of package filelock.
func CheckLocks(f *os.File, path string) (err error) {
	locked, err := filelock.TryLock(f)
	if !locked {
		return err // nil: it has seen another one's
	}
	defer func() { err = cmp.Or(err, filelock.Unlock(f)) }()
	second, err := OpenRegular(path)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return nil // no one else gets at it; see publish
	}
	if err != nil {
		return err
	}
	defer filelock.Close(second)
	if locked, err := filelock.TryLock(second); err != nil || !locked {
		return err
	}
	if same, err := Same(f, second); err != nil || !same {
		return err // the name has gone to another file
	}
	return Unseen(path, "the locks")
}

// create makes and names the file, and returns it as it was made.
func create(dir, name string, fill func(*os.File) error, mode fs.FileMode) (*os.File, error) {
	f, err := publishUnnamed(dir, name, fill, mode)
	if !errors.Is(err, errors.ErrUnsupported) {
		return f, err
	}
	Sweep(dir)
	f, err = OpenTemporary(dir, mode)
	if err != nil {
		return nil, err
	}
	temp := f.Name()
	if err = fill(f); err == nil {
		err = giveName(temp, filepath.Join(dir, name))
	}
	os.Remove(temp)
	if err == nil {
		// From now on the lock is that of a semaphore's file.
		err = filelock.Unlock(f)
	}
	if err != nil {
		filelock.Close(f)
		return nil, err
	}
	return f, nil
}

// openNarrowed opens a new file by open, which gives it a mode less the umask, such that each of
// its group and others may read and write it or do neither (engine.BothOrNeither). What the
// umask leaves is only seen on a file. One that came out otherwise is dropped, and another
// made: by a temporary name others may have opened it, and a chmod would not take that away.
//
// Some filesystems (FAT) give all files a mode of their own, whatever is asked for. That is
// seen at the second file, which is used: who mounted it has decided who may read.
func openNarrowed(mode fs.FileMode, open func(fs.FileMode) (*os.File, error), drop func(*os.File)) (*os.File, error) {
	mode = engine.BothOrNeither(mode)
	for {
		f, err := open(mode)
		if err != nil {
			return nil, err
		}
		info, err := f.Stat()
		if err != nil {
			drop(f)
			return nil, err
		}
		left := info.Mode().Perm()
		narrowed := engine.BothOrNeither(left)
		if narrowed == left || narrowed == mode {
			return f, nil
		}
		drop(f)
		mode = narrowed
	}
}

// giveName gives a whole file its final name, if no file has that. It keeps the temporary
// one where it can: to rename is for where links are refused. The lock that keeps the
// temporary name from sweepers is the file's, whatever its name.
func giveName(temp, path string) error {
	linkErr := os.Link(temp, path)
	if linkErr == nil || !refused(linkErr) {
		return linkErr
	}
	err := renameNew(temp, path)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	return engine.Because(engine.ErrUnsupported, "in %s a new file can have its name neither by a link (%w) nor by a rename that replaces nothing (%w); use a directory on another filesystem (SEMAPHORE_DIR, or WithDir)", filepath.Dir(path), linkErr, err)
}

// renameNew renames a file, if there is none of the new name, where the system can do that.
var renameNew = func(from, to string) error { return errors.ErrUnsupported }

// refused reports whether a system call failed because there is no such thing here: a
// filter of system calls, a security module or the filesystem (FAT has no links) refuses
// it, each with an error of its own. That the directory may not be written is another
// matter, which creating the file there has shown before.
func refused(err error) bool {
	for _, errno := range []syscall.Errno{syscall.EPERM, syscall.EACCES, syscall.ENOSYS, syscall.EOPNOTSUPP, syscall.ENOTSUP, syscall.EINVAL} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

func openToWrite(path string) (*os.File, fs.FileInfo, error) { return openRegular(path, os.O_RDWR) }

func readRegular(path string) (*os.File, fs.FileInfo, error) { return openRegular(path, os.O_RDONLY) }

func openRegular(path string, access int) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(path, access|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, engine.ErrNoSuch
	}
	var info fs.FileInfo
	if err == nil {
		info, err = f.Stat()
	} else if seen, statErr := os.Lstat(path); statErr == nil && !seen.Mode().IsRegular() {
		info, err = seen, nil // the reason why it could not be opened
	}
	if err == nil && !info.Mode().IsRegular() {
		err = engine.Because(engine.ErrCorrupt, "%s is %s, no regular file", path, typeOf(info))
	}
	if err != nil {
		if f != nil {
			f.Close()
		}
		return nil, nil, err
	}
	return f, info, nil
}

// Filled returns the filler of a small file.
func Filled(content []byte) func(*os.File) error {
	return func(f *os.File) error {
		_, err := f.Write(content)
		return err
	}
}

// WriteZeros gives storage to a part of a file that was never used.
func WriteZeros(f *os.File, from, to int64) error {
	_, err := f.WriteAt(make([]byte, to-from), from)
	return err
}

// Remove removes a name.
func Remove(path string) error {
	err := syscall.Unlink(path)
	switch err {
	case syscall.ENOENT:
		return engine.ErrNoSuch
	case syscall.EPERM: // of a sticky directory; sem_unlink's error, by POSIX, is EACCES
		err = syscall.EACCES
	}
	if err != nil {
		return &os.PathError{Op: "unlink", Path: path, Err: err}
	}
	return nil
}

// NameGone reports whether an open file has lost its name.
func NameGone(f *os.File, path string) (bool, error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	return info.Sys().(*syscall.Stat_t).Nlink == 0, nil
}

// CountsBeside returns which files of other kinds make the name of our file ambiguous: only
// those that its users could mean. Any user can put something under a name in a directory
// that is open to all, a dangling link suffices, and must not keep the others from what they
// have. So it has to be a regular file, and root's, the caller's, or our file's owner's; and
// it has no other name, for any user can make links to a file that all may write.
func CountsBeside(ours fs.FileInfo) func(other fs.FileInfo) bool {
	owner := func(f fs.FileInfo) int { return int(f.Sys().(*syscall.Stat_t).Uid) }
	return func(other fs.FileInfo) bool {
		by := owner(other)
		return other.Mode().IsRegular() && other.Sys().(*syscall.Stat_t).Nlink == 1 && (by == 0 || by == os.Geteuid() || by == owner(ours))
	}
}

// CheckOwner refuses a file that another user may have put there for us to find:
// its owner decides which processes it limits, and can end them all by truncating it. Root
// trusts what root has made, as everybody does. A caller that only opens, or shares its
// semaphore with others by its mode, expects other owners, unless it names the one.
func CheckOwner(_ *os.File, info fs.FileInfo, o *engine.Options) error {
	owner := int(info.Sys().(*syscall.Stat_t).Uid)
	me := os.Geteuid()
	shares := o.Owner == nil && o.Mode&othersWrite != 0
	expected := o.Owner != nil && owner == o.Owner.UID
	if owner == me || owner == 0 || !o.Create || shares || expected {
		return nil
	}
	return &engine.Stranger{Owner: strconv.Itoa(owner)}
}

// CheckWriters refuses a file, whoever owns it, that others may write than the caller shares
// its semaphore with: each of them can give it a further name, by a hard link, and write that
// name into it. The number of links says nothing: it is 1 again when the owner has unlinked
// the first one.
func CheckWriters(f *os.File, o *engine.Options) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); o.Create && mode&othersWrite&^o.Mode != 0 {
		return &engine.Exposed{Mode: mode, Asked: o.Mode}
	}
	return nil
}
