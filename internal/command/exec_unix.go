//go:build unix

package command

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/engine"
	"github.com/procsem/semaphore/internal/exitsignal"
	"github.com/procsem/semaphore/internal/startsignals"
	"golang.org/x/sys/unix"
)

// leastLockDescriptor is above the descriptors that shell scripts choose by number
// (exec 9>file), so that a script does not replace the lock file with its own.
const leastLockDescriptor = 10

// A leash ties the permit to the command, which inherits the semaphore's lock: while
// the command runs, the permit stays taken, even if procsem is killed.
type leash struct{}

func newLeash() (leash, error) { return leash{}, nil }

func (leash) attach(all []*semaphore.Semaphore) (release func(), err error) {
	if kindOf(all[0]) != kindRecoverable {
		return func() {}, nil // a bare count has no lock
	}
	return inheritLocks(all)
}

// shell is the file by which system(3) and execvp(3) run the shell, whatever PATH is.
var shell = map[bool]string{true: "/system/bin/sh", false: "/bin/sh"}[runtime.GOOS == "android"]

func shellCommand(line string) *exec.Cmd { return exec.Command(shell, "-c", line) }

// programCommand finds a program as execvp(3) does, which env, nice and flock use.
// os/exec differs if PATH is not set, or empty.
func programCommand(name string, args ...string) *exec.Cmd {
	command := exec.Command(name, args...)
	if errors.Is(command.Err, exec.ErrNotFound) {
		for _, dir := range searchPath() {
			if path, err := exec.LookPath(dir + "/" + name); err == nil {
				command.Path, command.Err = path, nil
				break
			}
		}
	}
	return command
}

// searchPath returns the directories in which programs are searched for.
func searchPath() []string {
	switch path, set := os.LookupEnv("PATH"); {
	case !set:
		return []string{"/bin", "/usr/bin"}
	case path == "":
		return []string{"."}
	default:
		return filepath.SplitList(path)
	}
}

// interpreted returns the command by which a program is run after the kernel has refused
// it with an error: as in execvp(3) a file of no known format is a shell script without
// "#!". For other errors interpreted returns nil.
func interpreted(command *exec.Cmd, err error) *exec.Cmd {
	if !errors.Is(err, syscall.ENOEXEC) {
		return nil
	}
	script := exec.Command(shell, append([]string{command.Path}, command.Args[1:]...)...)
	script.Env, script.Stdin, script.Stdout, script.Stderr = command.Env, command.Stdin, command.Stdout, command.Stderr
	return script
}

// inheritLocks is inheritLock of several semaphores.
func inheritLocks(all []*semaphore.Semaphore) (done func(), err error) {
	var each []func()
	done = func() {
		for _, d := range each {
			d()
		}
	}
	for _, s := range all {
		d, err := inheritLock(s)
		if err != nil {
			done()
			return nil, err
		}
		each = append(each, d)
	}
	return done, nil
}

// inheritLock makes a descriptor of the semaphore's lock file that the next program
// inherits, whether procsem starts it or becomes it. done closes it in procsem.
//
// exec.Cmd.ExtraFiles cannot do that: they become the descriptors 3 and up of the
// command, and replace those that procsem may have got there to pass on (make's
// jobserver, 3<file).
func inheritLock(s *semaphore.Semaphore) (done func(), err error) {
	f, err := s.LockFile()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fd, err := inheritable(f.Fd(), "the command inherits the semaphore's lock")
	if err != nil {
		return nil, err
	}
	return func() { unix.Close(fd) }, nil
}

// inheritable returns a descriptor of the same open file, which the next program gets.
func inheritable(of uintptr, why string) (fd int, err error) {
	fd, err = unix.FcntlInt(of, unix.F_DUPFD, leastLockDescriptor)
	return fd, noDescriptor("fcntl", why, err)
}

// noDescriptor is the error of a system call that was to make a descriptor for the next program, nil if err is.
func noDescriptor(call, why string, err error) error {
	switch err {
	case nil:
		return nil
	case unix.EINVAL, unix.EMFILE: // the limit is below the number that is asked for, or all are in use
		return fmt.Errorf("the limit of open files (ulimit -n) is too low: %s, as number %d or above", why, leastLockDescriptor)
	}
	return fmt.Errorf("%s: %w", why, os.NewSyscallError(call, err))
}

// isShortage reports whether an error in starting a command is that of a system, or a
// user, that has too much already, and says nothing of the command.
func isShortage(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ENOMEM)
}

const canBecome = true

// become replaces procsem with the command in this process. The command inherits the
// locks, and with them the permits. become returns only if that fails.
func become(all []*semaphore.Semaphore, command *exec.Cmd, w *watcher) error {
	if command.Err != nil {
		return startError(command.Args[0], command.Err)
	}
	done, err := inheritLocks(all)
	if err != nil {
		return err
	}
	defer done()
	if err := w.link.begin(); err != nil {
		return err
	}
	// From here on a signal does to procsem what it would do to a command that has
	// just begun. On exec the kernel resets the signals that procsem catches to their
	// default actions, and leaves ignored signals ignored.
	for _, sig := range w.heard {
		exitsignal.SetDefault(sig)
	}
	if heard := append(w.early, w.stop()...); len(heard) > 0 {
		return signalled{heard[0]}
	}
	if slices.Contains(startsignals.Ignored(), syscall.SIGCHLD) {
		signal.Ignore(syscall.SIGCHLD) // it has no children whose status it needs
	}
	w.link.say(execs)
	err = syscall.Exec(command.Path, command.Args, command.Env)
	if script := interpreted(command, err); script != nil {
		err = syscall.Exec(script.Path, script.Args, script.Env)
	}
	w.link.say(failed)
	return startError(command.Args[0], &os.PathError{Op: "exec", Path: command.Path, Err: err})
}

// umask returns the bits that a new file does not get. The system tells them only to who
// sets others, for a moment in which procsem makes no file.
func umask() fs.FileMode {
	mask := syscall.Umask(0o077)
	syscall.Umask(mask)
	return fs.FileMode(mask)
}

// withoutUmask makes new files have the modes that are asked for.
func withoutUmask() { syscall.Umask(0) }

// canSetOwner: files have an owner that root chooses.
const canSetOwner = true

// ownerOf returns the owner of a file.
func ownerOf(info fs.FileInfo) engine.Owner {
	st := info.Sys().(*syscall.Stat_t)
	return engine.Owner{UID: int(st.Uid), GID: int(st.Gid)}
}

func statFile(path string) (fs.FileInfo, error) { return os.Stat(path) }
