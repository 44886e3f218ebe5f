//go:build ((unix && !linux && !aix && !filelock_fcntl) || windows) && !mips && !mipsle && (!arm || arm.7)

package recoverable

import (
	"time"

	"github.com/procsem/semaphore/internal/permits"
)

// moment returns the time of day alone: no clock that is never set says which boot it counts from.
func moment() permits.Moment { return permits.Moment{Wall: time.Now().UnixNano()} }
