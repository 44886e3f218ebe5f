//go:build unix && !aix && !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package recoverable

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/store"
)

// The locks that tell which owners live: open-file-description locks on a byte for each
// slot, or where there are none flocks of a file for each slot. The creator of the
// semaphore's file decides; the header says which.

// chooseLocks says which locks a new file's handles have.
func chooseLocks(f *os.File) (permits.Locks, error) {
	_, err := filelock.ByteLocked(f, permits.ClaimByte, 1)
	if errors.Is(err, errors.ErrUnsupported) {
		return permits.FileLocks, nil
	}
	return permits.ByteLocks, err
}

func newLocks(head *permits.Head, f *os.File, path string) (slotLocks, error) {
	switch head.Locks() {
	case permits.RangeLocks:
		return nil, engine.Because(engine.ErrUnsupported, "%s was made by a program for Windows", path)
	case permits.ByteLocks:
		locks := newByteLocks(head, f)
		if _, err := locks.seesClaim(f); err != nil {
			return nil, fmt.Errorf("%s needs open-file-description locks: %w", path, err)
		}
		return locks, nil
	}
	locks, err := newFileLocks(head, f, path)
	if err != nil {
		return nil, err // no slotLocks, rather than one that is a nil pointer
	}
	return locks, nil
}

// duplicateLock returns another descriptor of an open file, and so of its locks.
func duplicateLock(f *os.File) (*os.File, error) { return store.Duplicate(f, f.Name()) }

// fileLocks are flocks of a file for each slot, named after the semaphore's
// number, not its name: a semaphore that was unlinked goes on beside its successor.
// An owner that closes removes its file; one that dies leaves it to the slot's next
// owner.
type fileLocks struct {
	stem    string
	sharing sharing
	swept   bool
	slot    int
	own     *os.File
}

// newFileLocks returns the locks of the semaphore in f.
func newFileLocks(head *permits.Head, f *os.File, path string) (*fileLocks, error) {
	dir := filepath.Dir(path)
	sharing, err := sharingOf(f, dir)
	if err != nil {
		return nil, err
	}
	return &fileLocks{stem: filepath.Join(dir, fmt.Sprintf("rlk.%016x.", head.ID())), sharing: sharing}, nil
}

// sharing says who may write a semaphore's file, and so whose lock files are trusted.
//
// A lock file's owner may remove it, or rename it, also in a sticky directory, and put
// another one there that nobody has locked. Then the slot's owner seems dead, and its
// permits are given to others while it is inside. Any user who may write the directory can
// make such a file before a handle needs it. But a user who may write the semaphore's file
// can free permits without that. So the trusted owners of lock files are exactly those who
// may write the semaphore's file:
//
//   - root, and the semaphore's owner.
//   - If others may write it (0666), everybody.
//   - If its group may (0660), its members. Which users these are no system call tells, but
//     only a member, or root, can give a file to a group. So a lock file that has the
//     semaphore's group was made by a member; a new one is given that group. It is no
//     evidence in a directory that itself has the group, for there (with setgid, or on BSD)
//     a new file may have got its group from the directory, unless only that group and the
//     directory's owner may write there. (What is left: a file that was moved here from
//     another directory of the filesystem, if that hands on the same group and everybody
//     may write there.)
//
// A file that is trusted, and has its name in a sticky directory, only its owner (or root) can
// remove or replace there, so a holder does not seem dead. But anybody may have put it there:
// by moving it from a directory that it may write, or, if the system lets users
// make hard links to files that they may not write, as another name of it. So lock makes a new
// file where it can, and takes none with several names, which could make two slots have one
// lock. alive does not ask for that. It would let such users make the state of every owner
// unknowable, and whoever can have the link for a lock file, because the directory is not
// sticky, can as well rename another trusted file.
type sharing struct {
	uid, gid  uint32
	mode      fs.FileMode
	byGroup   bool   // a file's group is evidence
	directory string // for errors
}

func sharingOf(f *os.File, dir string) (sharing, error) {
	info, err := f.Stat()
	if err != nil {
		return sharing{}, err
	}
	uid, gid := ownerOf(info)
	s := sharing{uid: uid, gid: gid, mode: info.Mode().Perm(), directory: dir}
	if s.mode&0o020 != 0 {
		info, err := os.Stat(dir)
		if err != nil {
			return sharing{}, err
		}
		_, inherited := ownerOf(info)
		s.byGroup = inherited != gid || info.Mode()&0o002 == 0
	}
	return s, nil
}

