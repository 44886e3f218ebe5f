//go:build unix || windows

// Package filelock locks open files against other processes. The kernel drops
// a lock when its holder dies, however it dies.
package filelock

import "os"

// Close unlocks and closes f. It must be used instead of f.Close.
func Close(f *os.File) error { return closeFile(f) }

// TryLockByte takes the lock of one byte, which needs not exist, of f, which must
// be open for writing, and reports whether it got it. The lock belongs to the
// open file description: it excludes other opens of the file, in this process
// and in others, and is there until the last descriptor of the description is
// closed, a child's inherited one among them (fcntl(2), F_OFD_SETLK).
// errors.ErrUnsupported where there are no such locks.
//
// On Windows (LockFileEx) it ends with the process that took it, whoever else has a
// handle, and excludes also the one who took it; unlocking it twice is an error.
func TryLockByte(f *os.File, at int64) (bool, error) { return tryLockByte(f, at) }

// UnlockByte releases the lock of a byte, for all descriptors of f's description.
func UnlockByte(f *os.File, at int64) error { return unlockByte(f, at) }

// ByteLocked reports whether another open file description has the lock of one of
// n bytes. On Windows it locks them for a moment, shared, which may make a TryLockByte
// elsewhere fail for no other reason; and it must not be asked of bytes that f has
// locked itself: it would unlock them.
func ByteLocked(f *os.File, at, n int64) (bool, error) { return byteLocked(f, at, n) }
