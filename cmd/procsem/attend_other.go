//go:build !unix

package main

import (
	"io"
	"os"
	"os/exec"
)

type attendant struct{}

func expect() attendant { return attendant{} }

// end ends a command: no signal asks for that here.
func end(p *os.Process) { _ = p.Kill() }

// attend waits for the command to end, and forwards signals to it. It returns how procsem
// is to end then.
func (attendant) attend(command *exec.Cmd, w *watcher, c *clock, stderr io.Writer) error {
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	for {
		select {
		case sig := <-w.arrived:
			w.deliver(command.Process, sig)
		case <-c.timer:
			c.strike(command.Process, stderr)
		case err := <-ended:
			if command.ProcessState == nil {
				return err
			}
			return commandStatus(command.ProcessState.ExitCode())
		}
	}
}
