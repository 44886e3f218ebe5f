//go:build unix || windows

// Package environment_test is about what surrounds semaphores: signals, users,
// namespaces, memory limits, full filesystems, Windows.
package environment_test

import (
	"os"
	"testing"

	. "github.com/procsem/semaphore/internal/testkit"
)

// The other helpers are added where they are declared.
var helpers = Helpers{"actor": ActorMain}

func TestMain(m *testing.M) { os.Exit(Main(m, helpers)) }
