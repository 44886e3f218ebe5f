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

// LocksOf returns the locks of a file, as far as processes can be seen.
func LocksOf(fs.FileInfo) (*Locks, error) { return nil, errors.ErrUnsupported }

// OwnID returns the id that a process has for itself.
func OwnID(pid int) int { return pid }
