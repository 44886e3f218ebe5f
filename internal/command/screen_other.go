//go:build !unix

package command

import (
	"io"
	"os"
)

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

// A company is who else may write on the terminal, as far as that can be told.
type company struct{}

func (*company) none() bool { return inForeground() }

// takesOutput: here nobody can tell.
func takesOutput(io.Writer) bool { return true }

// awaitInput: a terminal is read again only where it can be told not to block.
func awaitInput(*os.File, error) bool { return false }
