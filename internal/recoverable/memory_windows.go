package recoverable

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/store"
)

// A sleeper is what a handle needs to sleep. Its objects live as long as the memory:
// a give that is on its way when the handle is closed may still wake a server.
type sleeper struct {
	objects *objects
	server  *server      // if there ever was one
	watch   processWatch // the server's
}

type objects struct {
	view  unsafe.Pointer
	calls string         // what the names begin with of the events by which servers are called
	call  windows.Handle // our slot's
	stop  windows.Handle // an event, our own: the server is to look
	gone  string         // the path of the file once its name was removed
}

// A fileID is another one for each handle, which has a mapping of its own: it has objects of
// its own that live as long as the memory.
type fileID uint64

var lastFileID atomic.Uint64

func identify(*os.File, *permits.Head) (fileID, error) { return fileID(lastFileID.Add(1)), nil }

// mapFile maps the file, and makes the objects. free frees all of it.
func (s *sleeper) mapFile(f *os.File, head *permits.Head) (memory unsafe.Pointer, free func(), err error) {
	o := &objects{gone: filepath.Join(filepath.Dir(f.Name()), goneName(head))}
	defer func() {
		if err != nil {
			o.free()
		}
	}()
	if o.view, err = mapView(f); err != nil {
		return nil, nil, err
	}
	index, err := store.FileIndex(f)
	if err != nil {
		return nil, nil, err
	}
	// After the number in the file, and after the file, for a copy has the same number.
	o.calls = fmt.Sprintf(`Global\procsem-%016x-%x-`, head.ID(), index)
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

// prepareSleep opens the event on which the server of our slot sleeps, or creates it: it goes
// with its last handle, and only its slot's owner keeps one. A user that may read
// and write the file may use it: the rights to a file's content are the same bits as the
// right to set an event.
func (h *handle) prepareSleep() error {
	name, err := windows.UTF16PtrFromString(h.callName(h.owner.Slot()))
	if err != nil {
		return err
	}
	const access = windows.SYNCHRONIZE | windows.EVENT_MODIFY_STATE
	for tries := 1; ; tries++ {
		h.objects.call, err = windows.OpenEvent(access, false, name)
		if err != windows.ERROR_FILE_NOT_FOUND {
			return os.NewSyscallError("OpenEvent", err)
		}
		sd, err := store.SecurityOf(h.f, windows.DACL_SECURITY_INFORMATION)
		if err != nil {
			return err
		}
		sa := &windows.SecurityAttributes{SecurityDescriptor: sd}
		sa.Length = uint32(unsafe.Sizeof(*sa))
		h.objects.call, err = windows.CreateEvent(sa, 0, 0, name)
		if h.objects.call != 0 {
			return nil // there may be one by now
		}
		// A process that calls the slot may have come before, and grants less than creation asks
		// for. Or we may not create any: an app of the Windows Store must have none for all sessions.
		if err != windows.ERROR_ACCESS_DENIED || tries == mostTries {
			return fmt.Errorf("the event on which waiters sleep: %w", os.NewSyscallError("CreateEvent", err))
		}
	}
}

func (h *handle) callName(slot int) string { return h.objects.calls + strconv.Itoa(slot) }

func (o *objects) free() {
	if o.view != nil {
		windows.UnmapViewOfFile(uintptr(o.view))
	}
	for _, h := range []windows.Handle{o.call, o.stop} {
		if h != 0 {
			windows.CloseHandle(h)
		}
	}
	store.RemoveUnused(o.gone) // see store.Remove; nearly always there is nothing
}

// allocate has nothing to do: a file has its storage as soon as it has its size.
func allocate(*os.File, int64, int64, bool) error { return nil }
