//go:build race

package semaphore

import (
	"io/fs"
	"os"
	"runtime"
	"slices"
	"sync"
	"unsafe"
)

// raceSync tells the race detector of the order that semaphores make: it does
// not see what other processes, the kernel and libc do, and would accuse
// programs that guard ordinary data by two handles of one semaphore. All
// handles of one name share one address, and names in different directories have
// different ones. That an unlinked semaphore and its successor share it, or two
// directories of which one cannot be looked at, can hide a race but accuses no program.
type raceSync struct{ addr *int64 }

type raceKey struct {
	engine string
	dir    int // see raceDirs
	name   string
}

var raceAddrs sync.Map // raceKey to *int64

func newRaceSync(engine, dir, name string) raceSync {
	addr, _ := raceAddrs.LoadOrStore(raceKey{engine, raceDir(dir), name}, new(int64))
	return raceSync{addr.(*int64)}
}

// raceDirs are the directories that semaphores were opened in. One may have several paths.
var raceDirs struct {
	sync.Mutex
	seen []fs.FileInfo
}

// raceDir returns the number of a directory.
func raceDir(dir string) int {
	info, err := os.Stat(dir)
	if err != nil { // also if dir is "", of an engine without directories
		return -1
	}
	raceDirs.Lock()
	defer raceDirs.Unlock()
	i := slices.IndexFunc(raceDirs.seen, func(seen fs.FileInfo) bool { return os.SameFile(seen, info) })
	if i < 0 {
		i = len(raceDirs.seen)
		raceDirs.seen = append(raceDirs.seen, info)
	}
	return i
}

// acquire comes after a permit was taken, release before one is given.
func (r raceSync) acquire() { runtime.RaceAcquire(unsafe.Pointer(r.addr)) }
func (r raceSync) release() { runtime.RaceReleaseMerge(unsafe.Pointer(r.addr)) }