func ownerOf(info fs.FileInfo) (uid, gid uint32) {
	st := info.Sys().(*syscall.Stat_t)
	return st.Uid, st.Gid
}

// trusts reports whether a lock file of that owner and group is trusted.
func (s sharing) trusts(uid, gid uint32) bool {
	return uid == 0 || uid == s.uid || s.mode&0o002 != 0 || s.byGroup && gid == s.gid
}

// check refuses a lock file that is not trusted.
func (s sharing) check(path string, info fs.FileInfo) error {
	uid, gid := ownerOf(info)
	if s.trusts(uid, gid) {
		return nil
	}
	return engine.Because(fs.ErrPermission, "the lock file %s is of user %d and group %d, who could replace it, and so make a holder seem dead; trusted are those of %s. Remove it, or unlink the semaphore, once no process uses that", path, uid, gid, s.trusted())
}

// trusted says for errors which lock files are.
func (s sharing) trusted() string {
	trusted := fmt.Sprintf("root and of user %d, the semaphore's owner", s.uid)
	switch {
	case s.byGroup:
		trusted += fmt.Sprintf(", and those that have its group, %d", s.gid)
	case s.mode&0o020 != 0:
		trusted += fmt.Sprintf("; that a file has the semaphore's group says nothing in %s, which everybody may write and which has that group itself", s.directory)
	}
	return trusted
}

// explain is check of a file that could not even be opened: that it is not trusted says more.
func (s sharing) explain(path string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		if info, statErr := os.Lstat(path); statErr == nil {
			return cmp.Or(s.check(path, info), err)
		}
	}
	return err
}

// apply gives a lock file that the caller has just made to those who share the semaphore, so that they
// can open it, and trust it: whatever the umask, the caller's group, or that it is root, whose
// files the semaphore's owner may not open.
func (s sharing) apply(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	uid, gid := ownerOf(info)
	newUID, newGID := -1, -1
	if s.mode&0o002 == 0 {
		if os.Geteuid() == 0 && uid != s.uid {
			newUID = int(s.uid)
		}
		if s.mode&0o020 != 0 && gid != s.gid {
			newGID = int(s.gid)
		}
	}
	if newUID >= 0 || newGID >= 0 {
		if err := f.Chown(newUID, newGID); err != nil {
			return fmt.Errorf("a lock file needs the semaphore's owner or group (user %d, group %d): %w", s.uid, s.gid, err)
		}
	}
	if info.Mode().Perm() != s.mode {
		if err := f.Chmod(s.mode); err != nil {
			return err
		}
	}
	if info, err = f.Stat(); err != nil {
		return err
	}
	if uid, gid := ownerOf(info); !s.trusts(uid, gid) {
		return engine.Because(fs.ErrPermission, "a new lock file in %s has user %d and group %d; trusted are those of %s", s.directory, uid, gid, s.trusted())
	}
	return nil
}

func (l *fileLocks) path(slot int) string { return fmt.Sprint(l.stem, slot) }

// lock makes a new file for the slot wherever it may. It changes nothing of a file that it
// finds: a user who may write some other directory of the filesystem can have moved any file from
// there to this name, a private one of the caller's too, or one that it has open and can lock. (A
// hard link it cannot make of such a file, if the system protects them.) Only the file of
// another user that is trusted, and in whose place we may put none (in a sticky directory, say), is
// used as it is. In that case a user that has moved it here, and has it open, can keep a dead
// owner's permits taken.
//
// The new file is opened by its name, as others open it: on some filesystems that is another
// inode. The old one stays locked until the new one has its place. Between that and the new one's lock
// nobody else claims, and whoever finds either file unlocked has read the slot's earlier
// generation. A claimer that is killed leaves the old file or the new one, and perhaps a temporary
// name, which the next claimer, or creator of a semaphore, of the same user removes.
func (l *fileLocks) lock(slot int) (bool, error) {
	path := l.path(slot)
	if !l.swept {
		store.Sweep(filepath.Dir(path))
		l.swept = true
	}
	made := false
	for range mostTries {
		f, mine, err := l.open(path)
		if err != nil {
			return false, err
		}
		if f != nil {
			locked, err := filelock.TryLock(f)
			if !locked {
				f.Close()
				return false, err
			}
			if !l.isAt(f, path) {
				filelock.Close(f) // its owner has removed it since we opened it
				continue
			}
		}
		if f == nil || !made {
			refused, err := l.make(path)
			made = err == nil
			hasToDo := refused && f != nil && !mine
			if !hasToDo {
				if f != nil {
					filelock.Close(f)
				}
				if err != nil {
					return false, err
				}
				continue
			}
		}
		l.slot, l.own = slot, f
		return true, nil
	}
	return false, store.Unseen(path, "the inode")
}

