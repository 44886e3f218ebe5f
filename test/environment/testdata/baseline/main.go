// Command baseline imports what the package imports.
package main

import (
	_ "encoding/json"
	_ "log/slog"
	"os"
	_ "os/signal"
	"runtime"

	_ "golang.org/x/sys/unix"
)

func main() {
	if runtime.NumGoroutine() != 1 {
		os.Exit(1)
	}
}
