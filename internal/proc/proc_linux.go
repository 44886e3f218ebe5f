package proc

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v3/process"
)

// startOf computes the start as package semaphore does, from the start of the system in
// /proc/stat. gopsutil uses /proc/uptime instead, which in LXC containers is that of the
// container, while the processes' ticks are those of the machine.
func startOf(p *process.Process) time.Time {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid))
	if err != nil {
		return time.Time{}
	}
	// proc_pid_stat(5): field 22. Field 2, in parentheses, may contain anything.
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(f) < 20 {
		return time.Time{}
	}
	ticks, err := strconv.ParseInt(f[19], 10, 64)
	if err != nil {
		return time.Time{}
	}
	system, err := os.ReadFile("/proc/stat")
	if err != nil {
		return time.Time{}
	}
	_, after, _ := strings.Cut(string(system), "\nbtime ")
	line, _, _ := strings.Cut(after, "\n")
	boot, err := strconv.ParseInt(line, 10, 64)
	if err != nil {
		return time.Time{}
	}
	const ticksPerSecond = 100 // USER_HZ, the same on all of Go's Linux systems
	return time.Unix(boot, 0).Add(time.Duration(ticks) * time.Second / ticksPerSecond)
}

// LocksOf returns the locks of a file, as far as processes can be seen.
func LocksOf(file fs.FileInfo) (*Locks, error) {
	pids, err := process.Pids()
	if err != nil {
		return nil, err
	}
	slices.Sort(pids)
	l := &Locks{make(map[int64][]int), make(map[int]bool)}
	for _, pid := range pids {
		if err := l.add(int(pid), file); errors.Is(err, fs.ErrPermission) {
			l.Hidden[int(pid)] = true
		}
	}
	return l, nil
}

func (l *Locks) add(pid int, file fs.FileInfo) error {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, fd := range fds {
		link := dir + "/" + fd.Name()
		// The path serves only to tell files from pipes: a file that was created
		// without a name keeps the path that it had then, and other mount namespaces
		// have other paths.
		path, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(path, "/") {
			continue
		}
		if info, err := os.Stat(link); err != nil || !os.SameFile(info, file) {
			continue
		}
		// For the description that has the lock, proc_pid_fdinfo(5) shows
		//	lock:	1: OFDLCK ADVISORY  WRITE -1 00:1b:3048813 835585 835585
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, fd.Name()))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) != 9 || f[0] != "lock:" || f[2] != "OFDLCK" {
				continue
			}
			at, err := strconv.ParseInt(f[7], 10, 64)
			if err == nil && !slices.Contains(l.Owners[at], pid) {
				l.Owners[at] = append(l.Owners[at], pid)
			}
		}
	}
	return nil
}

// OwnID returns the id that a process has for itself. If it is in another pid namespace,
// that is not the id that we see.
func OwnID(pid int) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return pid
	}
	_, after, found := strings.Cut(string(status), "\nNSpid:")
	line, _, _ := strings.Cut(after, "\n")
	ids := strings.Fields(line)
	if !found || len(ids) == 0 {
		return pid
	}
	if id, err := strconv.Atoi(ids[len(ids)-1]); err == nil {
		return id
	}
	return pid
}
