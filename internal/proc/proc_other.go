//go:build !linux

package proc

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v3/process"
)

// Look returns what the system knows about a running process.
func Look(pid int) (Process, error) {
	p, err := process.NewProcess(int32(pid))
	if errors.Is(err, process.ErrorProcessNotRunning) {
		return Process{}, ErrGone
	}
	if err != nil {
		return Process{}, err
	}
	if status, err := p.Status(); err == nil && slices.Contains(status, process.Zombie) {
		return Process{}, ErrGone
	}
	seen := Process{PID: pid, Started: startOf(p)}
	if args, err := p.CmdlineSlice(); err == nil && len(args) > 0 {
		seen.Command, seen.Args = strings.Join(args, " "), args
	} else if name, err := p.Name(); err == nil {
		seen.Command = "[" + name + "]" // as ps(1) shows it
	}
	if name, err := p.Username(); err == nil {
		seen.User = name
	} else if ids, err := p.Uids(); err == nil && len(ids) > 0 {
		seen.User = fmt.Sprint(ids[0])
	}
	if there, err := p.IsRunning(); err == nil && !there {
		return Process{}, ErrGone
	}
	return seen, nil
}

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
