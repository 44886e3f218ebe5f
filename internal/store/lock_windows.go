package store

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/windows"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/win"
)

// MutexName is the mutex, one for all sessions, as files are.
const MutexName = `Global\procsem-stores`

// createStoresMutex makes or opens it. A program that must not have one for all
// sessions, as an app of the Windows Store, has one for its own.
func createStoresMutex() (windows.Handle, error) {
	sa, err := win.SecurityOf(0o666)
	if err != nil {
		return 0, err
	}
	for _, name := range []string{MutexName, `Local\` + MutexName[len(`Global\`):]} {
		var h windows.Handle
		h, err = windows.CreateMutexEx(sa, windows.StringToUTF16Ptr(name), 0, windows.SYNCHRONIZE|windows.MUTEX_MODIFY_STATE)
		if h != 0 {
			return h, nil // existed or not
		}
		err = fmt.Errorf("the mutex %s, under which semaphores are created: %w", name, os.NewSyscallError("CreateMutexEx", err))
		if !errors.Is(err, windows.ERROR_ACCESS_DENIED) {
			break
		}
	}
	return 0, err
}

// Lock takes the lock under which semaphores of whatever kind are created: a
// mutex, one for all directories, which the kernel releases when its holder dies. The
// caller's goroutine stays on its thread, the mutex's owner, until it unlocks. As for the lock of a file, no
// thread blocks in the kernel.
func Lock(string) (unlock func(), err error) {
	h, err := createStoresMutex()
	if err != nil {
		return nil, err
	}
	locked, err := engine.Retry(Patience, 50*time.Microsecond, 5*time.Millisecond, func() (bool, error) {
		runtime.LockOSThread()
		event, err := windows.WaitForSingleObject(h, 0)
		if err == nil && event != uint32(windows.WAIT_TIMEOUT) {
			// Or WAIT_ABANDONED: its holder died, and it is ours just so. It
			// protects nothing that can be half done.
			return true, nil
		}
		runtime.UnlockOSThread()
		return false, os.NewSyscallError("WaitForSingleObject", err)
	})
	if !locked && err == nil {
		err = fmt.Errorf("another process has held the mutex %s for %v; is one suspended while opening a semaphore?", MutexName, Patience)
	}
	if err != nil {
		windows.CloseHandle(h)
		return nil, err
	}
	return func() {
		windows.ReleaseMutex(h)
		windows.CloseHandle(h)
		runtime.UnlockOSThread()
	}, nil
}
