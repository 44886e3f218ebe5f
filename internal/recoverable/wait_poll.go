//go:build unix && !aix && !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package semaphore

import "time"

// probePause is how often those who poll look for the dead.
const probePause = 100 * time.Millisecond

// servePolling is serve where nobody can be woken.
func (r *recoverable) servePolling(t *turn) {
	r.own.Poll(true)
	defer r.own.Poll(false)
	t.poll(r.kick, func() {
		now := ticks()
		if before := r.probed.Load(); now-before > int64(probePause) && r.probed.CompareAndSwap(before, now) {
			if r.own.Reap(true).Freed > 0 {
				r.nudge()
			}
		}
		r.warnIfVanished()
	})
}
