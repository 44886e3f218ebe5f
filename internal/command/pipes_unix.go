//go:build unix

package command

import (
	"os"
	"os/signal"
	"syscall"
)

// survivePipes keeps procsem from dying when nobody reads what it says: the command would run on without anybody to end it. The command
// itself gets SIGPIPE as ever.
func survivePipes() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }
