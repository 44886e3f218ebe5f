//go:build unix

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
