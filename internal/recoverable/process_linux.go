//go:build !filelock_fcntl && !mips && !mipsle && (!arm || arm.7)

package recoverable

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ownStart returns when this process started, in clock ticks since the boot, as
// /proc has it, or 0.
var ownStart = sync.OnceValue(func() int64 {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0
	}
	// proc_pid_stat(5): field 22; the second one, in parentheses, may contain
	// anything.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 20 {
		return 0
	}
	ticks, _ := strconv.ParseInt(fields[19], 10, 64)
	return ticks
})

// bootTime returns when the system was started, in seconds, or 0.
var bootTime = sync.OnceValue(func() int64 {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(stat), "\nbtime ")
	line, _, _ := strings.Cut(after, "\n")
	seconds, _ := strconv.ParseInt(line, 10, 64)
	return seconds
})

// ticksPerSecond is USER_HZ, the same on all of Go's Linux systems.
const ticksPerSecond = 100

// startTime makes a time of what ownStart returns.
func startTime(ticks int64) time.Time {
	if ticks == 0 || bootTime() == 0 {
		return time.Time{}
	}
	return time.Unix(bootTime(), 0).Add(time.Duration(ticks) * time.Second / ticksPerSecond)
}
