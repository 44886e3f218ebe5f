package recoverable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/store"
	"github.com/procsem/semaphore/internal/win"
)

// A sleeper is what a handle needs to sleep. Its objects live as long as the memory:
// a give that is on its way when the handle is closed may still wake a server.
type sleeper struct {
	objects   objects
	dying     dying        // the server's
	watch     processWatch // the server's
	netLooked time.Time    // the server's: when the safety net looked last
	netExited time.Time    // the server's: when it noticed an exit since then
}

type objects struct {
	view unsafe.Pointer
	wake windows.Handle // a semaphore: servers of all processes sleep on it
	stop windows.Handle // an event, our own: the server is to look
	gone string         // the path of the file once its name was removed
}

// A fileID is another one for each handle, which has a mapping of its own: it has objects of
// its own that live as long as the memory.
type fileID uint64

var lastFileID atomic.Uint64

func identify(*os.File, *permits.Head) (fileID, error) { return fileID(lastFileID.Add(1)), nil }

// mapFile maps the file, and makes the objects. free frees all of it.
func (s *sleeper) mapFile(f *os.File, head *permits.Head) (memory unsafe.Pointer, free func(), err error) {
	o := objects{gone: filepath.Join(filepath.Dir(f.Name()), goneName(head))}
	defer func() {
		if err != nil {
			o.free()
		}
	}()
	if o.view, err = mapView(f); err != nil {
		return nil, nil, err
	}
	if o.wake, err = openWake(f, head); err != nil {
		return nil, nil, err
	}
	if o.stop, err = windows.CreateEvent(nil, 0, 0, nil); err != nil {
		return nil, nil, os.NewSyscallError("CreateEvent", err)
	}
	s.objects = o
	return o.view, o.free, nil
}

func mapView(f *os.File) (unsafe.Pointer, error) {
	var section windows.Handle
	err := filelock.Control(f, func(h windows.Handle) (err error) {
		section, err = windows.CreateFileMapping(h, nil, windows.PAGE_READWRITE, 0, permits.Size, nil)
		return os.NewSyscallError("CreateFileMapping", err)
	})
	if err != nil {
		return nil, err
	}
	defer windows.CloseHandle(section)
	at, err := windows.MapViewOfFile(section, windows.FILE_MAP_READ|windows.FILE_MAP_WRITE, 0, 0, permits.Size)
	if err != nil {
		return nil, os.NewSyscallError("MapViewOfFile", err)
	}
	return *(*unsafe.Pointer)(unsafe.Pointer(&at)), nil // no memory of Go's
}

// mostTokens bounds what is left in the semaphore for servers that are late to sleep.
const mostTokens = 64

// openWake opens the semaphore on which servers sleep, or creates it: it goes with its
// last handle, and every process that has the table open has one. A user that may read
// and write the file may use it: the rights to a file's content are the same bits as the
// rights to ask for a semaphore's value and to change it.
func openWake(f *os.File, head *permits.Head) (windows.Handle, error) {
	name, err := wakeName(f, head)
	if err != nil {
		return 0, err
	}
	for tries := 1; ; tries++ {
		h, err := win.OpenSemaphore(name, win.SemaphoreAccess)
		if !errors.Is(err, windows.ERROR_FILE_NOT_FOUND) {
			return h, err
		}
		sd, err := store.SecurityOf(f, windows.DACL_SECURITY_INFORMATION)
		if err != nil {
			return 0, err
		}
		sa := &windows.SecurityAttributes{SecurityDescriptor: sd}
		sa.Length = uint32(unsafe.Sizeof(*sa))
		h, _, err = win.CreateSemaphore(name, 0, mostTokens, sa)
		if !errors.Is(err, windows.ERROR_ACCESS_DENIED) {
			return h, err
		}
		// Another process came before, and grants less than creation asks for. Or we may
		// not create any: an app of the Windows Store must have none for all sessions.
		if tries == mostTries { // neither there nor ours to create
			return 0, fmt.Errorf("the semaphore %s, on which waiters sleep: %w", name, err)
		}
	}
}

// wakeName names the semaphore after the number in the file, and after the file, for a
// copy has the same number: a server that sleeps for the one would take the other's
// tokens.
func wakeName(f *os.File, head *permits.Head) (string, error) {
	index, err := store.FileIndex(f)
	return fmt.Sprintf(`Global\procsem-%016x-%x`, head.ID(), index), err
}

func (o objects) free() {
	if o.view != nil {
		windows.UnmapViewOfFile(uintptr(o.view))
	}
	for _, h := range []windows.Handle{o.wake, o.stop} {
		if h != 0 {
			windows.CloseHandle(h)
		}
	}
	store.RemoveUnused(o.gone) // see store.Remove; nearly always there is nothing
}

// allocate has nothing to do: a file has its storage as soon as it has its size.
func allocate(*os.File, int64, int64, bool) error { return nil }
