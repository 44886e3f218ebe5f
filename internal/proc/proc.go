// Package proc reads what the system knows about processes. It alone imports gopsutil,
// which must not get into the module graph of programs that import package semaphore.
package proc

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v3/process"
)

// Usage counts what a process may leak.
type Usage struct {
	Descriptors int
	Mappings    int
	Threads     int
}

// UsageOf returns the usage of a process.
func UsageOf(pid int) (Usage, error) {
	p, err := process.NewProcess(int32(pid))
	if err != nil {
		return Usage{}, err
	}
	fds, err := p.NumFDs()
	if err != nil {
		return Usage{}, err
	}
	maps, err := p.MemoryMaps(false)
	if err != nil {
		return Usage{}, err
	}
	threads, err := p.NumThreads()
	return Usage{int(fds), len(*maps), int(threads)}, err
}

// A Process is what people want to know about a process.
type Process struct {
	PID     int
	Command string    // with its arguments, as far as they are known
	Args    []string  // of the command, one by one; nil if they are not known
	User    string    // the name, or the number if there is none
	Started time.Time // zero if unknown
}

// ErrGone means that there is no process with that id, or that it is a zombie.
var ErrGone = errors.New("no such process")

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

// startDoubt is by how much two values of a process's start may differ. Both are computed
// from the time at which the system was started, which the kernel gives in whole seconds
// and computes anew after each change of the clock.
const startDoubt = 2 * time.Second

// StartedAt reports whether the process may be the one with that id that started at that
// time. Ids are reused, and mean other processes in another pid namespace.
func (p Process) StartedAt(t time.Time) bool {
	return p.Started.Sub(t).Abs() <= startDoubt
}
