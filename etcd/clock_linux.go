package etcd

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// sinceBoot returns the time since the machine was started, that of suspensions included.
func sinceBoot() (time.Duration, bool) {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0, false
	}
	return time.Duration(ts.Nano()), true
}

func machineSinceBoot() string {
	if _, ok := sinceBoot(); !ok {
		return ""
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	// Each time namespace has a clock of its own.
	namespace, err := os.Readlink("/proc/self/ns/time")
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // the kernel has none before 5.6
		return ""
	}
	return strings.TrimSpace(string(boot)) + strings.TrimPrefix(namespace, "time:")
}
