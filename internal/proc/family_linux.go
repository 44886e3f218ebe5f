package proc

import (
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ChildrenOf returns the children of a process. The kernel lists them by the thread that has started
// each, proc_tid_children(5), if it was built to.
func ChildrenOf(pid int) (children []int) {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil
	}
	for _, thread := range threads {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, thread.Name()))
		if err != nil {
			continue // it has ended
		}
		for _, field := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				children = append(children, child)
			}
		}
	}
	return children
}

// UsersOf returns the processes that have a file mapped or open, as far as they can be seen. It looks at all
// processes, and never at what their descriptors are open on, but at the name that the kernel tells.
func UsersOf(path string, info fs.FileInfo) (users []int) {
	pids, err := all()
	if err != nil {
		return nil
	}
	stat := info.Sys().(*syscall.Stat_t)
	device := fmt.Sprintf("%02x:%02x", unix.Major(uint64(stat.Dev)), unix.Minor(uint64(stat.Dev)))
	inode := fmt.Sprint(stat.Ino)
	for _, pid := range pids {
		if pid != os.Getpid() && (maps(pid, device, inode) || opens(pid, path, inode)) {
			users = append(users, pid)
		}
	}
	return users
}

// maps reports whether a process has a file mapped. proc_pid_maps(5) has lines like
//
//	7f2e5a9c0000-7f2e5a9c1000 rw-s 00000000 00:1b 3048813    /dev/shm/sem.build
func maps(pid int, device, inode string) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) >= 5 && f[3] == device && f[4] == inode {
			return true
		}
	}
	return false
}

// opens reports whether a process has a descriptor of a file of that path. In another mount namespace that may
// be another file, which only newer kernels tell, in proc_pid_fdinfo(5).
func opens(pid int, path, inode string) bool {
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, fd := range fds {
		if target, err := os.Readlink(dir + fd.Name()); err != nil || target != path {
			continue
		}
		info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, fd.Name()))
		_, after, told := strings.Cut(string(info), "\nino:\t")
		number, _, _ := strings.Cut(after, "\n")
		if err == nil && (!told || number == inode) {
			return true
		}
	}
	return false
}
