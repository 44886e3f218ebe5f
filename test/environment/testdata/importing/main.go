// Command importing imports the package, and does nothing with it.
package main

import (
	"os"
	"runtime"

	_ "github.com/procsem/semaphore"
)

func main() {
	if runtime.NumGoroutine() != 1 {
		os.Exit(1)
	}
}
