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
	"sync/atomic"
	"syscall"
	"time"

	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/names"
)

// The flock-counter: a file of 16 bytes whose last four are the value,
//
//	0  magic "flocksem"
//	8  version, 1
//	12 value
//
// both numbers little-endian on every machine, so that programs of different
// architectures on one machine agree. The value is read by one pread and
// written by one pwrite of four bytes, both under the file's lock; a process
// that is killed at any moment leaves the old value or the new one, and the
// kernel drops its lock. Magic and version never change, and the file gets its
// name when it is whole (publish): there is no other half-way state.
const (
	flockMagic   = "flocksem"
	flockVersion = 1
	flockSize    = 16
	flockValueAt = 12
)

var flockKind = &kind{
	engine: EngineFlock,
	store:  "flock",
	open:   openFlock,
	exists: func(name string) (bool, error) {
		path, err := flockPath(name)
		if err != nil {
			return false, err
		}
		return fileExists(path)
	},
	unlink: func(name string) error {
		path, err := flockPath(name)
		if err != nil {
			return err
		}
		return removeFile(path)
	},
}

func flockPath(name string) (string, error) {
	dir, err := storeDir()
	return filepath.Join(dir, names.Flock+name), err
}

type flockSemaphore struct {
	f *os.File

	// mu keeps this handle's goroutines apart, whom the lock of one open file
	// does not. It is only ever tried, as the lock is: nobody blocks on it
	// while its holder waits for a process that was stopped inside.
	mu sync.Mutex

	opts *options
	kick chan struct{} // holds one: there may be news for those who wait

	looked   atomic.Int64 // when we last looked whether the name is gone, Unix time
	vanished atomic.Bool  // the warning that it is was given
}

func openFlock(name string, how openHow, o *options) (backend, error) {
	dir, err := storeDir()
	if err != nil {
		return nil, err
	}
	if err := checkLocal(dir); err != nil {
		return nil, err
	}
	content := append([]byte(flockMagic), 0, 0, 0, 0, 0, 0, 0, 0)
	binary.LittleEndian.PutUint32(content[len(flockMagic):], flockVersion)
	binary.LittleEndian.PutUint32(content[flockValueAt:], uint32(o.value))
	check := func(f *os.File) error { return checkFlockFile(f, o) }
	f, err := openOrPublish(dir, names.Flock+name, how, check, filled(content), o.mode)
	if err != nil {
		return nil, err
	}
	return newFlock(f, o), nil
}

func newFlock(f *os.File, o *options) *flockSemaphore {
	s := &flockSemaphore{f: f, opts: o, kick: make(chan struct{}, 1)}
	s.looked.Store(time.Now().Unix())
	return s
}

// checkFlockFile refuses what is no flock-counter that we may trust.
func checkFlockFile(f *os.File, o *options) error {
	if err := checkOwner(f, o); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() != flockSize {
		return because(ErrCorrupt, "%s has %d bytes; a flock-counter has %d", f.Name(), info.Size(), flockSize)
	}
	_, err = readFlock(f)
	return err
}

// checkOwner refuses the file of somebody who may have put it there for us to
// find: whose it is decides whom it limits. Who is root can't be tricked into
// more than root's own files could; who only opens, or shares its semaphore
// with others by its mode, expects other owners.
func checkOwner(f *os.File, o *options) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	owner := int(info.Sys().(*syscall.Stat_t).Uid)
	me := os.Geteuid()
	shares := o.mode&0o022 != 0
	if owner == me || owner == 0 || me == 0 || !o.create || shares {
		return nil
	}
	return fmt.Errorf("%w: it belongs to user %d, and would not have been created with a mode that lets others write; open it with WithCreate(false), or with WithMode(0666) or similar if it is to be shared",
		fs.ErrPermission, owner)
}

