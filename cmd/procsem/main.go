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

// procsem is the whole program. It returns the exit status, unless a signal ended
// a wait: then the process dies of that signal.
func procsem(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	args, command := splitCommand(args)
	root := newRoot(&invocation{command: command, stdin: stdin, stdout: stdout, stderr: stderr})
	printed := &printer{to: stdout}
	root.Writer = printed
	err := root.Run(context.Background(), args)
	if err == nil {
		err = printed.err
	}
	if exit, ok := err.(cli.ExitCoder); ok { // an error of the parser itself: no such help topic
		err = usageError(root.Name, "%v", exit)
	}
	return report(blameDirectory(err), stderr)
}

// An invocation has the part of the command line that the parser must not touch,
// and the streams.
type invocation struct {
	command        []string // what follows the "--" of run, nil if there is none
	stdin          io.Reader
	stdout, stderr io.Writer
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

// splitCommand splits the arguments of "procsem run" into procsem's own and the
// command to run. The parser would drop the first "--" and then take the command's
// flags for procsem's. Other subcommands run no command, so the parser may see
// their "--".
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
