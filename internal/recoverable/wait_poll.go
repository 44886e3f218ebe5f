//go:build ((unix && !aix && !filelock_fcntl) || windows) && !mips && !mipsle && (!arm || arm.7)

package recoverable

import (
	"runtime"
	"time"

	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/testhook"
)

// hasWait says that a server can sleep until it is woken (wait.go).
const hasWait = runtime.GOOS == "linux" || runtime.GOOS == "windows"

func (h *handle) polls() bool { return !hasWait || testhook.Polling.Load() }

// probePause is how often a server that polls checks all owners.
const probePause = 100 * time.Millisecond

// servePolling is Serve where no server can be woken.
func (h *handle) servePolling(t engine.Turn) {
	h.owner.Poll(true)
	defer h.owner.Poll(false)
	t.Enroll(h.owner.Ticket, h.owner.Vain)
	defer t.Enroll(nil, nil)
	t.Poll(h.kick, func() {
		if h.scanIsDue(probePause) && h.owner.Reap(true).Freed > 0 {
			h.kick.Send()
		}
		h.name.Look(h.f, h.path, h.opts)
	})
}
