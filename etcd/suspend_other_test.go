//go:build !unix

package etcd

import (
	"os"
	"runtime"
	"testing"
)

func suspend(t *testing.T, _ *os.Process) { t.Skip("not on " + runtime.GOOS + ": SIGSTOP") }

func resume(*testing.T, *os.Process) {}
