//go:build linux || windows

package semaphore

import "time"

// safetyNet is how long a permit may lie beside our sleeping server. Post wakes
// one waiter; if that one is killed before it takes the permit, the others sleep
// on (so they do in libc).
const safetyNet = time.Second

// netDoubt is how long the net looks on when it has found a permit, so that it
// does not rescue somebody whom a Post is just about to wake.
const netDoubt = 10 * time.Millisecond
