package store

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/names"
	"github.com/procsem/semaphore/internal/win"
)

// CreateFile is CreateFile of a file whose name others may remove and change
// meanwhile. If the name is that of a link, it is the link that is opened.
func CreateFile(path string, access uint32, sa *windows.SecurityAttributes, how uint32) (windows.Handle, error) {
	p, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0, err
	}
	const all = windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE
	h, err := windows.CreateFile(p, access, all, sa, how, windows.FILE_FLAG_OPEN_REPARSE_POINT, 0)
	if err != nil {
		return 0, &os.PathError{Op: "CreateFile", Path: path, Err: err}
	}
	return h, nil
}

func openToWrite(path string) (*os.File, fs.FileInfo, error) {
	return openRegular(path, windows.GENERIC_READ|windows.GENERIC_WRITE)
}

func readRegular(path string) (*os.File, fs.FileInfo, error) {
	return openRegular(path, windows.GENERIC_READ)
}

// openRegular opens a regular file, and nothing else.
func openRegular(path string, access uint32) (*os.File, fs.FileInfo, error) {
	var h windows.Handle
	err := retryShared(func() (err error) {
		h, err = CreateFile(path, access, nil, windows.OPEN_EXISTING)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, engine.ErrNoSuch
	}
	if err != nil {
		// A directory can't be opened so.
		if seen, statErr := os.Lstat(path); statErr == nil && !seen.Mode().IsRegular() {
			err = engine.Because(engine.ErrCorrupt, "%s is %s, no regular file", path, typeOf(seen))
		}
		return nil, nil, err
	}
	var info windows.ByHandleFileInformation
	kind, err := windows.GetFileType(h)
	if err == nil {
		err = windows.GetFileInformationByHandle(h, &info)
	}
	const irregular = windows.FILE_ATTRIBUTE_DIRECTORY | windows.FILE_ATTRIBUTE_REPARSE_POINT
	switch {
	case err != nil:
		err = &os.PathError{Op: "GetFileInformationByHandle", Path: path, Err: err}
	case kind != windows.FILE_TYPE_DISK || info.FileAttributes&irregular != 0:
		err = engine.Because(engine.ErrCorrupt, "%s is no regular file: type %d, attributes %#x", path, kind, info.FileAttributes)
	default:
		f := os.NewFile(uintptr(h), path)
		info, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, nil, err
		}
		return f, info, nil
	}
	windows.CloseHandle(h)
	return nil, nil, err
}

// publish makes a file that appears under its name only when it is whole:
// whoever opens it, and whenever a creator is killed, finds all of it or
// nothing. It fails with fs.ErrExist if the name is taken.
func publish(dir, name string, fill func(*os.File) error, mode fs.FileMode) (*os.File, error) {
	sa, err := win.SecurityOf(mode)
	if err != nil {
		return nil, err
	}
	return publishFor(sa, dir, name, fill, move)
}

// publishFor is publish with a security descriptor; place gives the file its name.
func publishFor(sa *windows.SecurityAttributes, dir, name string, fill func(*os.File) error, place func(temp, path string) error) (*os.File, error) {
	// A creator that is killed here leaves its temporary file behind, for the next
	// one to remove. No other process opens that name.
	temp := tempName(dir)
	create := func() (windows.Handle, error) {
		return CreateFile(temp, windows.GENERIC_READ|windows.GENERIC_WRITE, sa, windows.CREATE_NEW)
	}
	h, err := create()
	if errors.Is(err, fs.ErrNotExist) && names.IsUsual(dir) {
		if err := os.Mkdir(dir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("semaphore directory: %w", err)
		}
		h, err = create()
	}
	if err != nil {
		return nil, err
	}
	sweep(dir)
	f := os.NewFile(uintptr(h), temp)
	defer f.Close()
	path := filepath.Join(dir, name)
	if err = fill(f); err == nil {
		// On the disk, too, before it has its name: after a power cut no process
		// could open what has the name and not the content.
		err = f.Sync()
	}
	if err == nil {
		err = retryShared(func() error { return place(temp, path) })
	}
	if err != nil {
		f.Close()
		RemoveUnused(temp)
		return nil, err
	}
	return Duplicate(f, path) // under its name, for errors
}

// move fails with fs.ErrExist if there is a file of the new name.
func move(from, to string) error {
	f, err := windows.UTF16PtrFromString(from)
	if err != nil {
		return err
	}
	t, err := windows.UTF16PtrFromString(to)
	if err != nil {
		return err
	}
	if err := windows.MoveFileEx(f, t, 0); err != nil {
		return &os.LinkError{Op: "MoveFileEx", Old: from, New: to, Err: err}
	}
	return nil
}

