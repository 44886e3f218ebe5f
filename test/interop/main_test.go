//go:build unix || windows

// Package interop_test is about several programs, or engines, on one name: programs in C
// and Python, programs with musl, of another word size or byte order, and their files.
package interop_test

import (
	"os"
	"testing"

	. "github.com/procsem/semaphore/internal/testkit"
)

var helpers = Helpers{"create": CreateMain}

func TestMain(m *testing.M) { os.Exit(Main(m, helpers)) }
