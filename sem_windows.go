package semaphore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/windows"

	"github.com/procsem/semaphore/internal/win"
)

var libcKind, nativeKind, flockKind *kind

var windowsKind = &kind{
	engine: EngineWindows,
	store:  "windows",
	open:   openWindows,
	exists: func(name string) (bool, error) {
		err := seeWindows(name)
		switch {
		case err == nil, errors.Is(err, fs.ErrPermission):
			return true, nil
		case errors.Is(err, fs.ErrNotExist):
			return false, nil
		}
		return false, err
	},
	unlink: seeWindows,
}

// seeWindows returns nil if there is a semaphore of that name, which is all that
// Unlink can do: the name goes with the last handle. Another kind of object is no
// semaphore.
func seeWindows(name string) error {
	h, err := openSemaphore(name)
	if errors.Is(err, ErrKindMismatch) {
		return errNoSuch
	}
	if err != nil {
		return err
	}
	return windows.CloseHandle(h)
}

// openSemaphore opens what exists. Its creator may have granted what waiting and
// releasing take and no more: then Value is all that fails.
func openSemaphore(name string) (windows.Handle, error) {
	h, err := win.OpenSemaphore(name, win.SemaphoreAccess)
	if errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		h, err = win.OpenSemaphore(name, win.SemaphoreAccess&^win.SemaphoreQueryState)
	}
	return h, nameError(err)
}

// nameError makes what the kernel says of a name this package's error. A denied
// access answers to fs.ErrPermission as it is.
func nameError(err error) error {
	switch {
	case errors.Is(err, windows.ERROR_FILE_NOT_FOUND):
		return errNoSuch
	case errors.Is(err, windows.ERROR_INVALID_HANDLE):
		return because(ErrKindMismatch, "the name is that of another kind of object, such as an event or a mutex (%w)", err)
	}
	return err
}

type windowsSemaphore struct {
	h     windows.Handle
	event windows.Handle // set: serve is to look
}

func openWindows(name string, how openHow, o *options) (backend, error) {
	h, err := openOrCreateSemaphore(name, how, o)
	if err != nil {
		return nil, err
	}
	event, err := windows.CreateEvent(nil, 0, 0, nil)
	if err != nil {
		windows.CloseHandle(h)
		return nil, os.NewSyscallError("CreateEvent", err)
	}
	return &windowsSemaphore{h, event}, nil
}

func openOrCreateSemaphore(name string, how openHow, o *options) (windows.Handle, error) {
	if how == openExisting {
		return openSemaphore(name)
	}
	sa, err := win.SecurityOf(o.mode)
	if err != nil {
		return 0, err
	}
	h, existed, err := win.CreateSemaphore(name, int32(o.value), MaxValue, sa)
	switch {
	case errors.Is(err, windows.ERROR_ACCESS_DENIED):
		// It exists, or came meanwhile, and is not ours: CreateSemaphore wants
		// every right to it.
		switch h, err := openSemaphore(name); {
		case errors.Is(err, fs.ErrNotExist):
		case how == openOrCreate:
			return h, err
		default:
			windows.CloseHandle(h)
			return 0, errExists
		}
	case err == nil && existed && how == createNew:
		windows.CloseHandle(h)
		return 0, errExists
	}
	return h, nameError(err)
}

func (s *windowsSemaphore) takesUnasked() {}

func (s *windowsSemaphore) tryWait(bool) error {
	switch event, err := windows.WaitForSingleObject(s.h, 0); {
	case err != nil:
		return os.NewSyscallError("WaitForSingleObject", err)
	case event == uint32(windows.WAIT_TIMEOUT):
		return ErrWouldBlock
	}
	return nil
}

// serve waits for the semaphore and the event at once. If both are there the event
// wins, being the first in the list; but a wait that ends with the semaphore has
// taken a permit, which by then nobody may wait for (took then posts it).
func (s *windowsSemaphore) serve(t *turn) {
	const news = windows.WAIT_OBJECT_0
	for !t.look() {
		switch what, err := windows.WaitForMultipleObjects([]windows.Handle{s.event, s.h}, false, windows.INFINITE); {
		case err != nil:
			t.fail(os.NewSyscallError("WaitForMultipleObjects", err))
		case what != news:
			t.took()
		}
	}
}

// interrupt sets the event, which stays set until serve waits.
func (s *windowsSemaphore) interrupt() { windows.SetEvent(s.event) }

func (s *windowsSemaphore) post() error {
	_, err := win.ReleaseSemaphore(s.h, 1)
	if errors.Is(err, windows.ERROR_TOO_MANY_POSTS) {
		return because(ErrOverflow, "%w", err)
	}
	return err
}

func (s *windowsSemaphore) value() (int, error) {
	n, _, err := win.QuerySemaphore(s.h)
	if errors.Is(err, errors.ErrUnsupported) {
		err = because(ErrUnsupported, "%w", err)
	}
	return int(n), err
}

func (s *windowsSemaphore) close() error {
	return errors.Join(windows.CloseHandle(s.h), windows.CloseHandle(s.event))
}

// storesPatience bounds the wait for the mutex of lockStores. Its holders need
// microseconds; one that is suspended in that time must not hang everybody else
// without a word.
var storesPatience = 10 * time.Second

// storesMutex is one for all sessions, as files are.
const storesMutex = `Global\procsem-stores`

// createStoresMutex makes or opens it. Who must not have one that is for all sessions,
// as an app of the Windows Store, has one for its own.
func createStoresMutex() (windows.Handle, error) {
	sa, err := win.SecurityOf(0o666)
	if err != nil {
		return 0, err
	}
	for _, name := range []string{storesMutex, `Local\` + storesMutex[len(`Global\`):]} {
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

// lockStores takes the lock under which semaphores of whatever kind are created: a
// mutex, which the kernel releases when its holder dies. The caller's goroutine stays
// on its thread, the mutex's owner, until it unlocks. As for the lock of a file, nobody
// blocks in the kernel.
func lockStores() (unlock func(), err error) {
	h, err := createStoresMutex()
	if err != nil {
		return nil, err
	}
	for start, pause := time.Now(), 50*time.Microsecond; ; pause = min(2*pause, 5*time.Millisecond) {
		runtime.LockOSThread()
		event, err := windows.WaitForSingleObject(h, 0)
		if err == nil && event != uint32(windows.WAIT_TIMEOUT) {
			// Or WAIT_ABANDONED: its holder died, and it is ours just so. It
			// protects nothing that can be half done.
			return func() {
				windows.ReleaseMutex(h)
				windows.CloseHandle(h)
				runtime.UnlockOSThread()
			}, nil
		}
		runtime.UnlockOSThread()
		if err != nil {
			windows.CloseHandle(h)
			return nil, os.NewSyscallError("WaitForSingleObject", err)
		}
		if time.Since(start) > storesPatience {
			windows.CloseHandle(h)
			return nil, fmt.Errorf("another process has held the mutex %s for %v; is one suspended while opening a semaphore?", storesMutex, storesPatience)
		}
		time.Sleep(pause)
	}
}
