// Package command is the command procsem, which the main packages of procsem and procsem-etcd share.
package command

import (
	"io"
	"os"

	"github.com/spf13/cobra"
)

// Main is procsem with the arguments of the process. It returns the exit status, unless the process has died of a signal by then.
func Main() int { return procsem(os.Args, os.Stdin, os.Stdout, os.Stderr) }

// procsem is the whole program. It returns the exit status, unless a signal ended
// a wait: then the process dies of that signal.
func procsem(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	cobra.EnableCommandSorting = false // the order is that of the manual
	cobra.MousetrapHelpText = ""       // procsem may be started from Windows' Explorer, as other programs
	printed := &printer{to: stdout}
	root := newRoot(&invocation{args: args[1:], stdin: stdin, stdout: stdout, stderr: stderr, notices: stderr})
	root.SetArgs(args[1:])
	root.SetIn(stdin)
	root.SetOut(printed)
	root.SetErr(stderr)
	err := root.Execute()
	if err == nil {
		err = printed.err
	}
	return report(blameDirectory(err), stderr)
}

// An invocation has the arguments and the streams.
type invocation struct {
	args           []string
	stdin          io.Reader
	stdout, stderr io.Writer
	notices        io.Writer // what is said unasked: stderr, mostly
	quiet          bool      // nothing is
	lost           bool      // the permit was being lost, and that was said
	heldToEnd      bool      // a permit of a store was held when the command had ended
}

// A printer remembers that writing has failed: the parser, which prints help and the version,
// does not look.
type printer struct {
	to  io.Writer
	err error
}

func (p *printer) Write(b []byte) (int, error) {
	n, err := p.to.Write(b)
	if p.err == nil {
		p.err = err
	}
	return n, err
}
