package proc

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// OtherInGroup returns a process of the process group of pid that is neither pid nor an ancestor of it, 0 if there
// is none. One that it returned before it looks at first; to tell that there is none it looks at all processes, but
// asks for no more than the group of those that are in others. known is false if the group, or the processes,
// cannot be seen from here.
func OtherInGroup(pid, before int) (other int, known bool) {
	group, err := unix.Getpgid(pid)
	if err != nil || group == 0 { // its leader is outside of our pid namespace
		return 0, false
	}
	if self, err := os.Readlink("/proc/self"); err != nil || self != fmt.Sprint(os.Getpid()) {
		return 0, false // /proc is another namespace's
	}
	if before != 0 {
		if _, is := memberOf(group, before); is {
			return before, true
		}
	}
	ids, err := all()
	if err != nil {
		return 0, false
	}
	parents := make(map[int]int)
	for _, id := range ids {
		if parent, is := memberOf(group, id); is {
			parents[id] = parent
		}
	}
	for parent, is := parents[pid]; is; parent, is = parents[pid] {
		delete(parents, pid)
		pid = parent
	}
	for other := range parents {
		return other, true
	}
	return 0, true
}

// memberOf reports whether a process belongs to a process group and is no zombie, and returns its parent.
func memberOf(group, pid int) (parent int, is bool) {
	if its, err := unix.Getpgid(pid); err != nil || its != group {
		return 0, false
	}
	if pid == os.Getpid() {
		return os.Getppid(), true // which QEMU's /proc of a program that it emulates does not tell
	}
	f := statOf(pid)
	if len(f) < 2 || f[0] == "Z" || f[0] == "X" {
		return 0, false
	}
	parent, err := strconv.Atoi(f[1])
	return parent, err == nil
}