// readFlock reads the value and checks all else.
func readFlock(f *os.File) (uint32, error) {
	var b [flockSize]byte
	switch n, err := f.ReadAt(b[:], 0); {
	case err == io.EOF:
		return 0, because(ErrCorrupt, "%s has been cut to %d bytes", f.Name(), n)
	case err != nil:
		return 0, err
	}
	if magic := string(b[:len(flockMagic)]); magic != flockMagic {
		return 0, because(ErrCorrupt, "%s begins with %q; a flock-counter begins with %q", f.Name(), magic, flockMagic)
	}
	if v := binary.LittleEndian.Uint32(b[len(flockMagic):]); v != flockVersion {
		return 0, because(ErrCorrupt, "%s is of version %d; this program knows version %d", f.Name(), v, flockVersion)
	}
	value := binary.LittleEndian.Uint32(b[flockValueAt:])
	if value > MaxValue {
		return 0, because(ErrCorrupt, "%s has the value %d; at most %d is possible", f.Name(), value, MaxValue)
	}
	return value, nil
}

func writeFlock(f *os.File, value uint32) error {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], value)
	_, err := f.WriteAt(b[:], flockValueAt)
	return err
}

// errLocked is what tryUpdate returns when somebody else is at the file.
var errLocked = errors.New("semaphore file is locked")

// tryUpdate calls change under the lock, if that is free.
func (s *flockSemaphore) tryUpdate(change func(value uint32) (uint32, error)) (err error) {
	if !s.mu.TryLock() {
		return errLocked
	}
	defer s.mu.Unlock()
	locked, err := filelock.TryLock(s.f)
	if err != nil {
		return err
	}
	if !locked {
		return errLocked
	}
	defer func() {
		if e := filelock.Unlock(s.f); err == nil {
			err = e
		}
	}()
	value, err := readFlock(s.f)
	if err != nil {
		return err
	}
	after, err := change(value)
	if err != nil || after == value {
		return err
	}
	return writeFlock(s.f, after)
}

// update is tryUpdate that waits for the lock, but no longer than patience.
// The lock is held for microseconds, except by a process that is stopped
// (SIGSTOP, a debugger) in that time.
func (s *flockSemaphore) update(patience time.Duration, change func(uint32) (uint32, error)) error {
	start := time.Now()
	for pause := 10 * time.Microsecond; ; pause = min(2*pause, time.Millisecond) {
		err := s.tryUpdate(change)
		if err != errLocked || time.Since(start) >= patience {
			return err
		}
		time.Sleep(pause)
	}
}

const (
	// tryPatience is how long TryWait tries to get at the file before it
	// says that it would block.
	tryPatience = time.Second
	// forEver is for Post, which must not fail for such a reason.
	forEver = 1<<63 - 1
)

func take(value uint32) (uint32, error) {
	if value == 0 {
		return 0, ErrWouldBlock
	}
	return value - 1, nil
}

func (s *flockSemaphore) tryWait(final bool) error {
	var patience time.Duration
	if final {
		patience = tryPatience
	}
	err := s.update(patience, take)
	if err == errLocked {
		return ErrWouldBlock
	}
	return err
}

func (s *flockSemaphore) serve(t *turn) { t.poll(s.kick, s.warnIfVanished) }

func (s *flockSemaphore) polls() bool { return true }

// warnIfVanished looks, once a second at the most, whether the file's name was
// removed, and tells the log, once: who opens it now gets another semaphore, and
// the limit is doubled.
func (s *flockSemaphore) warnIfVanished() {
	now := time.Now().Unix()
	if s.looked.Swap(now) == now {
		return
	}
	info, err := s.f.Stat()
	if err != nil || info.Sys().(*syscall.Stat_t).Nlink > 0 || s.vanished.Swap(true) {
		return
	}
	s.opts.warn("the name was removed; new openers get another semaphore", "path", s.f.Name())
}

func (s *flockSemaphore) interrupt() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

func (s *flockSemaphore) post() error {
	err := s.update(forEver, func(value uint32) (uint32, error) {
		if value == MaxValue {
			return 0, ErrOverflow
		}
		return value + 1, nil
	})
	s.interrupt() // our own waiters need not wait for the next try
	return err
}

// value needs no lock: it reads what one pwrite wrote.
func (s *flockSemaphore) value() (int, error) {
	value, err := readFlock(s.f)
	return int(value), err
}

func (s *flockSemaphore) close() error { return filelock.Close(s.f) }
