//go:build !linux

package proc

import (
	"errors"
	"io/fs"
	"time"

	"github.com/shirou/gopsutil/v3/process"
)

func startOf(p *process.Process) time.Time {
	ms, err := p.CreateTime()
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// LocksOf finds the locks of a file, in all processes that can be seen.
func LocksOf(fs.FileInfo) (*Locks, error) { return nil, errors.ErrUnsupported }

// OwnID returns the id of a process as it sees itself.
func OwnID(pid int) int { return pid }
