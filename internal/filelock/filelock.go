//go:build unix || windows

// Package filelock locks open files against other processes. The kernel drops a lock
// when the process that has it dies, however it dies.
package filelock

import "os"

// Close unlocks and closes f. It must be called instead of f.Close.
func Close(f *os.File) error { return closeFile(f) }

// TryLockByte takes the lock of one byte of f, and reports whether it got it. The byte
// need not exist; f must be open for writing. The lock belongs to the open file
// description: it excludes other opens of the file, in this process and in others, and
// lasts until the last descriptor of the description is closed, including those that
// children have inherited (fcntl(2), F_OFD_SETLK). It returns errors.ErrUnsupported where
// there are no such locks.
//
// On Windows (LockFileEx) the lock ends with the process that took it, even if other
// processes have handles of the file; it excludes also f itself, and unlocking it twice
// is an error.
func TryLockByte(f *os.File, at int64) (bool, error) { return tryLockByte(f, at) }

// UnlockByte releases the lock of a byte, for all descriptors of f's description.
func UnlockByte(f *os.File, at int64) error { return unlockByte(f, at) }

// ByteLocked reports whether another open file description has the lock of one of
// n bytes. On Windows it locks them for a moment, shared, which alone may make a
// TryLockByte elsewhere fail; and it must not be called for bytes that f itself has
// locked, for it would unlock them.
func ByteLocked(f *os.File, at, n int64) (bool, error) { return byteLocked(f, at, n) }
