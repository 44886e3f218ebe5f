package command

import (
	"errors"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore/internal/proc"
)

// A family is what a command has started, and what that has, as far as it is to be found: what was left behind by a process that has
// ended has another parent. It has descriptors of the processes (Linux 5.3), whose numbers may be used again.
type family map[int]int

func newFamily() family { return make(family) }

// mostRounds bounds how often a family is looked for that goes on to grow, as those of another user do, which do not stop.
const mostRounds = 100

// freeze stops the command and its family, so that nobody starts anything any more, and finds all of them.
func (c child) freeze() {
	c.forward(unix.SIGSTOP)
	c.family.gather(c.pid, -1)
	c.family.freeze()
}

func (f family) freeze() {
	for range mostRounds {
		known := len(f)
		f.signal(unix.SIGSTOP)
		for pid, fd := range f {
			f.gather(pid, fd)
		}
		if len(f) == known {
			return
		}
	}
}

// gather adds those that run now below a process, which is a child of ours or has that descriptor.
func (f family) gather(pid, fd int) {
	children := proc.ChildrenOf(pid)
	if fd >= 0 && !runs(fd) {
		return // the number may have been another's
	}
	for _, id := range children {
		if known, is := f[id]; is {
			if runs(known) {
				continue
			}
			unix.Close(known)
			delete(f, id)
		}
		child, err := unix.PidfdOpen(id, 0)
		if err != nil {
			continue // it has ended
		}
		// The number was perhaps another process's by then. It is not if it is that of a child after that, too.
		if !slices.Contains(proc.ChildrenOf(pid), id) || fd >= 0 && !runs(fd) {
			unix.Close(child)
			continue
		}
		f[id] = child
	}
}

func (f family) signal(sig syscall.Signal) {
	for _, fd := range f {
		_ = unix.PidfdSendSignal(fd, sig, nil, 0)
	}
}

// runs reports whether a process has not ended.
func runs(fd int) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		if err != unix.EINTR {
			return n == 0
		}
	}
}

func (f family) anyRuns() bool {
	for _, fd := range f {
		if runs(fd) {
			return true
		}
	}
	return false
}

// endFamily asks the command to end, and what it has started. They are asked while they stand still: a shell whose command has ended would start the
// next one. Nobody sees that they stop, for all of it is done before the command is looked at again.
func (c child) endFamily() {
	c.freeze()
	c.forward(unix.SIGTERM)
	c.family.signal(unix.SIGTERM)
	c.family.signal(unix.SIGCONT)
	c.forward(unix.SIGCONT)
}

// killFamily kills them. It returns an error if the command cannot be killed.
func (c child) killFamily() error {
	c.freeze()
	err := syscall.Kill(c.pid, unix.SIGKILL)
	c.family.signal(unix.SIGKILL)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// forgetFamily is called when nothing is to happen to it any more.
func (c child) forgetFamily() {
	for pid, fd := range c.family {
		unix.Close(fd)
		delete(c.family, pid)
	}
}

// endRest waits until what the command has left, after endFamily, has ended too, and kills it when it is time.
func (c child) endRest(losing <-chan loss) {
	late := time.After(clusterAt.TTL / endingPart)
	for c.family.anyRuns() {
		select {
		case what := <-losing:
			if what == ending {
				continue
			}
			if what == regained {
				return
			}
		case <-late:
		case <-time.After(10 * time.Millisecond):
			continue
		}
		c.family.freeze()
		c.family.signal(unix.SIGKILL)
		return
	}
}
