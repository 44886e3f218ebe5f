//go:build race

package semaphore

import (
	"runtime"
	"sync"
	"unsafe"
)

// raceSync tells the race detector of the order that semaphores make: it does
// not see what other processes, the kernel and libc do, and would accuse
// programs that guard ordinary data by two handles of one semaphore. All
// handles of one name share one address. That an unlinked semaphore and its
// successor share it too can hide a race but accuses no program.
type raceSync struct{ addr *int64 }

var raceAddrs sync.Map // name to *int64

func newRaceSync(key string) raceSync {
	addr, _ := raceAddrs.LoadOrStore(key, new(int64))
	return raceSync{addr.(*int64)}
}

// acquire comes after a permit was taken, release before one is given.
func (r raceSync) acquire() { runtime.RaceAcquire(unsafe.Pointer(r.addr)) }
func (r raceSync) release() { runtime.RaceReleaseMerge(unsafe.Pointer(r.addr)) }
