// Procsem limits how many processes do a thing at once, on one machine, with
// the semaphores of package semaphore. "procsem --help" is its manual.
package main

import (
	"context"
	"io"
	"os"
	"slices"

	"github.com/urfave/cli/v3"
)

func main() {
	os.Exit(procsem(os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// procsem is the whole program; it returns the exit status, unless it dies of
// the signal that ended a wait.
func procsem(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	args, command := splitCommand(args)
	root := newRoot(&invocation{command: command, stdin: stdin, stdout: stdout, stderr: stderr})
	err := root.Run(context.Background(), args)
	if exit, ok := err.(cli.ExitCoder); ok { // the parser's own: no such help topic
		err = usageError(root.Name, "%v", exit)
	}
	return report(err, stderr)
}

// An invocation is what the command line parser must not touch, and the
// streams.
type invocation struct {
	command        []string // what follows run's "--", nil without one
	stdin          io.Reader
	stdout, stderr io.Writer
}

// splitCommand takes the command to run off the arguments of "procsem run".
// The parser would drop the first "--" and then take the command's own flags
// for procsem's. The other commands have no command line in theirs, and leave
// "--" to the parser.
func splitCommand(args []string) (own, command []string) {
	if len(args) < 2 || args[1] != "run" {
		return args, nil
	}
	i := slices.Index(args, "--")
	if i < 0 {
		return args, nil
	}
	return args[:i:i], args[i+1:] // empty, not nil, if nothing follows
}
