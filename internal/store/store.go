//go:build unix || windows

// Package store keeps semaphores in files: where they are, how they come to be opened
// and made, whose are trusted, and the lock under which semaphores of whatever kind are
// created.
package store

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/filelock"
)

// Patience bounds the wait for a lock that its holders need for microseconds. One that
// is stopped in that time must not hang all other processes without a word.
var Patience = 10 * time.Second

// othersWrite are the bits of a mode that let others than the owner write.
const othersWrite = 0o022

// networkFS names the network filesystem that dir is on, "" if it is local. It is set
// where the system can tell: NetBSD, Solaris, illumos and AIX have statvfs, each with a
// field of its own.
var networkFS = func(dir string) (string, error) { return "", nil }

// CheckLocal refuses a directory on a network filesystem, or one that is as bad.
func CheckLocal(dir string) error {
	fsys, err := networkFS(dir)
	if err != nil {
		return fmt.Errorf("semaphore directory: %w", err)
	}
	if fsys != "" {
		return engine.Because(engine.ErrUnsupported, "%s is on a filesystem (%s) that others may see without its locks and memory: other machines, or those that have mounted the same directory elsewhere; use a directory on a local filesystem (SEMAPHORE_DIR, or WithDir)", dir, fsys)
	}
	return nil
}

// ReadRegular is OpenRegular of a file that is only read, and its information.
func ReadRegular(path string) (*os.File, fs.FileInfo, error) {
	return readRegular(path)
}

// ReadLocal is ReadRegular in a directory that CheckLocal does not refuse.
func ReadLocal(path string) (*os.File, fs.FileInfo, error) {
	if err := CheckLocal(filepath.Dir(path)); err != nil {
		return nil, nil, err
	}
	return ReadRegular(path)
}

// tempPrefix is what the names begin with of files which are not yet, or no more, semaphores.
// (On Unix earlier versions, which did not lock these files, had other names: their creators
// may live.)
const tempPrefix = "tmp.procsem."

// tempName returns a name that nobody else uses.
func tempName(dir string) string {
	return filepath.Join(dir, fmt.Sprintf("%s%d.%x", tempPrefix, os.Getpid(), rand.Uint64()))
}

// A Check refuses a file that was just opened; info is its information.
type Check func(f *os.File, info fs.FileInfo) error

// OpenChecked is OpenRegular of a file that must pass a check.
func OpenChecked(path string, check Check) (*os.File, fs.FileInfo, error) {
	f, info, err := openToWrite(path)
	if err != nil {
		return nil, nil, err
	}
	if err := check(f, info); err != nil {
		filelock.Close(f)
		return nil, nil, err
	}
	return f, info, nil
}

// OpenRegular opens a regular file without O_CREAT: in a sticky directory Linux
// refuses that on another user's file even where the mode allows its use
// (fs.protected_regular). It follows no symbolic link and blocks on nothing.
func OpenRegular(path string) (*os.File, error) {
	f, _, err := openToWrite(path)
	return f, err
}

// OpenOrPublish opens the file of that name in dir if it passes the check and the name
// belongs to no other kind of semaphore, or publishes it, as how says; created says that
// it did.
func OpenOrPublish(dir, name string, how engine.How, check Check, fill func(*os.File) error, o *engine.Options) (f *os.File, created bool, err error) {
	checkAll := func(f *os.File, info fs.FileInfo) error {
		if err := check(f, info); err != nil {
			return err
		}
		return o.CheckAlone(info)
	}
	// Other programs create and unlink meanwhile, libc's and those that
	// Lock does not lock out (AIX), so either step may find that the
	// other was the right one.
	for {
		if how != engine.CreateNew {
			f, _, err := OpenChecked(filepath.Join(dir, name), checkAll)
			if err == nil || how == engine.OpenExisting || !errors.Is(err, fs.ErrNotExist) {
				return f, false, err
			}
		}
		f, err := publish(dir, name, fill, o.Mode)
		switch {
		case errors.Is(err, errRemoved):
		case !errors.Is(err, fs.ErrExist):
			return f, err == nil, err
		case how == engine.CreateNew:
			return nil, false, engine.ErrExists
		}
	}
}

// errRemoved: the name of a new file was removed before its creator opened it.
var errRemoved = errors.New("the name was removed")

// Unseen is the error of a file whose filesystem does not show to one open file what another
// one of the same name does: a lock, or what is written.
func Unseen(path, what string) error {
	dir := filepath.Dir(path)
	return engine.Because(engine.ErrUnsupported, "%s is on %s, which does not show %s of one open file to another one of the same name: a semaphore there limits nobody; use a directory on a local filesystem (SEMAPHORE_DIR, or WithDir)", dir, filesystemOf(dir), what)
}

// OtherName is the error of a file that says that it was made for the semaphore of another
// name.
func OtherName(f *os.File, made string) error {
	return engine.Because(engine.ErrCorrupt, "%s is the file of the semaphore %q, by another name: a hard link, or renamed or copied", f.Name(), made)
}

// filesystemOf names the filesystem that dir is on, for errors.
var filesystemOf = func(dir string) string { return "a filesystem" }

// typeOf says what a file is that is no regular one.
func typeOf(info fs.FileInfo) string {
	switch info.Mode().Type() {
	case fs.ModeDir:
		return "a directory"
	case fs.ModeSymlink:
		return "a symbolic link"
	case fs.ModeNamedPipe:
		return "a named pipe"
	case fs.ModeSocket:
		return "a socket"
	}
	return "a device"
}

// Exists reports whether there is a file of whatever type, if counts is nil, or else one
// that counts.
func Exists(path string, counts func(fs.FileInfo) bool) (bool, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && (counts == nil || counts(info)), err
}
