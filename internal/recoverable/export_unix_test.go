//go:build unix && !aix && !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package recoverable

import (
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"github.com/procsem/semaphore/internal/engine"
)

// OpenHandle makes a handle of an open file, as if it had been opened by the path.
func OpenHandle(f *os.File, path string) (engine.Backend, error) {
	return newHandle(f, nil, path, &engine.Options{Create: true, Value: 1, Mode: 0o600}, (*handle).join)
}

// SeenThrough returns what Open checks at its end, of a handle that is open, and the byte of
// its slot's lock.
func SeenThrough(backend any, second *os.File) (slot int, err error) {
	h := backend.(*handle)
	return h.owner.Slot(), h.isSeen(second)
}

// countedLocks count how often they are asked whether an owner lives.
type countedLocks struct {
	slotLocks
	looks atomic.Int64
}

func (c *countedLocks) alive(slot int) (bool, error) {
	c.looks.Add(1)
	return c.slotLocks.alive(slot)
}

// CountLooks counts the owners whose locks a handle asks for from here on.
func CountLooks(backend any) *atomic.Int64 {
	h := backend.(*handle)
	c := &countedLocks{slotLocks: h.locks}
	h.locks = c
	return &c.looks
}

// Age makes the last look of a handle at all owners longer ago than a second.
func Age(backend any) { backend.(*handle).scanned.Add(-int64(2 * time.Second)) }

// TrustsLockFile reports whether a lock file is trusted that has that owner and group, of a
// semaphore with the owner, group and mode; byGroup says that a group is evidence.
func TrustsLockFile(owner, group uint32, mode fs.FileMode, byGroup bool, uid, gid uint32) bool {
	return sharing{uid: owner, gid: group, mode: mode, byGroup: byGroup}.trusts(uid, gid)
}

// GroupTells reports whether a lock file's group says that a member of the semaphore's group
// has made it, of a semaphore in a directory.
func GroupTells(f *os.File, dir string) (bool, error) {
	s, err := sharingOf(f, dir)
	return s.byGroup, err
}
