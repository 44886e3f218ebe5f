package semaphore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/names"
	"github.com/procsem/semaphore/internal/permits"
	"github.com/procsem/semaphore/internal/testhook"
	"github.com/procsem/semaphore/internal/win"
)

// What the recoverable engine has on Windows: LockFileEx to say who is alive, a named
// semaphore to sleep on, and the handles of processes to hear of deaths.

// The names.

// maxFile is the longest name of a file on the filesystems of Windows.
const maxFile = 255

func checkRecoverName(name string) error {
	file := names.FileName(names.Recoverable, name)
	switch {
	case strings.Contains(name, `\`):
		return because(ErrInvalidName, `it contains a backslash: the namespaces Global\ and Local\ are those of engine %v; engine %v has one for the machine`, EngineWindows, EngineRecoverable)
	case len(file) > maxFile:
		return because(ErrInvalidName, "as the name of a file it has %d characters (%s); at most %d are allowed, of which all but a-z, 0-9, \"-\", \"_\" and \".\" take three", len(file), file, maxFile)
	}
	return nil
}

// nameGone reports whether an open file has lost its name.
func nameGone(f *os.File, path string) (bool, error) {
	h, err := createFile(path, windows.FILE_READ_ATTRIBUTES, nil, windows.OPEN_EXISTING)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	there := os.NewFile(uintptr(h), path)
	defer there.Close()
	a, err := fileIndex(f)
	if err != nil {
		return false, err
	}
	b, err := fileIndex(there)
	return err == nil && a != b, err
}

// fileIndex returns what tells a file from others of its volume. (That is the same if
// the path is; Wine does not know the volume of a file that was renamed.)
func fileIndex(f *os.File) (index uint64, err error) {
	err = filelock.Control(f, func(h windows.Handle) error {
		var info windows.ByHandleFileInformation
		err := windows.GetFileInformationByHandle(h, &info)
		index = uint64(info.FileIndexHigh)<<32 | uint64(info.FileIndexLow)
		return os.NewSyscallError("GetFileInformationByHandle", err)
	})
	return index, err
}

func unlinkRecoverable(name string) error {
	if err := checkRecoverName(name); err != nil {
		return fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	}
	path, err := recoverPath(name)
	if err != nil {
		return err
	}
	var head *permits.Head
	if f, err := openRegular(path); err == nil {
		head, _ = readHead(f)
		f.Close()
	}
	if head == nil { // damaged
		head = new(permits.Head)
	}
	return removeFile(path, goneName(head))
}

func goneName(head *permits.Head) string { return fmt.Sprintf("%s%016x", gonePrefix, head.ID()) }

// The locks.

// rangeLocks are locks of the handle's own open file on bytes beyond its end. The
// kernel drops them when the process ends, before it says that it has; after a
// TerminateProcess some time may pass before that (LockFileEx).
type rangeLocks struct {
	f    *os.File
	slot int // -1: none
}

func kindOfLocks(*os.File) (permits.Locks, error) { return permits.RangeLocks, nil }

func newLocks(head *permits.Head, f *os.File, path string) (slotLocks, error) {
	if head.Locks() != permits.RangeLocks {
		return nil, because(ErrUnsupported, "%s was not made by a program for Windows", path)
	}
	return &rangeLocks{f: f, slot: -1}, nil
}

// lockPatience is how long a claimer tries to get past those who are asking whether
// the slot's owner is alive.
const lockPatience = 20 * time.Millisecond

// lock takes the slot's lock. Who asks whether its owner lives has it for a moment,
// shared: then we could have it shared as well, and try again. (If one is suspended at
// that, another slot will do.)
func (l *rangeLocks) lock(slot int) (bool, error) {
	for start := time.Now(); ; runtime.Gosched() {
		locked, err := filelock.TryLockByte(l.f, permits.SlotByte+int64(slot))
		if locked {
			l.slot = slot
			return true, nil
		}
		if err != nil || time.Since(start) > lockPatience {
			return false, err
		}
		if alive, err := l.alive(slot); alive || err != nil {
			return false, err
		}
	}
}

func (l *rangeLocks) unlock() error {
	if l.slot < 0 {
		return nil
	}
	return filelock.UnlockByte(l.f, permits.SlotByte+int64(l.slot))
}

// alive must not be asked of the own slot, whose lock it would drop. Others who ask at
// the same time have the lock shared, as we do, and don't look alive.
func (l *rangeLocks) alive(slot int) (bool, error) {
	return filelock.ByteLocked(l.f, permits.SlotByte+int64(slot), 1)
}

func (l *rangeLocks) anyAlive(int, func(int) bool) (bool, error) {
	for _, r := range []struct{ from, to int }{{0, l.slot}, {l.slot + 1, permits.MaxSlots}} {
		if r.from == r.to {
			continue
		}
		alive, err := filelock.ByteLocked(l.f, permits.SlotByte+int64(r.from), int64(r.to-r.from))
		if alive || err != nil {
			return alive, err
		}
	}
	return false, nil
}

func (l *rangeLocks) duplicate() (*os.File, error) {
	return nil, because(ErrUnsupported, "on Windows a lock ends with the process that took it, whoever else has its handle")
}

func (l *rangeLocks) lockClaim(f *os.File) (bool, error) {
	return filelock.TryLockByte(f, permits.ClaimByte)
}

func (l *rangeLocks) unlockClaim(f *os.File) error {
	return errors.Join(filelock.UnlockByte(f, permits.ClaimByte), f.Close())
}

// reopen returns another handle of the same open file, which nobody else has: a lock
// excludes also the one who has it, so it does for the claim.
func reopen(f *os.File, path string) (*os.File, error) { return duplicate(f, path) }

func fuser(string) string { return "" }

// onlySleepersNotified: who sleeps on the handle of a process hears of its death, and
// writes that down for the others. Who does not has to ask for the locks.
const onlySleepersNotified = true

// The memory.

// A sleeper is what a handle needs to sleep. Its objects live as long as the memory:
// a give that is on its way when the handle is closed may still wake somebody.
type sleeper struct {
	objects objects
	deaths  deaths    // the server's
	watch   watch     // the server's
	asked   time.Time // the server's: when it last asked for all locks
}

type objects struct {
	view unsafe.Pointer
	wake windows.Handle // a semaphore: those of all processes sleep on it
	stop windows.Handle // an event, our own: the server is to look
	gone string         // the path of the file once its name was removed
}

func (s *sleeper) mapFile(f *os.File, head *permits.Head) (_ unsafe.Pointer, err error) {
	o := objects{gone: filepath.Join(filepath.Dir(f.Name()), goneName(head))}
	defer func() {
		if err != nil {
			o.free()
		}
	}()
	if o.view, err = mapView(f); err != nil {
		return nil, err
	}
	if o.wake, err = openWake(f, head); err != nil {
		return nil, err
	}
	if o.stop, err = windows.CreateEvent(nil, 0, 0, nil); err != nil {
		return nil, os.NewSyscallError("CreateEvent", err)
	}
	s.objects = o
	return o.view, nil
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

// mostTokens bounds what is left in the semaphore for those who come late to sleep.
const mostTokens = 64

// mostTries bounds how often the semaphore may be neither there nor ours to create.
const mostTries = 100

// openWake opens the semaphore on which those who wait sleep, or creates it: it goes
// with its last handle, and all who have the table open have one. Who may read and
// write the file may use it: the rights to a file's content are the same bits as those
// to ask for a semaphore's value and to change it.
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
		sd, err := securityOf(f, windows.DACL_SECURITY_INFORMATION)
		if err != nil {
			return 0, err
		}
		sa := &windows.SecurityAttributes{SecurityDescriptor: sd}
		sa.Length = uint32(unsafe.Sizeof(*sa))
		h, _, err = win.CreateSemaphore(name, 0, mostTokens, sa)
		if !errors.Is(err, windows.ERROR_ACCESS_DENIED) {
			return h, err
		}
		// Somebody else came before, and grants less than creation asks for. Or we may
		// not create any: an app of the Windows Store must have none for all sessions.
		if tries == mostTries {
			return 0, fmt.Errorf("the semaphore %s, on which those who wait sleep: %w", name, err)
		}
	}
}

// wakeName names the semaphore after the number in the file, and after the file, for a
// copy has the same number: who sleeps for the one would take the other's tokens.
func wakeName(f *os.File, head *permits.Head) (string, error) {
	index, err := fileIndex(f)
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
	removeUnused(o.gone) // see removeFile; nearly always there is nothing
}

// freeWith frees the objects when nothing refers to the table any more.
// now does that at once, when nothing uses it.
func (s *sleeper) freeWith(t *permits.Table, _ unsafe.Pointer) (now func()) {
	cleanup := runtime.AddCleanup(t, objects.free, s.objects)
	return func() {
		cleanup.Stop()
		s.objects.free()
	}
}

// allocate has nothing to do: a file has its storage as soon as it has its size.
func allocate(*os.File, int64, int64, bool) error { return nil }

// Sleeping.

func (r *recoverable) publish() { r.own.ExpectReport() }

func (r *recoverable) withdraw() {}

func (r *recoverable) polls() bool { return false }

func (r *recoverable) interrupt() { windows.SetEvent(r.objects.stop) }

// Wake lets n of those who wait, on whatever word, look again, by as many tokens in
// the semaphore. What is left of them there was taken by nobody who slept; who comes
// to sleep later takes it, looks, and sleeps again.
func (r *recoverable) Wake(_ *uint32, n int) (woken int) {
	defer runtime.KeepAlive(r.table)
	n = min(n, mostTokens)
	before, err := win.ReleaseSemaphore(r.objects.wake, int32(n))
	for errors.Is(err, windows.ERROR_TOO_MANY_POSTS) && n > 1 {
		// There are tokens for all who could miss this one, but for a few: they
		// are passed on by those who get a permit (Leave).
		n /= 2
		before, err = win.ReleaseSemaphore(r.objects.wake, int32(n))
	}
	if err != nil {
		return 0
	}
	left, _, err := win.QuerySemaphore(r.objects.wake)
	if err != nil {
		left = before // not the right to ask, perhaps
	}
	return max(0, int(before)+n-int(left))
}

// serve sleeps on the semaphore, and on the processes of those who hold and of those
// next in line.
//
// No wake-up is lost. Who gives frees the word, then reads the number of waiters, and
// if there are any adds a token; who waits counts itself, then looks, then sleeps. So
// either the look finds the word, or the giver finds the waiter counted; then there
// is a token, which stays until somebody takes it who looks after that, or, if it
// leaves without a permit, puts another one in its place (PassOn). There may be more
// tokens than are needed, and somebody looks for nothing. Whoever dies between the two
// is watched by those who fell asleep after it.
//
// Who falls asleep after us may get a permit before us, and we don't watch it (there is
// no word of places to sleep on). Of its death we hear only if somebody told us to look
// meanwhile; else it is the safety net's, like processes that we may not watch, or
// that are too many for one wait.
func (r *recoverable) serve(t *turn) {
	defer runtime.KeepAlive(r.table)
	defer r.watch.keep(nil)
	r.own.Join()
	if r.asked.IsZero() {
		r.asked = time.Now()
	}
	// The net's time goes on between waits: if each is served before it is over, somebody
	// still asks for the locks of those whom nobody may watch.
	var (
		room     [128]permits.Word
		found    permits.Findings
		net      = r.asked.Add(netPause(r.table.Waiters())) // when to look by itself
		timedOut bool                                       // it is time
		woken    bool                                       // there was a token, and nobody here has used it yet
	)
	for {
		served := t.served
		done := t.look()
		woken = woken && t.served == served
		if done {
			break
		}
		r.own.TakeTicket()
		counted := r.table.Counted()
		found = r.own.Scan(timedOut, room[:0])
		if timedOut {
			r.own.Heal(counted)
			r.asked = time.Now()
			net = r.asked.Add(netPause(r.table.Waiters()))
		}
		if found.Freed > 0 {
			if timedOut {
				testhook.Rescued.Add(1)
			}
			r.own.Notify(found.Freed - 1) // one is for us
			woken = true
		}
		if found.Freed > 0 || found.Free || found.Again {
			timedOut = false
			continue
		}
		if found.Err != nil {
			r.opts.warn("failed", "op", "looking who is alive", "error", found.Err)
		}
		if r.watch.of(r.table, found.Watch) {
			timedOut = false
			continue
		}
		r.own.Do(permits.Waiting)
		what, err := r.sleep(r.deaths.pause(found.Dying), net)
		r.own.Do(permits.Waking)
		timedOut = what == netIsDue
		// One of before counts until somebody here has taken a permit, as on Linux.
		woken = woken || what == token
		if what >= firstProcess {
			r.watch.ended(r.table, what-firstProcess)
		}
		if err != nil {
			t.fail(err)
		}
	}
	runtime.Gosched() // whom we have just served goes first
	if r.own.Leave() {
		r.watch.mark(r.table)
		r.own.PassOn(found.Watch, woken || r.deaths.recent(found.Dying), r.deaths.recent)
	}
}

// What ends a sleep: one of the objects, by its number, or none.
const (
	stopped = iota
	token
	firstProcess

	paused   = -1 // after a pause: a dead one is to be looked at
	netIsDue = -2
)

// sleep sleeps until there is something, for pause if that is not 0, or until the
// safety net's next look.
func (r *recoverable) sleep(pause time.Duration, net time.Time) (what int, err error) {
	if testhook.NoSafetyNet.Load() {
		return r.rest(pause)
	}
	left := max(time.Until(net)-netDoubt, 1)
	if pause != 0 && pause < left {
		return r.rest(pause)
	}
	if what, err = r.rest(left); what != paused {
		return what, err
	}
	r.warnIfVanished()
	if r.own.Free() {
		// Somebody may be just about to tell us.
		if what, err = r.rest(netDoubt); what != paused {
			return what, err
		}
		if r.own.Free() {
			testhook.Rescued.Add(1)
		}
	}
	return netIsDue, nil
}

// rest sleeps for d, or without a limit if that is 0.
func (r *recoverable) rest(d time.Duration) (what int, err error) {
	timeout := uint32(windows.INFINITE)
	if d > 0 {
		timeout = uint32((d + time.Millisecond - 1) / time.Millisecond)
	}
	handles := append([]windows.Handle{stopped: r.objects.stop, token: r.objects.wake}, r.watch.handles()...)
	event, err := windows.WaitForMultipleObjects(handles, false, timeout)
	if err != nil {
		return stopped, os.NewSyscallError("WaitForMultipleObjects", err)
	}
	if event == uint32(windows.WAIT_TIMEOUT) {
		return paused, nil
	}
	return int(event - windows.WAIT_OBJECT_0), nil
}

// A watch has the processes whose end a waiter waits for.
type watch []process

type process struct {
	permits.Process
	h     windows.Handle
	words []permits.Word // that are about it
}

// mostWatched is how many objects one can wait for at a time, MAXIMUM_WAIT_OBJECTS,
// less ours.
const mostWatched = 64 - firstProcess

// of watches the processes that words are about, as many as can be, and no others. It
// reports whether some have ended: their words are marked, and have to be read again.
func (w *watch) of(t *permits.Table, words []permits.Word) (ended bool) {
	var now watch
	me := permits.Process{PID: os.Getpid(), Started: ownStart()}
	for _, word := range words {
		p := t.ProcessOf(word)
		if p == me {
			continue // does not end before us
		}
		if i := now.index(p); i >= 0 {
			now[i].words = append(now[i].words, word)
			continue
		}
		if len(now) == mostWatched || testhook.Unwatched.Load() {
			break
		}
		var h windows.Handle
		if i := w.index(p); i >= 0 {
			h = (*w)[i].h
		} else if opened, lives := openProcess(p); !lives {
			t.Mark(word)
			ended = true
			continue
		} else if opened == 0 {
			continue
		} else {
			h = opened
		}
		now = append(now, process{p, h, []permits.Word{word}})
	}
	w.keep(now)
	return ended
}

func (w watch) index(p permits.Process) int {
	return slices.IndexFunc(w, func(q process) bool { return q.Process == p })
}

// keep watches those, and lets go of the others.
func (w *watch) keep(now watch) {
	for _, p := range *w {
		if now.index(p.Process) < 0 {
			windows.CloseHandle(p.h)
		}
	}
	*w = now
}

// ended marks what is about a process that has ended.
func (w *watch) ended(t *permits.Table, i int) {
	p := (*w)[i]
	for _, word := range p.words {
		t.Mark(word)
	}
	windows.CloseHandle(p.h)
	*w = slices.Delete(*w, i, i+1)
}

// mark marks all that has ended. Who leaves does that, for it hears of one thing at a
// time: of a death that came together with the end of its wait nobody else may know.
func (w *watch) mark(t *permits.Table) {
	for len(*w) > 0 {
		event, err := windows.WaitForMultipleObjects(w.handles(), false, 0)
		if err != nil || event == uint32(windows.WAIT_TIMEOUT) {
			return
		}
		w.ended(t, int(event-windows.WAIT_OBJECT_0))
	}
}

func (w watch) handles() (hs []windows.Handle) {
	for _, p := range w {
		hs = append(hs, p.h)
	}
	return hs
}

// openProcess returns a handle by which a process can be watched, 0 if we may not do
// that. lives is false if it has ended; its start tells whether another one has its
// number by now.
func openProcess(p permits.Process) (h windows.Handle, lives bool) {
	h, err := windows.OpenProcess(windows.SYNCHRONIZE|windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(p.PID))
	if err != nil {
		return 0, err != windows.ERROR_INVALID_PARAMETER // no such process
	}
	if started, err := startOf(h); err == nil && started != p.Started {
		windows.CloseHandle(h)
		return 0, false
	}
	return h, true
}

// startOf returns when a process started, as a FILETIME.
func startOf(process windows.Handle) (int64, error) {
	var created, ended, kernel, user windows.Filetime
	err := windows.GetProcessTimes(process, &created, &ended, &kernel, &user)
	return int64(created.HighDateTime)<<32 | int64(created.LowDateTime), err
}

// ownStart returns when this process started, or 0.
var ownStart = sync.OnceValue(func() int64 {
	started, err := startOf(windows.CurrentProcess())
	if err != nil {
		return 0
	}
	return started
})

// startTime makes a time of what ownStart returns.
func startTime(started int64) time.Time {
	if started == 0 {
		return time.Time{}
	}
	t := windows.Filetime{LowDateTime: uint32(started), HighDateTime: uint32(started >> 32)}
	return time.Unix(0, t.Nanoseconds())
}
