// Procsem limits how many processes do a thing at once, on one machine, with
// the semaphores of package semaphore. "procsem --help" is its manual.
package main

import (
	"os"

	"github.com/procsem/semaphore/internal/command"
)

func main() { os.Exit(command.Main()) }
