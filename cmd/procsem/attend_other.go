//go:build !unix

package main

import "os/exec"

type attendant struct{}

func expect() attendant { return attendant{} }

// attend waits for the command to end, and forwards signals to it. It returns how procsem
// is to end then.
func (attendant) attend(command *exec.Cmd, w *watcher) error {
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	for {
		select {
		case sig := <-w.arrived:
			w.deliver(command.Process, sig)
		case err := <-ended:
			if command.ProcessState == nil {
				return err
			}
			return commandStatus(command.ProcessState.ExitCode())
		}
	}
}
