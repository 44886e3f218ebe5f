//go:build unix

// Package filelock locks open files against other processes. The kernel drops
// a lock when its holder dies, however it dies.
package filelock

import "os"

// TryLock takes the exclusive lock of f, which must be open for writing where
// the system locks with fcntl, and reports whether it got it. It never blocks
// and needs no retry on EINTR.
//
// Locks exclude other open files, in this process and in others; the lock of a
// file that is locked already is taken once more. Closing f unlocks.
func TryLock(f *os.File) (bool, error) { return tryLock(f) }

// Unlock releases the lock of f.
func Unlock(f *os.File) error { return unlock(f) }

// Close unlocks and closes f. It must be used instead of f.Close.
func Close(f *os.File) error { return closeFile(f) }

// TryLockByte takes the lock of one byte, which needs not exist, of f, which must
// be open for writing, and reports whether it got it. The lock belongs to the
// open file description: it excludes other opens of the file, in this process
// and in others, and is there until the last descriptor of the description is
// closed, a child's inherited one among them (fcntl(2), F_OFD_SETLK).
// errors.ErrUnsupported where there are no such locks.
func TryLockByte(f *os.File, at int64) (bool, error) { return tryLockByte(f, at) }

// UnlockByte releases the lock of a byte, for all descriptors of f's description.
func UnlockByte(f *os.File, at int64) error { return unlockByte(f, at) }

// ByteLocked reports whether another open file description has the lock of one of
// n bytes.
func ByteLocked(f *os.File, at, n int64) (bool, error) { return byteLocked(f, at, n) }
