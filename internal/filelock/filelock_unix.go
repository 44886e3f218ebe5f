//go:build unix

package filelock

import "os"

// TryLock takes the exclusive lock of f, and reports whether it got it. It never blocks,
// and the caller need not retry on EINTR. Where the system locks with fcntl, f must be
// open for writing.
//
// The lock excludes other open files, in this process and in others. If f itself has the
// lock already, TryLock reports true. Close unlocks.
func TryLock(f *os.File) (bool, error) { return tryLock(f) }

// Unlock releases the lock of f.
func Unlock(f *os.File) error { return unlock(f) }
