package proc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Look returns what the system knows about a running process.
func Look(pid int) (Process, error) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return Process{}, ErrGone
	} else if err != nil {
		return Process{}, err
	}
	seen := Process{PID: pid}
	stat := statOf(pid) // nil with hidepid=1, proc_pid(5): then nothing else is known either
	if len(stat) > startField {
		if stat[0] == "Z" || stat[0] == "X" {
			return Process{}, ErrGone
		}
		seen.Started = startTime(stat[startField])
	}
	if line, err := os.ReadFile(dir + "cmdline"); err == nil && len(line) > 0 {
		seen.Args = strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
		// A program that writes a title over its arguments fills the rest with NULs.
		seen.Command = strings.TrimRight(strings.Join(seen.Args, " "), " ")
	} else if name, err := os.ReadFile(dir + "comm"); err == nil {
		seen.Command = "[" + strings.TrimSuffix(string(name), "\n") + "]" // as ps(1) shows it
	}
	if ids := statusOf(pid, "Uid"); len(ids) > 0 { // the first is the real one
		seen.User = ids[0]
		if u, err := user.LookupId(ids[0]); err == nil {
			seen.User = u.Username
		}
	}
	// Meanwhile the process may have ended, and another one have got its id.
	var gone bool
	switch again := statOf(pid); {
	case len(again) != len(stat):
		gone = true
	case len(stat) > startField:
		gone = again[startField] != stat[startField]
	default:
		_, err := os.Stat(dir)
		gone = err != nil
	}
	if gone {
		return Process{}, ErrGone
	}
	return seen, nil
}

// startField is the field of statOf that has the start in ticks after the system's: the 22nd of proc_pid_stat(5).
const startField = 22 - 3

// startTime computes a start as package semaphore does, from that of the system in /proc/stat. In
// /proc/uptime there would be, in LXC containers, that of the container, while the ticks are those of the machine.
func startTime(ticks string) time.Time {
	n, err := strconv.ParseInt(ticks, 10, 64)
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
	return time.Unix(boot, 0).Add(time.Duration(n) * time.Second / ticksPerSecond)
}

// all returns the ids of all processes that can be seen.
func all() (pids []int, err error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// statOf returns the fields of proc_pid_stat(5) from the third on, nil if they cannot be read. The second one, in
// parentheses, may contain anything.
func statOf(pid int) []string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
}

// Locks finds the processes that have open-file-description locks of a file. Such a lock
// belongs to all processes with a descriptor of the description that took it.
type Locks struct {
	file string // as lines of locks name it
}

// LocksOf returns the locks of f, or errors.ErrUnsupported if the kernel does not show any.
// To learn what name the kernel has for the file, which on some filesystems is not that of
// stat(2), it takes the lock of the byte mark for a moment, shared: nobody must have a use for
// that byte. f need not be open for writing.
func LocksOf(f *os.File, mark int64) (*Locks, error) {
	lock := unix.Flock_t{Type: unix.F_RDLCK, Whence: io.SeekStart, Start: mark, Len: 1}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
		return nil, err
	}
	lines := locksIn(os.Getpid(), fmt.Sprint(f.Fd()))
	lock.Type = unix.F_UNLCK
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
		return nil, err
	}
	for _, l := range lines {
		if l.bytes.has(mark) {
			return &Locks{l.file}, nil
		}
	}
	return nil, errors.ErrUnsupported
}

// HeldBy returns the bytes that a process has locked. It looks at descriptors of that process
// alone, and never at what they are open on, which may be a file of a server that does not
// answer.
func (l *Locks) HeldBy(pid int) (held Bytes, err error) {
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fdinfo", pid))
	if err != nil {
		return nil, err
	}
	for _, fd := range fds {
		for _, line := range locksIn(pid, fd.Name()) {
			if line.file == l.file {
				held = append(held, line.bytes)
			}
		}
	}
	return held, nil
}

// Owners returns what each process has locked of the file, as far as processes can be seen. It
// looks at all processes.
func (l *Locks) Owners() Owners {
	pids, err := all()
	if err != nil {
		return nil
	}
	owners := Owners{}
	for _, pid := range pids {
		if held, _ := l.HeldBy(pid); held != nil {
			owners[pid] = held
		}
	}
	return owners
}

type lockLine struct {
	file  string
	bytes span
}

// locksIn returns the locks that a descriptor's description has. For each proc_pid_fdinfo(5)
// shows
//
//	lock:	1: OFDLCK ADVISORY  WRITE -1 00:1b:3048813 835585 835585
//
// with the first and the last byte, or EOF. Locks of neighbouring bytes are one line.
func locksIn(pid int, fd string) (lines []lockLine) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, fd))
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 9 || f[0] != "lock:" || f[2] != "OFDLCK" {
			continue
		}
		first, err := strconv.ParseInt(f[7], 10, 64)
		if err != nil {
			continue
		}
		last, err := strconv.ParseInt(f[8], 10, 64)
		if err != nil { // EOF
			last = math.MaxInt64
		}
		lines = append(lines, lockLine{f[6], span{first, last}})
	}
	return lines
}

// OwnID returns the id that a process has for itself. If it is in another pid namespace,
// that is not the id that we see.
func OwnID(pid int) int {
	if ids := statusOf(pid, "NSpid"); len(ids) > 0 {
		if id, err := strconv.Atoi(ids[len(ids)-1]); err == nil {
			return id
		}
	}
	return pid
}

// statusOf returns the fields of a line of proc_pid_status(5), nil if there is none.
func statusOf(pid int, key string) []string {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil
	}
	_, after, found := strings.Cut(string(status), "\n"+key+":")
	if !found {
		return nil
	}
	line, _, _ := strings.Cut(after, "\n")
	return strings.Fields(line)
}
