package filelock

import (
	"os"

	"golang.org/x/sys/windows"
)

func closeFile(f *os.File) error { return f.Close() } // which unlocks

func tryLockByte(f *os.File, at int64) (bool, error) {
	return tryLockRange(f, windows.LOCKFILE_EXCLUSIVE_LOCK, at, 1)
}

func unlockByte(f *os.File, at int64) error { return unlockRange(f, at, 1) }

func byteLocked(f *os.File, at, n int64) (bool, error) {
	const shared = 0
	free, err := tryLockRange(f, shared, at, n)
	if !free || err != nil {
		return !free, err
	}
	return false, unlockRange(f, at, n)
}

func tryLockRange(f *os.File, how uint32, at, n int64) (bool, error) {
	err := Control(f, func(h windows.Handle) error {
		return windows.LockFileEx(h, how|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, uint32(n), uint32(n>>32), from(at))
	})
	if err == windows.ERROR_LOCK_VIOLATION || err == windows.ERROR_IO_PENDING {
		return false, nil
	}
	if err != nil {
		return false, &os.PathError{Op: "LockFileEx", Path: f.Name(), Err: err}
	}
	return true, nil
}

func unlockRange(f *os.File, at, n int64) error {
	err := Control(f, func(h windows.Handle) error {
		return windows.UnlockFileEx(h, 0, uint32(n), uint32(n>>32), from(at))
	})
	if err != nil {
		return &os.PathError{Op: "UnlockFileEx", Path: f.Name(), Err: err}
	}
	return nil
}

func from(at int64) *windows.Overlapped {
	return &windows.Overlapped{Offset: uint32(at), OffsetHigh: uint32(at >> 32)}
}

// Control calls call with f's handle. It does not use f.Fd: f may be closed meanwhile, and
// its handle be that of another file.
func Control(f *os.File, call func(windows.Handle) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if e := conn.Control(func(fd uintptr) { err = call(windows.Handle(fd)) }); e != nil {
		return e
	}
	return err
}
