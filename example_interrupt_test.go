//go:build unix

package semaphore_test

import (
	"errors"
	"fmt"
	"log"
	"os"
	"runtime"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/testhook"
)

// Ctrl-C ends a Wait, and nothing else: the program goes on.
func ExampleWithRetryOnEINTR() {
	s, err := semaphore.Open("example-interrupt", semaphore.WithValue(0), semaphore.WithRetryOnEINTR(false, os.Interrupt))
	if err != nil {
		log.Fatal(err)
	}
	defer s.Unlink()
	defer s.Close()

	go pressCtrlC(s) // somebody does, while the program waits
	if err := s.Wait(); errors.Is(err, semaphore.ErrInterrupted) {
		fmt.Println("interrupted: no permit")
	}
	// Output: interrupted: no permit
}

// pressCtrlC sends this process SIGINT as soon as it waits. (A second one could come after
// the handle was closed, and end the process.)
func pressCtrlC(s *semaphore.Semaphore) {
	for testhook.Inspect(s).Waiting == 0 {
		runtime.Gosched()
	}
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Signal(os.Interrupt)
	}
	if err != nil {
		log.Fatal(err)
	}
}