// Duplicate returns another handle of the same open file.
func Duplicate(f *os.File, path string) (*os.File, error) {
	var again windows.Handle
	err := filelock.Control(f, func(h windows.Handle) error {
		me := windows.CurrentProcess()
		return os.NewSyscallError("DuplicateHandle", windows.DuplicateHandle(me, h, me, &again, 0, false, windows.DUPLICATE_SAME_ACCESS))
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(again), path), nil
}

// GonePrefix is what the names begin with of files which are no more semaphores.
const GonePrefix = tempPrefix + "gone."

// Remove frees a name, also of a file that others have open. Windows removes it
// at once, and the file with the last handle; but not if a process has it mapped, nor
// on all filesystems. Then the file gets another name, gone, and goes with the last
// process that has it mapped and lets go of it; or, if that one was killed, when a
// process creates or removes a file here.
func Remove(path, gone string) error {
	err := retryShared(func() error { return removePOSIX(path) })
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return noSuch(err)
	}
	dir := filepath.Dir(path)
	sweep(dir)
	to := filepath.Join(dir, gone)
	err = retryShared(func() error { return move(path, to) })
	for errors.Is(err, fs.ErrExist) { // a copy of that file was removed before
		to = filepath.Join(dir, fmt.Sprint(gone, ".", rand.Uint64()))
		err = move(path, to)
	}
	if err != nil {
		return noSuch(err)
	}
	RemoveUnused(to)
	return nil
}

// Replace puts a new file in the place of old, an open file that has that path, once it is
// whole. Windows has no such step on all filesystems for a file that is open: the old one is removed
// (Remove) before the new one has its name, so there may be a moment without a file, or if the process is
// killed just then none is left. The caller has made sure that nobody makes another file of that
// name meanwhile (Lock).
//
// The new file has the old one's owner and access list. A caller that may not make a file of
// that owner's replaces none.
func Replace(old *os.File, path, gone string, fill func(*os.File) error) error {
	sd, err := SecurityOf(old, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return err
	}
	sa := &windows.SecurityAttributes{SecurityDescriptor: sd}
	sa.Length = uint32(unsafe.Sizeof(*sa))
	f, err := publishFor(sa, filepath.Dir(path), filepath.Base(path), fill, func(temp, path string) error {
		if err := Remove(path, gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return move(temp, path)
	})
	if err != nil {
		return err
	}
	return f.Close()
}

func noSuch(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return engine.ErrNoSuch
	}
	return err
}

func removePOSIX(path string) error {
	h, err := CreateFile(path, windows.DELETE, nil, windows.OPEN_EXISTING)
	if err != nil {
		return err
	}
	defer windows.CloseHandle(h)
	how := uint32(windows.FILE_DISPOSITION_DELETE | windows.FILE_DISPOSITION_POSIX_SEMANTICS)
	return windows.SetFileInformationByHandle(h, windows.FileDispositionInfoEx, (*byte)(unsafe.Pointer(&how)), uint32(unsafe.Sizeof(how)))
}

// retryShared repeats what fails because a program has the file open that does not share
// what we want of it, as programs do that look through all files (a virus scanner, which
// begins with new ones, an index, our own list): they have it for a moment.
func retryShared(f func() error) error {
	var err error
	engine.Retry(time.Second, time.Millisecond, time.Second/2, func() (done bool, _ error) {
		err = f()
		return !errors.Is(err, windows.ERROR_SHARING_VIOLATION), nil
	})
	return err
}

// sweep removes what creators that were killed have left, and what was removed while
// it was in use and is not used any more.
func sweep(dir string) {
	files, _ := os.ReadDir(dir)
	for _, f := range files {
		if strings.HasPrefix(f.Name(), tempPrefix) {
			RemoveUnused(filepath.Join(dir, f.Name()))
		}
	}
}

// RemoveUnused removes a file that no process has open: a process that can open it
// without sharing is alone with it. A creator has its file open as long as that
// has a name of this kind.
func RemoveUnused(path string) {
	p, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return
	}
	h, err := windows.CreateFile(p, windows.DELETE, 0, nil, windows.OPEN_EXISTING, windows.FILE_FLAG_OPEN_REPARSE_POINT, 0)
	if err != nil {
		return
	}
	defer windows.CloseHandle(h)
	// Not FILE_FLAG_DELETE_ON_CLOSE, which is not documented to spare a file that is
	// only mapped.
	yes := byte(1) // FILE_DISPOSITION_INFO
	_ = windows.SetFileInformationByHandle(h, windows.FileDispositionInfo, &yes, 1)
}

// CountsBeside returns which files of other kinds make the name of our file ambiguous: all,
// for the only other kind on Windows is in no file.
func CountsBeside(fs.FileInfo) func(fs.FileInfo) bool { return nil }

