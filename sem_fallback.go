//go:build unix

package semaphore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/names"
	"github.com/procsem/semaphore/internal/store"
)

// The flock-counter: a file of 16 bytes and the semaphore's name,
//
//	0  magic "flocksem"
//	8  version, 2
//	12 value
//	16 name
//
// both numbers little-endian on every machine, so that programs of different
// architectures on one machine agree. The value is read by one pread and
// written by one pwrite of four bytes, both under the file's lock; a process
// that is killed at any moment leaves the old value or the new one, and the
// kernel drops its lock. The rest never changes, and the file gets its
// name when it is whole (publish): there is no other half-way state.
const (
	flockMagic   = "flocksem"
	flockVersion = 2 // in version 1 there was no name
	flockSize    = 16
	flockValueAt = 12
)

func init() {
	engine.Register(&engine.Engine{
		Name:  EngineFlock.String(),
		Store: "flock",
		Dirs:  true,
		Open:  openFlock,
		Exists: func(dir, name string, counts func(fs.FileInfo) bool) (bool, error) {
			path, err := flockPath(dir, name)
			if err != nil {
				return false, err
			}
			return store.Exists(path, counts)
		},
		Unlink: func(dir, name string) error {
			path, err := flockPath(dir, name)
			if err != nil {
				return err
			}
			return store.Remove(path)
		},
		Observe: observeFlock,
	})
}

// observeFlock reads a counter: one write changes it, so no lock is needed.
func observeFlock(dir, name string) (o engine.Observation, err error) {
	if o.Path, err = flockPath(dir, name); err != nil {
		return o, err
	}
	f, info, err := store.ReadLocal(o.Path)
	if err != nil {
		return o, err
	}
	defer filelock.Close(f)
	o.File = info
	if err := checkFlockFile(f, info, name, &engine.Options{}); err != nil {
		return o, err
	}
	value, err := readFlock(f)
	o.Value = int(value)
	return o, err
}

func flockPath(dir, name string) (string, error) {
	dir, err := store.Dir(dir)
	return filepath.Join(dir, names.Flock+name), err
}

type flockSemaphore struct {
	f *os.File

	// mu keeps this handle's goroutines apart, which the lock of one open file
	// does not. Operations only try it, as the lock: none blocks on it
	// while its holder waits for a process that was stopped inside.
	mu        sync.Mutex
	unlocking bool // unlockLater runs
	closed    bool

	opts      *engine.Options
	kick      engine.Kick // the value may have changed
	nameWatch store.NameWatch
}

func openFlock(name string, how engine.How, o *engine.Options) (engine.Backend, error) {
	dir, err := store.Dir(o.Dir)
	if err != nil {
		return nil, err
	}
	if err := store.CheckLocal(dir); err != nil {
		return nil, err
	}
	content := append([]byte(flockMagic), 0, 0, 0, 0, 0, 0, 0, 0)
	binary.LittleEndian.PutUint32(content[len(flockMagic):], flockVersion)
	binary.LittleEndian.PutUint32(content[flockValueAt:], uint32(o.Value))
	content = append(content, name...)
	check := func(f *os.File, info fs.FileInfo) error { return checkFlockFile(f, info, name, o) }
	f, created, err := store.OpenOrPublish(dir, names.Flock+name, how, check, store.Filled(content), o)
	if err != nil {
		return nil, err
	}
	if err = store.CheckLocks(f, f.Name()); err == nil {
		err = tryCalls(f)
	}
	if err != nil {
		filelock.Close(f)
		if created && errors.Is(err, ErrUnsupported) {
			store.Remove(f.Name()) // it limits nobody here; otherwise others may use it by now
		}
		return nil, err
	}
	return newFlock(f, o), nil
}

// tryCalls makes the calls by which operations read and change the value, without changing
// it: if a seccomp filter refuses them, Open says so, and not a later Wait.
func tryCalls(f *os.File) error {
	if _, err := readFlock(f); err != nil {
		return err
	}
	if _, err := syscall.Pwrite(int(f.Fd()), nil, flockValueAt); err != nil {
		return &os.PathError{Op: "write", Path: f.Name(), Err: err}
	}
	return nil
}

func newFlock(f *os.File, o *engine.Options) *flockSemaphore {
	s := &flockSemaphore{f: f, opts: o, kick: engine.NewKick()}
	s.nameWatch.Start()
	return s
}

// checkFlockFile refuses what is no flock-counter that we may trust, or one of another name:
// whoever may write a file can give it further names by hard links, and the owner of the
// file, whom we trust, knows nothing of them.
func checkFlockFile(f *os.File, info fs.FileInfo, name string, o *engine.Options) error {
	if err := store.CheckOwner(f, info, o); err != nil {
		return err
	}
	if _, err := readFlock(f); err != nil {
		return err
	}
	made := make([]byte, maxName()+1)
	n, err := f.ReadAt(made, flockSize)
	if err != nil && err != io.EOF {
		return err
	}
	if made := string(made[:n]); made != name {
		return store.OtherName(f, made)
	}
	return store.CheckWriters(f, o) // who may have written the name
}

