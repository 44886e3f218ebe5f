//go:build unix || windows

package semaphore_test

import (
	"os"
	"testing"

	. "github.com/procsem/semaphore/internal/testkit"
)

// helpers are the processes that the tests of the type start.
var helpers = Helpers{"actor": ActorMain, "create": CreateMain, "slots": slotsMain}

func TestMain(m *testing.M) { os.Exit(Main(m, helpers)) }
