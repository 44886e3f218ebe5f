//go:build (unix && !aix && !filelock_fcntl) || windows

package semaphore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync"

	"github.com/procsem/semaphore"
)

// A mutex that excludes all processes of this machine that use its name. If one is
// killed while it has it, the next one gets it.
func Example_mutex() {
	s, err := semaphore.Open("example-mutex", semaphore.WithRecovery(true))
	if err != nil {
		log.Fatal(err)
	}
	defer s.Unlink() // only if no other process needs the name
	defer s.Close()

	if err := s.Wait(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("alone")
	if err := s.Post(); err != nil {
		log.Fatal(err)
	}
	// Output: alone
}

// At most three at a time, of all goroutines of all processes.
func Example_limit() {
	s, err := semaphore.Open("example-limit", semaphore.WithValue(3), semaphore.WithRecovery(true))
	if err != nil {
		log.Fatal(err)
	}
	defer s.Unlink()
	defer s.Close()

	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			p, err := s.Acquire(context.Background())
			if err != nil {
				log.Print(err)
				return
			}
			defer p.Release()
			// The work, three at a time.
		})
	}
	all.Wait()
	free, err := s.Value()
	fmt.Println(free, err)
	// Output: 3 <nil>
}

// The number of a permit chooses one of several things that only one process can have at a
// time: here a port for each of at most ten servers of this machine.
func ExamplePermit_Slots() {
	p, err := semaphore.Acquire(context.Background(), "example-slots", semaphore.WithValue(10), semaphore.WithRecovery(true))
	if err != nil {
		log.Fatal(err)
	}
	defer semaphore.Unlink("example-slots")
	defer p.Release()
	fmt.Println("port", 8000+p.Slots()[0])
	// Output: port 8000
}

// Readers share the permits, and a writer takes all of them: then it is alone, on the whole machine.
func ExampleSemaphore_AcquireN() {
	s, err := semaphore.Open("example-all", semaphore.WithRecovery(true), semaphore.WithValue(8))
	if err != nil {
		log.Fatal(err)
	}
	defer s.Unlink()
	defer s.Close()

	reader, err := s.Acquire(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	big, err := s.AcquireN(context.Background(), 3) // counts for three
	if err != nil {
		log.Fatal(err)
	}
	_, err = s.TryAcquireN(semaphore.All)
	fmt.Println("beside readers:", errors.Is(err, semaphore.ErrWouldBlock))
	if err := errors.Join(reader.Release(), big.Release()); err != nil {
		log.Fatal(err)
	}
	writer, err := s.AcquireN(context.Background(), semaphore.All)
	if err != nil {
		log.Fatal(err)
	}
	defer writer.Release()
	fmt.Println("alone:", writer.Slots())
	// Output:
	// beside readers: true
	// alone: [0 1 2 3 4 5 6 7]
}

// One call for one critical section: Release closes the handle too.
func ExampleAcquire() {
	p, err := semaphore.Acquire(context.Background(), "example-acquire", semaphore.WithValue(2), semaphore.WithRecovery(true))
	if err != nil {
		log.Fatal(err)
	}
	defer semaphore.Unlink("example-acquire")
	defer p.Release()
	fmt.Println("one of two")
	// Output: one of two
}

// A label tells whoever looks, by Holders or by procsem show, what a permit is held for.
func ExampleWithLabel() {
	s, err := semaphore.Open("example-label", semaphore.WithRecovery(true), semaphore.WithLabel("deploy 4711"))
	if err != nil {
		log.Fatal(err)
	}
	defer s.Unlink()
	defer s.Close()
	if err := s.Wait(); err != nil {
		log.Fatal(err)
	}
	holders, err := s.Holders()
	if err != nil {
		log.Fatal(err)
	}
	for _, h := range holders {
		since := "since some time (it did not have to wait)"
		if !h.Since.IsZero() {
			since = fmt.Sprintf("since %v, after a wait of %v", h.Since, h.Waited)
		}
		fmt.Printf("%q holds %d %s\n", h.Label, h.Permits, since)
	}
	// Output: "deploy 4711" holds 1 since some time (it did not have to wait)
}

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
