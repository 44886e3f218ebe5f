//go:build !unix

package main

import "os"

var (
	endSignals   = []os.Signal{os.Interrupt}
	childSignals []os.Signal
)

// The console sends an interrupt to the command as well.
func terminalSends(os.Signal) bool { return true }

func inForeground() bool { return true }

func dieOf(os.Signal) (status int) { return statusSignal + 2 } // 2 is SIGINT

func statusOfCommand(p *os.ProcessState) commandStatus { return commandStatus(p.ExitCode()) }
