package engine

import (
	"runtime"
	"sync/atomic"
)

// maxUnfreed is how many closed handles may wait for the garbage collector before it
// is made to run. A process has 65,530 mappings (vm.max_map_count).
const maxUnfreed = 500

// unfreed counts the handles closed since the last collection of ours.
var (
	unfreed    atomic.Int64
	collecting atomic.Bool
)

// LeaveToCollector is what a handle does with its shared memory when it is closed:
// a call may still be in it. The garbage collector unmaps it. A program that opens
// and closes faster than that runs on its own would use up its mappings, so make it
// run.
func LeaveToCollector() {
	if unfreed.Add(1) > maxUnfreed && collecting.CompareAndSwap(false, true) {
		go func() {
			runtime.GC()
			unfreed.Store(0) // closed handles that the program still refers to stay
			collecting.Store(false)
		}()
	}
}
