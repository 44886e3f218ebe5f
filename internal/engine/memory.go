package semaphore

import (
	"runtime"
	"sync/atomic"
)

// unfreed counts the handles closed since the last collection of ours.
var (
	unfreed    atomic.Int64
	collecting atomic.Bool
)

// leaveToCollector is what a handle does with its shared memory when it is closed:
// a call may still be in it. The garbage collector unmaps it. A program that opens
// and closes faster than that comes by on its own would use up its mappings (65530,
// vm.max_map_count), so make it come.
func leaveToCollector() {
	if unfreed.Add(1) > 500 && collecting.CompareAndSwap(false, true) {
		go func() {
			runtime.GC()
			unfreed.Store(0) // those that the program still refers to can't be helped
			collecting.Store(false)
		}()
	}
}
