// Procsem-etcd is procsem with the semaphores that are in etcd. "procsem --store etcd://..." becomes it; its commands and
// options are those of procsem.
package main

import (
	"os"

	"github.com/procsem/semaphore/internal/command"
)

func main() { os.Exit(command.MainWith(connect)) }
