//go:build unix

package command

import (
	"io/fs"
	"os"
	"os/exec"
	"syscall"
)

// A child is the command that procsem has started, until it is known to have ended.
//
// It is not an os.Process: the first of these forks once more, to learn what the kernel can do, and
// takes a fifth of the time of a run whose command does nothing.
type child struct {
	pid    int
	family family
}

// startChild starts the command. If dies is set it is killed when procsem is (on Linux).
func startChild(command *exec.Cmd, dies bool) (child, error) {
	if command.Err != nil {
		return child{}, command.Err
	}
	attr := &syscall.ProcAttr{Env: command.Environ()}
	for _, stream := range []any{command.Stdin, command.Stdout, command.Stderr} {
		attr.Files = append(attr.Files, stream.(*os.File).Fd())
	}
	if dies {
		attr.Sys = dyingWithUs()
	}
	pid, err := syscall.ForkExec(command.Path, command.Args, attr)
	if err != nil {
		return child{}, &fs.PathError{Op: "fork/exec", Path: command.Path, Err: err}
	}
	return child{pid, newFamily()}, nil
}

// forward sends a signal to the command. That fails if the command has ended, or runs as another user (sudo);
// in both cases there is no other process to signal: whoever calls it waits for the command, too, and has
// not done so yet.
func (c child) forward(sig os.Signal) { _ = syscall.Kill(c.pid, sig.(syscall.Signal)) }

func (c child) kill() { c.forward(syscall.SIGKILL) }

// end asks a command to end. One that is stopped has to be continued for that.
func (c child) end() {
	c.forward(syscall.SIGTERM)
	c.forward(syscall.SIGCONT)
}
