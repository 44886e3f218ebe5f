//go:build unix && !aix && !filelock_fcntl

package semaphore_test

import (
	"context"
	"fmt"
	"log"

	"github.com/procsem/semaphore"
)

// Permits that come back when their holder dies, however it dies, and a limit that can
// be changed while it is in force.
func Example_recovery() {
	s, err := semaphore.Open("example-recovery", semaphore.WithRecovery(true), semaphore.WithValue(3))
	if err != nil {
		log.Fatal(err)
	}
	defer s.Unlink()
	defer s.Close()

	p, err := s.Acquire(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	// The work, three at a time.
	holders, err := s.Holders()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(holders), "holds", holders[0].Permits)
	if err := p.Release(); err != nil {
		log.Fatal(err)
	}

	if err := s.SetLimit(5); err != nil { // at once, for all processes
		log.Fatal(err)
	}
	free, err := s.Value()
	fmt.Println(free, err)
	// Output:
	// 1 holds 1
	// 5 <nil>
}
