//go:build !linux

package proc

import (
	"errors"
	"os"
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

// Locks are not to be seen on this system.
type Locks struct{}

func LocksOf(*os.File, int64) (*Locks, error) { return nil, errors.ErrUnsupported }

func (*Locks) HeldBy(int) (Bytes, error) { return nil, errors.ErrUnsupported }

func (*Locks) Owners() Owners { return nil }

// OwnID returns the id that a process has for itself.
func OwnID(pid int) int { return pid }

// ChildrenOf returns nothing on this system.
func ChildrenOf(int) []int { return nil }

// UsersOf returns nothing on this system.
func UsersOf(string, os.FileInfo) []int { return nil }
