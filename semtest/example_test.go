//go:build (unix && !aix && !filelock_fcntl) || windows

package semtest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/semtest"
)

// A test that is alone with the database, also beside the tests of other packages.
func ExampleAcquire() {
	TestMigration := func(t testing.TB) { // *testing.T
		semtest.Acquire(t, "example-database", 1) // until the test ends
		fmt.Println("migrates")
	}
	goTest(TestMigration) // as "go test" does
	// Output: migrates
}

// The number of a permit chooses the port that a test has for itself.
func ExampleAcquire_slots() {
	TestServer := func(t testing.TB) { // *testing.T
		p := semtest.Acquire(t, "example-ports", 8)
		fmt.Printf("localhost:%d\n", 9000+p.Slots()[0])
	}
	goTest(TestServer) // as "go test" does
	// Output: localhost:9000
}

// A test of a program that uses semaphores gives it a name that no other test has.
func ExampleName() {
	TestProgram := func(t testing.TB) { // *testing.T
		name := semtest.Name(t) // nothing is left of it after the test
		err := semaphore.Do(context.Background(), name, 1, func(context.Context) error {
			fmt.Println("the program")
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	goTest(TestProgram) // as "go test" does
	// Output: the program
}