// open opens the file that a slot has already, if any, and reports whether it is the caller's.
func (l *fileLocks) open(path string) (f *os.File, mine bool, err error) {
	// Not O_CREAT on what may be another user's; see store.OpenRegular.
	f, err = store.OpenRegular(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, l.sharing.explain(path, err)
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return f, false, err
	}
	if names := info.Sys().(*syscall.Stat_t).Nlink; names > 1 {
		return f, false, engine.Because(fs.ErrPermission, "the lock file %s has %d names (hard links); only a file with one is used. Remove it once no process uses the semaphore", path, names)
	}
	uid, _ := ownerOf(info)
	return f, int(uid) == os.Geteuid(), l.sharing.check(path, info)
}

// make makes a slot's file, in place of the one that is there, if any. The caller has the lock of
// the claim, so no other process makes one. It reports whether it was refused to have a new file
// there.
func (l *fileLocks) make(path string) (refused bool, err error) {
	// Until it has its group and owner only we may open it: an open file keeps what it may.
	f, err := store.OpenTemporary(filepath.Dir(path), l.sharing.mode&0o700)
	if err != nil {
		return errors.Is(err, fs.ErrPermission), err
	}
	if err = l.sharing.apply(f); err == nil {
		err = os.Rename(f.Name(), path)
		refused = errors.Is(err, fs.ErrPermission)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return refused, cmp.Or(err, filelock.Close(f))
}

func (l *fileLocks) unlock() error {
	if l.own == nil {
		return nil
	}
	var err error
	if l.isAt(l.own, l.path(l.slot)) {
		err = os.Remove(l.path(l.slot))
	}
	if errors.Is(err, fs.ErrPermission) {
		err = nil // another user's, in a sticky directory: it stays for the next owner
	}
	return errors.Join(err, filelock.Close(l.own))
}

// isAt reports whether f is the file of that name.
func (l *fileLocks) isAt(f *os.File, path string) bool {
	is, _ := store.IsAt(f, path)
	return is
}

// alive is an error if the slot's file is none that tells: neither an owner that is called
// dead wrongly, which lets one too many in, nor one that is called alive, which keeps its
// permits for ever and says nothing, is what someone who puts a file there should get.
func (l *fileLocks) alive(slot int) (bool, error) {
	path := l.path(slot)
	f, info, err := store.ReadRegular(path)
	if errors.Is(err, fs.ErrNotExist) {
		// A dead owner leaves its file.
		return false, engine.Because(engine.ErrCorrupt, "%s was removed, and with it the lock that tells whether a handle lives; unlink the semaphore once no process uses it", path)
	}
	if err != nil {
		return false, l.sharing.explain(path, err)
	}
	defer f.Close()
	if err := l.sharing.check(path, info); err != nil {
		return false, err
	}
	return filelock.Locked(f)
}

func (l *fileLocks) anyAlive(slots int, occupied func(slot int) bool) (bool, error) {
	var failed error // the first one; another owner may be known to live
	for s := range slots {
		if !occupied(s) {
			continue
		}
		switch alive, err := l.alive(s); {
		case !occupied(s):
		case alive:
			return true, nil
		case err != nil && failed == nil:
			failed = err
		}
	}
	return false, failed
}

func (l *fileLocks) seesClaim(f *os.File) (bool, error) { return filelock.Locked(f) }

// isSeen opens the slot's file by its name, as alive does for other slots.
func (l *fileLocks) isSeen(*os.File) (bool, error) { return l.alive(l.slot) }

func (l *fileLocks) duplicate() (*os.File, error) { return duplicateLock(l.own) }

func (l *fileLocks) lockClaim(f *os.File) (bool, error) { return filelock.TryLock(f) }

func (l *fileLocks) unlockClaim(f *os.File) error { return filelock.Close(f) }
