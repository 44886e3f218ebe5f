//go:build unix || windows

package semaphore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/procsem/semaphore"
)

// A mutex that excludes all processes of this machine that use its name.
func Example_mutex() {
	s, err := semaphore.Open("example-mutex")
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
	s, err := semaphore.Open("example-limit", semaphore.WithValue(3))
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

// With the value 0 a semaphore signals: each Post lets one Wait through, which
// may be in another process.
func Example_signal() {
	s, err := semaphore.Open("example-signal", semaphore.WithValue(0))
	if err != nil {
		log.Fatal(err)
	}
	defer s.Unlink()
	defer s.Close()

	go func() {
		fmt.Println("ready")
		s.Post()
	}()
	if err := s.Wait(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("go")
	// Output:
	// ready
	// go
}

// A wait that Ctrl-C or a deadline ends.
func ExampleSemaphore_WaitContext() {
	s, err := semaphore.Open("example-context", semaphore.WithValue(0))
	if err != nil {
		log.Fatal(err)
	}
	defer s.Unlink()
	defer s.Close()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	fmt.Println(s.WaitContext(ctx))
	fmt.Println(errors.Is(s.TryWait(), semaphore.ErrWouldBlock))
	// Output:
	// context deadline exceeded
	// true
}

// One call for one critical section: Release closes the handle too.
func ExampleAcquire() {
	p, err := semaphore.Acquire(context.Background(), "example-acquire", semaphore.WithValue(2))
	if err != nil {
		log.Fatal(err)
	}
	defer semaphore.Unlink("example-acquire")
	defer p.Release()
	fmt.Println("one of two")
	// Output: one of two
}
