//go:build unix

package semaphore_test

import (
	"errors"
	"fmt"
	"log"
	"os"
	"runtime"
	"sync/atomic"

	"github.com/procsem/semaphore"
)

// Ctrl-C ends a Wait, and nothing else: the program goes on.
func ExampleWithRetryOnEINTR() {
	s, err := semaphore.Open("example-interrupt", semaphore.WithValue(0), semaphore.WithRetryOnEINTR(false, os.Interrupt))
	if err != nil {
		log.Fatal(err)
	}
	defer s.Unlink()
	defer s.Close()

	stop := pressCtrlC()
	err = s.Wait()
	if errors.Is(err, semaphore.ErrInterrupted) {
		fmt.Println("interrupted: no permit")
	}
	stop()
	// Output: interrupted: no permit
}

// pressCtrlC sends this process SIGINT, again and again until stop is called: the first
// one may come before the wait has begun.
func pressCtrlC() (stop func()) {
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		log.Fatal(err)
	}
	var stopped atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !stopped.Load() {
			self.Signal(os.Interrupt)
			runtime.Gosched()
		}
	}()
	return func() {
		stopped.Store(true)
		<-done
	}
}
