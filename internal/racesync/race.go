//go:build race

// Package racesync tells the race detector of the order that semaphores make.
package racesync

import (
	"io/fs"
	"os"
	"runtime"
	"slices"
	"sync"
	"unsafe"
)

// A Sync tells the race detector of the order that semaphores make: it does
// not see what other processes, the kernel and libc do, and would accuse
// programs that guard ordinary data by two handles of one semaphore. All
// handles of one name share one address, and names in different directories have
// different ones. That an unlinked semaphore and its successor share it, or two
// directories of which one cannot be looked at, can hide a race but accuses no program.
type Sync struct{ addr *int64 }

type key struct {
	engine string
	dir    int // see dirs
	name   string
}

var addrs sync.Map // key to *int64

// New returns the Sync of a semaphore.
func New(engine, dir, name string) Sync {
	addr, _ := addrs.LoadOrStore(key{engine, number(dir), name}, new(int64))
	return Sync{addr.(*int64)}
}

// dirs are the directories that semaphores were opened in. One may have several paths.
var dirs struct {
	sync.Mutex
	seen []fs.FileInfo
}

// number returns the number of a directory.
func number(dir string) int {
	info, err := os.Stat(dir)
	if err != nil { // also if dir is "", of an engine without directories
		return -1
	}
	dirs.Lock()
	defer dirs.Unlock()
	i := slices.IndexFunc(dirs.seen, func(seen fs.FileInfo) bool { return os.SameFile(seen, info) })
	if i < 0 {
		i = len(dirs.seen)
		dirs.seen = append(dirs.seen, info)
	}
	return i
}

// Acquire comes after a permit was taken, Release before one is given.
func (r Sync) Acquire() { runtime.RaceAcquire(unsafe.Pointer(r.addr)) }
func (r Sync) Release() { runtime.RaceReleaseMerge(unsafe.Pointer(r.addr)) }