// CheckOwner refuses a file that another user may have put there for us to
// find, as it does on Unix: administrators and the system stand for root.
func CheckOwner(f *os.File, _ fs.FileInfo, o *engine.Options) error {
	if !o.Create || o.Owner == nil && o.Mode&othersWrite != 0 {
		return nil
	}
	sd, err := SecurityOf(f, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return err
	}
	owner, _, err := sd.Owner()
	if err != nil {
		return os.NewSyscallError("GetSecurityDescriptorOwner", err)
	}
	trusted, err := trust()
	if err != nil || trusted(owner) {
		return err
	}
	return &engine.Stranger{Owner: owner.String()}
}

// CheckWriters refuses a file that others may write, as it does on Unix, to a caller that
// shares its semaphore with nobody.
func CheckWriters(f *os.File, o *engine.Options) error {
	if !o.Create || o.Mode&othersWrite != 0 {
		return nil
	}
	sd, err := SecurityOf(f, windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return err
	}
	trusted, err := trust()
	if err != nil {
		return err
	}
	others, err := writers(sd, trusted)
	if err != nil || others == 0 {
		return err
	}
	return &engine.Exposed{Mode: 0o600 | others, Asked: o.Mode}
}

// trust returns who may own our files, and write them: the caller, and those that stand for
// root.
func trust() (trusted func(*windows.SID) bool, err error) {
	me, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return nil, os.NewSyscallError("GetTokenInformation", err)
	}
	admins, err := windows.CreateWellKnownSid(windows.WinBuiltinAdministratorsSid)
	if err != nil {
		return nil, os.NewSyscallError("CreateWellKnownSid", err)
	}
	return func(sid *windows.SID) bool {
		return sid.Equals(me.User.Sid) || sid.Equals(admins) || sid.IsWellKnown(windows.WinLocalSystemSid)
	}, nil
}

// writers returns the bits of a mode that let those write whom an access list lets, but for
// the trusted ones: everybody's, or the group's for whoever else it names.
func writers(sd *windows.SECURITY_DESCRIPTOR, trusted func(*windows.SID) bool) (fs.FileMode, error) {
	const (
		group, everybody = 0o060, 0o006
		write            = windows.GENERIC_ALL | windows.GENERIC_WRITE | windows.FILE_WRITE_DATA | windows.FILE_WRITE_ATTRIBUTES | windows.WRITE_DAC | windows.WRITE_OWNER
	)
	list, _, err := sd.DACL()
	if errors.Is(err, windows.ERROR_OBJECT_NOT_FOUND) || err == nil && list == nil {
		return group | everybody, nil // no list lets everybody
	}
	if err != nil {
		return 0, os.NewSyscallError("GetSecurityDescriptorDacl", err)
	}
	var found fs.FileMode
	for i := range uint32(list.AceCount) {
		var ace *windows.ACCESS_ALLOWED_ACE
		if err := windows.GetAce(list, i, &ace); err != nil {
			return 0, os.NewSyscallError("GetAce", err)
		}
		sid := (*windows.SID)(unsafe.Pointer(&ace.SidStart))
		switch {
		case ace.Header.AceType != windows.ACCESS_ALLOWED_ACE_TYPE, ace.Header.AceFlags&windows.INHERIT_ONLY_ACE != 0:
		case ace.Mask&write == 0, trusted(sid):
		case sid.IsWellKnown(windows.WinWorldSid):
			found |= everybody
		default:
			found |= group
		}
	}
	return found, nil
}

// SecurityOf returns what a file's security descriptor says.
func SecurityOf(f *os.File, what windows.SECURITY_INFORMATION) (sd *windows.SECURITY_DESCRIPTOR, err error) {
	err = filelock.Control(f, func(h windows.Handle) error {
		var err error
		if sd, err = windows.GetSecurityInfo(h, windows.SE_FILE_OBJECT, what); err != nil {
			return &os.PathError{Op: "GetSecurityInfo", Path: f.Name(), Err: err}
		}
		return nil
	})
	return sd, err
}

// NameGone reports whether an open file has lost its name.
func NameGone(f *os.File, path string) (bool, error) {
	h, err := CreateFile(path, windows.FILE_READ_ATTRIBUTES, nil, windows.OPEN_EXISTING)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	there := os.NewFile(uintptr(h), path)
	defer there.Close()
	same, err := Same(f, there)
	return err == nil && !same, err
}

// Same reports whether two open files of one path are one file, as far as their filesystem
// says.
func Same(f, g *os.File) (bool, error) {
	a, err := FileIndex(f)
	if err != nil {
		return false, err
	}
	b, err := FileIndex(g)
	return err == nil && a == b, err
}

// FileIndex returns what tells a file from others of its volume. (That is the same if
// the path is; Wine does not know the volume of a file that was renamed.)
func FileIndex(f *os.File) (index uint64, err error) {
	err = filelock.Control(f, func(h windows.Handle) error {
		var info windows.ByHandleFileInformation
		err := windows.GetFileInformationByHandle(h, &info)
		index = uint64(info.FileIndexHigh)<<32 | uint64(info.FileIndexLow)
		return os.NewSyscallError("GetFileInformationByHandle", err)
	})
	return index, err
}
