//go:build !unix

package command

import (
	"os"
	"os/exec"
)

// A child is the command that procsem has started.
type child struct{ *exec.Cmd }

// startChild starts the command. Whether that dies with procsem is up to the leash.
func startChild(command *exec.Cmd, _ bool) (child, error) { return child{command}, command.Start() }

func (c child) forward(sig os.Signal) { forward(c.Process, sig) }

func (c child) kill() { _ = c.Process.Kill() }

// end ends a command: no signal asks for that here.
func (c child) end() { c.kill() }
