package semaphore

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/win"
)

func init() {
	engine.Register(&engine.Engine{
		Name:  EngineWindows.String(),
		Store: "windows",
		Open:  openWindows,
		Exists: func(_, name string, _ func(fs.FileInfo) bool) (bool, error) {
			err := seeWindows(name)
			switch {
			case err == nil, errors.Is(err, fs.ErrPermission):
				return true, nil
			case errors.Is(err, fs.ErrNotExist):
				return false, nil
			}
			return false, err
		},
		Unlink: func(_, name string) error { return seeWindows(name) },
	})
}

// seeWindows returns nil if there is a semaphore of that name, which is all that
// Unlink can do: the name goes with the last handle. Another kind of object is no
// semaphore.
func seeWindows(name string) error {
	h, err := openSemaphore(name)
	if errors.Is(err, ErrKindMismatch) {
		return engine.ErrNoSuch
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
		return engine.ErrNoSuch
	case errors.Is(err, windows.ERROR_INVALID_HANDLE):
		return engine.Because(ErrKindMismatch, "the name is that of another kind of object, such as an event or a mutex (%w)", err)
	}
	return err
}

type windowsSemaphore struct {
	h     windows.Handle
	event windows.Handle // set: Serve is to look
}

func openWindows(name string, how engine.How, o *engine.Options) (engine.Backend, error) {
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

func openOrCreateSemaphore(name string, how engine.How, o *engine.Options) (windows.Handle, error) {
	if how == engine.OpenExisting {
		h, err := openSemaphore(name)
		if err != nil {
			return 0, err
		}
		if err := o.CheckAlone(nil); err != nil {
			windows.CloseHandle(h)
			return 0, err
		}
		return h, nil
	}
	sa, err := win.SecurityOf(o.Mode)
	if err != nil {
		return 0, err
	}
	h, existed, err := win.CreateSemaphore(name, int32(o.Value), MaxValue, sa)
	switch {
	case errors.Is(err, windows.ERROR_ACCESS_DENIED):
		// It exists, or came meanwhile, and is not ours: CreateSemaphore wants
		// every right to it.
		switch h, err := openSemaphore(name); {
		case errors.Is(err, fs.ErrNotExist):
		case how == engine.OpenOrCreate:
			return h, err
		default:
			windows.CloseHandle(h)
			return 0, engine.ErrExists
		}
	case err == nil && existed && how == engine.CreateNew:
		windows.CloseHandle(h)
		return 0, engine.ErrExists
	}
	return h, nameError(err)
}

func (s *windowsSemaphore) Traits() engine.Traits { return engine.Traits{TakesUnasked: true} }

func (s *windowsSemaphore) TryWait(bool) error {
	switch event, err := windows.WaitForSingleObject(s.h, 0); {
	case err != nil:
		return os.NewSyscallError("WaitForSingleObject", err)
	case event == uint32(windows.WAIT_TIMEOUT):
		return ErrWouldBlock
	}
	return nil
}

// Serve waits for the semaphore and the event at once. If both are there the event
// wins, being the first in the list; but a wait that ends with the semaphore has
// taken a permit, for which by then maybe no goroutine waits (Took then posts it).
func (s *windowsSemaphore) Serve(t engine.Turn) {
	const interrupted = windows.WAIT_OBJECT_0 // the event, first in the list
	for !t.Look() {
		switch what, err := windows.WaitForMultipleObjects([]windows.Handle{s.event, s.h}, false, windows.INFINITE); {
		case err != nil:
			t.Fail(os.NewSyscallError("WaitForMultipleObjects", err))
		case what != interrupted:
			t.Took()
		}
	}
}

// Interrupt sets the event, which stays set until Serve waits.
func (s *windowsSemaphore) Interrupt() { windows.SetEvent(s.event) }

func (s *windowsSemaphore) Post(n int) error {
	if err := engine.MayPost(0, n); err != nil {
		return err
	}
	_, err := win.ReleaseSemaphore(s.h, int32(n)) // all, or none if that would be too many
	if errors.Is(err, windows.ERROR_TOO_MANY_POSTS) {
		return engine.Because(ErrOverflow, "%w", err)
	}
	return err
}

func (s *windowsSemaphore) Value() (int, error) {
	n, _, err := win.QuerySemaphore(s.h)
	if errors.Is(err, errors.ErrUnsupported) {
		err = engine.Because(ErrUnsupported, "%w", err)
	}
	return int(n), err
}

func (s *windowsSemaphore) Close() error {
	return errors.Join(windows.CloseHandle(s.h), windows.CloseHandle(s.event))
}
