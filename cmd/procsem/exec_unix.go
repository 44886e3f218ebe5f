//go:build unix

package main

import (
	"os"
	"os/exec"
	"syscall"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/exitsignal"
	"golang.org/x/sys/unix"
)

// leastLockDescriptor keeps the lock file away from the descriptors that shell
// scripts give numbers (exec 9>file) and would close.
const leastLockDescriptor = 10

// A leash is the semaphore's lock in the hands of the command: while that lives the
// permit stays taken, even if procsem is killed.
type leash struct{}

func newLeash() (leash, error) { return leash{}, nil }

func (leash) attach(s *semaphore.Semaphore) (release func(), err error) {
	if kindOf(s) != kindRecoverable {
		return func() {}, nil // it has no lock
	}
	return inheritLock(s)
}

func shellCommand(line string) *exec.Cmd { return exec.Command("sh", "-c", line) }

// inheritLock makes a descriptor of the semaphore's lock file that the next
// program inherits, be it by fork or by exec. done closes ours.
//
// It is not one of exec.Cmd.ExtraFiles, which become 3 and up in the command,
// in place of what procsem itself may have got there to pass on (make's
// jobserver, 3<file).
func inheritLock(s *semaphore.Semaphore) (done func(), err error) {
	f, err := s.LockFile()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD, leastLockDescriptor)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return func() { unix.Close(fd) }, nil
}

const canBecome = true

// become makes of this process the command, which inherits the permit with the
// lock. It returns only if that fails.
func become(s *semaphore.Semaphore, command *exec.Cmd, w *watcher) error {
	if command.Err != nil {
		return startError(command.Args[0], command.Err)
	}
	done, err := inheritLock(s)
	if err != nil {
		return err
	}
	defer done()
	// From here on signals do to us what they would do to a command that has
	// just begun. The kernel resets, for the command, what we catch, and leaves
	// ignored what was ignored.
	for _, sig := range w.heard {
		exitsignal.SetDefault(sig)
	}
	if heard := append(w.early, w.stop()...); len(heard) > 0 {
		return signalled{heard[0]}
	}
	err = syscall.Exec(command.Path, command.Args, os.Environ())
	return startError(command.Args[0], &os.PathError{Op: "exec", Path: command.Path, Err: err})
}
