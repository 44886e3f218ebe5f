//go:build (unix && !aix && !filelock_fcntl) || windows

package semtest_test

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/procsem/semaphore/semtest"
)

// Processes that begin their work at the same moment, when all are ready. They are this test binary, whose TestMain calls
// worker if the variable is set.
func ExampleRendezvous() {
	TestWorkers := func(t testing.TB) { // *testing.T
		r := semtest.NewRendezvous(t)
		var waits []func() error
		for range 3 {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "EXAMPLE_WORKER=1")
			cmd.Stdout = os.Stdout
			waits = append(waits, r.Start(cmd))
		}
		r.Release() // the test fails if one of them ends before it has arrived
		for _, wait := range waits {
			if err := wait(); err != nil {
				t.Fatal(err)
			}
		}
	}
	goTest(TestWorkers) // as "go test" does
	// Output:
	// works
	// works
	// works
}

func worker() {
	// What each has to prepare, and then
	if err := semtest.Arrive(); err != nil {
		panic(err)
	}
	fmt.Println("works")
}
