//go:build !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package recoverable

import (
	"hash/fnv"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore/internal/permits"
)

// moment returns the time of day, and how long the system has been up, asleep or not.
func moment() permits.Moment {
	now := permits.Moment{Wall: time.Now().UnixNano()}
	var up unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) == nil {
		now.Up, now.Boot = up.Nano(), boot()
	}
	return now
}

// boot returns a number of this boot and of the time namespace, in which the clock of the boot may be
// another one; 0 if they are not known.
var boot = sync.OnceValue(func() uint64 {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return 0
	}
	namespace, _ := os.Readlink("/proc/self/ns/time") // none before Linux 5.6
	sum := fnv.New64a()
	sum.Write(id)
	sum.Write([]byte(namespace))
	return sum.Sum64()
})
