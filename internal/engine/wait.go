package engine

import (
	"os"
	"syscall"
	"time"
)

// SafetyNet is how long a permit may lie beside a sleeping server. Post wakes one
// waiter; if that one is killed before it takes the permit, the others sleep on (in
// libc they do).
const SafetyNet = time.Second

// NetDoubt is how long the safety net looks on when it has found a permit, so that it
// does not rescue a waiter that a Post is just about to wake.
const NetDoubt = 10 * time.Millisecond

// Woken ends a wait in the kernel that failed, or says that it goes on if a signal
// handler interrupted it and the options want that.
func Woken(t Turn, o *Options, call string, err error) {
	switch {
	case err == nil:
	case err == syscall.EINTR && o.RetryEINTR:
		o.Debug("retried", "after", "EINTR")
	case err == syscall.EINTR:
		t.Fail(ErrInterrupted)
	default:
		t.Fail(os.NewSyscallError(call, err))
	}
}

// A Kick makes a server that polls look at once. It holds one until that does.
type Kick chan struct{}

// NewKick returns a Kick.
func NewKick() Kick { return make(chan struct{}, 1) }

// Send leaves a kick, if there is none yet. It never blocks.
func (k Kick) Send() {
	select {
	case k <- struct{}{}:
	default:
	}
}

// Retry calls try until it reports that it is done, or fails, or patience is over:
// then done is false. Between calls it pauses for first, then for twice as long each
// time, and for most at the most.
//
// The locks that engines take are tried in this way and never waited for in the
// kernel: a process that is stopped (SIGSTOP, a debugger) while it holds one must not
// hang a thread of another. A process that was stopped itself meanwhile has not tried for
// that time, so no turn counts for more than ten of the longest pauses. On a machine so busy
// that turns do take longer, patience is longer, too.
func Retry(patience, first, most time.Duration, try func() (done bool, err error)) (done bool, err error) {
	var tried time.Duration
	for pause := first; ; pause = min(2*pause, most) {
		start := time.Now()
		if done, err = try(); done || err != nil || tried >= patience {
			return done, err
		}
		time.Sleep(min(pause, patience-tried))
		tried += min(time.Since(start), 10*most)
	}
}
