//go:build unix

package command

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// With --bg there are two procsems. The one in front, for which the shell waits, starts the one in the background, by the
// same command line, and waits until that one says that the command runs. The permit is taken by the
// one in the background: permits belong to processes, and a program in Go cannot fork.
//
// A socket joins them. When either is killed, the kernel closes its end, and the other reads that:
//   - The one in front is gone before the command begins: nobody waits for it any more, so the one in the background
//     ends as by SIGTERM, and gives back what it has.
//   - The one in the background is gone: its permit comes back as that of any run that is killed, and the one in
//     front reports how it ended.
//
// The one in the background has a session of its own, unlike the jobs of GNU sem: no Ctrl-C, Ctrl-Z or hang-up of the
// terminal reaches it or the command, also where a script has started them, without job control.

const canDetach = true

// backgroundVariable tells procsem that it is the one in the background, and its end of the socket.
const backgroundVariable = "PROCSEM_BACKGROUND"

// What the one in the background says. If the last word before its end is closed is another than started or execs, the
// command has not started. After execs it may not have either: of a procsem that is killed between that word and the exec
// nobody is left to say so, and the one in front ends with 0.
const (
	hears   = 'h' // signals
	started = 's'
	execs   = 'e' // the next moment it is the command, and its end is closed (-F)
	failed  = 'f' // to exec
)

// A link is the end of the socket that the one in the background has. It is nil in a procsem without --bg.
type link struct {
	conn  *os.File
	mu    sync.Mutex
	begun bool // the command is about to start, whoever waits
	gone  bool // the procsem in front had ended before that
}

// newLink returns the link if this is the procsem in the background, else nil.
func newLink() (*link, error) {
	text := os.Getenv(backgroundVariable)
	os.Unsetenv(backgroundVariable)
	if text == "" {
		return nil, nil
	}
	fd, err := strconv.Atoi(text)
	if err == nil {
		_, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	}
	if err != nil {
		return nil, fmt.Errorf("%s is %q; only procsem sets it, for itself: %w", backgroundVariable, text, err)
	}
	return &link{conn: socketFile(fd)}, nil
}

// socketFile returns a file whose reads end when it is closed.
func socketFile(fd int) *os.File {
	unix.CloseOnExec(fd)
	unix.SetNonblock(fd, true)
	return os.NewFile(uintptr(fd), "socket")
}

// watch has w hear a SIGTERM if the procsem in front ends before the command is begun.
func (l *link) watch(w *watcher) {
	if l == nil {
		return
	}
	w.link = l
	l.say(hears)
	go func() {
		l.conn.Read(make([]byte, 1)) // it says nothing
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.gone = !l.begun; l.gone {
			select {
			case w.arrived <- syscall.SIGTERM:
			default: // so many others came that begin has to tell
			}
		}
	}()
}

// begin is called before the signals are looked at for the last time and the command is started. After it the
// procsem in front may end.
func (l *link) begin() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		return signalled{syscall.SIGTERM}
	}
	l.begun = true
	return nil
}

// say tells the procsem in front, if that is still there.
func (l *link) say(word byte) {
	if l == nil {
		return
	}
	l.conn.Write([]byte{word})
	if word == started {
		l.conn.Close()
	}
}

// detach runs this command line in the background, and returns when its command has started, or why it has not.
func (inv *invocation) detach(w *watcher) error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return noDescriptor("socketpair", "procsem in the background inherits a socket", err)
	}
	conn := socketFile(fds[0])
	defer conn.Close()
	// Not in exec.Cmd.ExtraFiles: see inheritLock.
	theirs, err := inheritable(uintptr(fds[1]), "procsem in the background inherits a socket")
	unix.Close(fds[1])
	if err != nil {
		return err
	}
	background, err := inv.startBackground(theirs)
	unix.Close(theirs) // or its end would not be noticed
	if err != nil {
		return &failure{statusOSErr, fmt.Errorf("procsem could not be started in the background: %w", err)}
	}
	words := make(chan byte)
	go func() {
		defer close(words)
		for word := make([]byte, 1); ; words <- word[0] {
			if n, err := conn.Read(word); n == 0 || err != nil {
				return
			}
		}
	}()
	var ended os.Signal
	var early []os.Signal // before it would hear them
	for last := byte(0); last != started; {
		select {
		case sig := <-w.arrived:
			if ends(sig) && ended == nil {
				ended = sig
			}
			if early = append(early, sig); last != 0 {
				forwardAll(background.Process, &early)
			}
		case word, more := <-words:
			if !more {
				return frontEnd(background, ended, last == execs)
			}
			last = word
			forwardAll(background.Process, &early)
		}
	}
	return frontEnd(background, ended, true)
}

func forwardAll(p *os.Process, sigs *[]os.Signal) {
	for _, sig := range *sigs {
		_ = p.Signal(sig)
	}
	*sigs = nil
}

// frontEnd returns how the procsem in front is to end, that was sent a signal, or nil, when the command runs or the
// procsem in the background has ended.
func frontEnd(background *exec.Cmd, sent os.Signal, runs bool) error {
	if !runs {
		background.Wait()
	}
	switch state := background.ProcessState; {
	case sent != nil:
		return signalled{sent}
	case runs:
		return nil
	case state.Exited():
		return commandStatus(state.ExitCode()) // it has said why
	default:
		sig := state.Sys().(syscall.WaitStatus).Signal()
		return &failure{statusSignal + int(sig), fmt.Errorf("the procsem in the background was killed before it said that the command had started (%v)", sig)}
	}
}

func (inv *invocation) startBackground(link int) (*exec.Cmd, error) {
	self, err := ownProgram()
	if err != nil {
		return nil, err
	}
	background := exec.Command(self, inv.args...)
	background.Args[0] = os.Args[0]
	background.Env = append(os.Environ(), backgroundVariable+"="+strconv.Itoa(link))
	background.Stdout, background.Stderr = inv.stdout, inv.stderr
	// From our terminal it would take what is typed for the shell: then its stdin is /dev/null.
	if f, ok := inv.stdin.(*os.File); ok && !isOurTerminal(f) {
		background.Stdin = f
	}
	background.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return background, background.Start()
}

// ownProgram returns a path of the program that runs. Under its name there may be another one meanwhile, or none; on Linux it
// is still there by a link of the kernel, which is not used otherwise as ps would then show the process as "exe".
func ownProgram() (string, error) {
	path, err := os.Executable()
	if err != nil || runtime.GOOS != "linux" {
		return path, err
	}
	const ours = "/proc/self/exe"
	program, err := os.Stat(ours)
	if err != nil {
		return path, nil
	}
	if named, err := os.Stat(path); err != nil || !os.SameFile(named, program) {
		return ours, nil
	}
	return path, nil
}

// isOurTerminal reports whether a file is the terminal of our session.
func isOurTerminal(f *os.File) bool {
	_, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPGRP)
	return err == nil
}
