//go:build unix || windows

package semaphore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"time"

	"github.com/procsem/semaphore"
)

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
