//go:build !unix

package main

import "os"

// Here no signals tell of a terminal, and none stops a program.
var (
	screenSignals []os.Signal
	sigContinue   os.Signal = unsent("continue")
	sigStop       os.Signal = unsent("stop")
)

type unsent string

func (unsent) Signal()          {}
func (s unsent) String() string { return string(s) }

const catchesStop = false

func restoreStop()      {}
func stopNow()          {}
func sendAll(os.Signal) {}
