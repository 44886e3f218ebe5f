package recoverable

import (
	"sync"
	"time"

	"golang.org/x/sys/windows"
)

// startOf returns when a process started, as a FILETIME.
func startOf(process windows.Handle) (int64, error) {
	var created, ended, kernel, user windows.Filetime
	err := windows.GetProcessTimes(process, &created, &ended, &kernel, &user)
	return int64(created.HighDateTime)<<32 | int64(created.LowDateTime), err
}

// ownStart returns when this process started, or 0.
var ownStart = sync.OnceValue(func() int64 {
	started, err := startOf(windows.CurrentProcess())
	if err != nil {
		return 0
	}
	return started
})

// startTime makes a time of what ownStart returns.
func startTime(started int64) time.Time {
	if started == 0 {
		return time.Time{}
	}
	t := windows.Filetime{LowDateTime: uint32(started), HighDateTime: uint32(started >> 32)}
	return time.Unix(0, t.Nanoseconds())
}
