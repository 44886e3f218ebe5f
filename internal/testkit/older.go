//go:build unix || windows

package testkit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/procsem/semaphore/internal/filelock"
	"github.com/procsem/semaphore/internal/permits"
)

// An Older is the file of a recoverable semaphore of an older version of its format, in which the
// owner with slot 0 has one permit. It is dead, unless Hold is called.
type Older struct {
	Path     string
	Content  []byte
	LockFile string // of the slot; "" if the lock is a byte's
}

// The places in files of versions 1 and 2.
const (
	olderSlots = 4096
	olderWords = olderSlots + permits.MaxSlots*64
	olderSize  = olderWords + (permits.MaxPermits+1)*8
)

// LimitSet is added to the limit of an Older that an operator has set.
const LimitSet = 1 << 16

// MakeOlder makes the file of a semaphore.
func MakeOlder(t testing.TB, name string, version, limit int, mode os.FileMode) *Older {
	t.Helper()
	o := &Older{Path: StoreFile(Recoverable, name), Content: make([]byte, olderSize)}
	f, err := os.OpenFile(o.Path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	Must(t, err)
	defer f.Close()
	Must(t, f.Chmod(mode)) // whatever the umask
	locks, id := permits.ByteLocks, rand.Uint64()
	if runtime.GOOS == "windows" {
		locks = permits.RangeLocks
	} else if _, err := filelock.ByteLocked(f, olderSize, 1); errors.Is(err, errors.ErrUnsupported) {
		locks = permits.FileLocks
		o.LockFile = filepath.Join(filepath.Dir(o.Path), fmt.Sprintf("rlk.%016x.0", id))
		Must(t, os.WriteFile(o.LockFile, nil, mode))
		t.Cleanup(func() { os.Remove(o.LockFile) })
	}
	put := func(at int, what any) {
		_, err := binary.Encode(o.Content[at:], binary.NativeEndian, what)
		Must(t, err)
	}
	const slot, gen = 0, 3
	put(0, uint64(0x016d6573636f7270))
	put(8, []uint32{uint32(version), uint32(locks)})
	put(16, id)
	put(64, uint64(limit))
	put(72, []uint32{uint32(max(1, limit&(LimitSet-1))), slot + 1})
	if version > 1 {
		copy(o.Content[320:], name)
	}
	put(olderSlots+slot*64, []uint32{1<<31 | 4711, 1}) // its end would be reported; used
	put(olderSlots+slot*64+8, uint64(gen))
	put(olderWords, uint64(slot)<<48|gen<<1)
	// The rest is a hole.
	Must(t, f.Truncate(olderSize))
	for _, at := range []int64{0, olderSlots, olderWords} {
		_, err := f.WriteAt(o.Content[at:][:4096], at)
		Must(t, err)
	}
	return o
}

// Hold takes the lock of the slot, so that its owner lives, or that of the claim.
func (o *Older) Hold(t testing.TB, claim bool) (release func()) {
	t.Helper()
	path, at := o.Path, int64(olderSize+1)
	if claim {
		at = olderSize
	} else if o.LockFile != "" {
		path = o.LockFile
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	Must(t, err)
	lock := func() (bool, error) { return filelock.TryLockByte(f, at) }
	if o.LockFile != "" {
		lock = func() (bool, error) { return lockWhole(f) }
	}
	if locked, err := lock(); !locked {
		f.Close()
		t.Fatalf("the lock of %s: %v", path, err)
	}
	return func() { filelock.Close(f) }
}

// Unchanged fails the test if the file is not the same and as it was.
func (o *Older) Unchanged(t testing.TB, what string) {
	t.Helper()
	if now, err := os.ReadFile(o.Path); err != nil || string(now) != string(o.Content) {
		t.Errorf("%s: the file was changed, or replaced (%v)", what, err)
	}
}

// VersionOf returns the version of the file of a recoverable semaphore.
func VersionOf(t testing.TB, name string) uint32 {
	t.Helper()
	content, err := os.ReadFile(StoreFile(Recoverable, name))
	Must(t, err)
	return binary.NativeEndian.Uint32(content[8:])
}