// readFlock reads the value and checks all else.
func readFlock(f *os.File) (uint32, error) {
	var b [flockSize]byte
	switch n, err := f.ReadAt(b[:], 0); {
	case err == io.EOF:
		return 0, engine.Because(ErrCorrupt, "%s has %d bytes; a flock-counter has %d, and its name", f.Name(), n, flockSize)
	case err != nil:
		return 0, err
	}
	if magic := string(b[:len(flockMagic)]); magic != flockMagic {
		return 0, engine.Because(ErrCorrupt, "%s begins with %q; a flock-counter begins with %q", f.Name(), magic, flockMagic)
	}
	if v := binary.LittleEndian.Uint32(b[len(flockMagic):]); v != flockVersion {
		return 0, engine.Because(ErrCorrupt, "%s is of version %d; this program knows version %d", f.Name(), v, flockVersion)
	}
	value := binary.LittleEndian.Uint32(b[flockValueAt:])
	if value > MaxValue {
		return 0, engine.Because(ErrCorrupt, "%s has the value %d; at most %d is possible", f.Name(), value, MaxValue)
	}
	return value, nil
}

func writeFlock(f *os.File, value uint32) error {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], value)
	_, err := f.WriteAt(b[:], flockValueAt)
	return err
}

// tryUpdate calls change under the lock, if that is free: else it is not done. If it
// returns an error the value is what it was.
func (s *flockSemaphore) tryUpdate(change func(value uint32) (uint32, error)) (done bool, err error) {
	if !s.mu.TryLock() {
		return false, nil
	}
	locked, err := filelock.TryLock(s.f)
	if !locked {
		s.mu.Unlock()
		return false, err
	}
	defer s.mu.Unlock()
	done, err = s.change(change)
	if e := s.unlock(); e != nil && !s.unlocking {
		// What was changed is changed, and is not to be done again.
		s.unlocking = true
		go s.unlockLater(e)
	}
	return done, err
}

// unlockLater unlocks the file as soon as the system lets it. Close unlocks too.
func (s *flockSemaphore) unlockLater(err error) {
	s.opts.Warn("the file cannot be unlocked yet", "error", err)
	for {
		time.Sleep(10 * unlockPatience)
		s.mu.Lock()
		if s.closed || filelock.Unlock(s.f) == nil {
			s.unlocking = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
	}
}

func (s *flockSemaphore) change(change func(value uint32) (uint32, error)) (done bool, err error) {
	value, err := readFlock(s.f)
	if err != nil {
		return false, err
	}
	after, err := change(value)
	if err != nil || after == value {
		return true, err
	}
	return true, writeFlock(s.f, after)
}

// unlock tries for a while: other processes wait.
func (s *flockSemaphore) unlock() (err error) {
	engine.Retry(unlockPatience, time.Millisecond, 10*time.Millisecond, func() (bool, error) {
		err = filelock.Unlock(s.f)
		return err == nil, nil
	})
	return err
}

// update is tryUpdate that waits for the lock, but no longer than patience.
// The lock is held for microseconds, except by a process that is stopped
// (SIGSTOP, a debugger) in that time.
func (s *flockSemaphore) update(patience time.Duration, change func(uint32) (uint32, error)) (done bool, err error) {
	return engine.Retry(patience, 10*time.Microsecond, time.Millisecond, func() (bool, error) { return s.tryUpdate(change) })
}

const (
	// tryPatience is how long TryWait tries to get at the file before it
	// says that it would block.
	tryPatience = time.Second
	// unlockPatience is how long an operation tries to unlock the file when the system
	// reports errors.
	unlockPatience = 100 * time.Millisecond
)

func take(value uint32) (uint32, error) {
	if value == 0 {
		return 0, ErrWouldBlock
	}
	return value - 1, nil
}

func (s *flockSemaphore) TryWait(final bool) error {
	var patience time.Duration
	if final {
		patience = tryPatience
	}
	done, err := s.update(patience, take)
	if !done && err == nil {
		return ErrWouldBlock
	}
	return err
}

func (s *flockSemaphore) Traits() engine.Traits { return engine.Traits{Polls: true, PostCanFail: true} }

func (s *flockSemaphore) Serve(t engine.Turn) {
	t.Poll(s.kick, func() { s.nameWatch.Look(s.f, s.f.Name(), s.opts) })
}

func (s *flockSemaphore) Interrupt() { s.kick.Send() }

// Post gives up where the creation of a semaphore does: whoever may open the file can lock
// it and keep the lock. Nothing is then given, and the caller may try again.
func (s *flockSemaphore) Post(n int) error {
	done, err := s.update(store.Patience, func(value uint32) (uint32, error) {
		return value + uint32(n), engine.MayPost(value, n)
	})
	s.Interrupt() // our own waiters need not wait for the next try
	if !done && err == nil {
		err = fmt.Errorf("nothing was posted: %s has been locked for %v", s.f.Name(), store.Patience)
	}
	return err
}

// value needs no lock: it reads what one pwrite wrote.
func (s *flockSemaphore) Value() (int, error) {
	value, err := readFlock(s.f)
	return int(value), err
}

func (s *flockSemaphore) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return filelock.Close(s.f)
}
