//go:build !unix && !windows

package main

import "os"

var (
	endSignals   = []os.Signal{os.Interrupt}
	childSignals []os.Signal
)

func terminalSends(os.Signal) bool { return true }

func inForeground() bool { return true }

func tell(p *os.Process, sig os.Signal) { _ = p.Signal(sig) }

func statusOfCommand(p *os.ProcessState) commandStatus { return commandStatus(p.ExitCode()) }
