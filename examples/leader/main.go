// Leader leads if no other process does, and else waits until the one that leads has ended, however it ends.
package main

import (
	"fmt"
	"io"
	"log"
	"os"

	"github.com/procsem/semaphore"
)

func main() {
	s, err := semaphore.OpenLimit("example-leader", 1)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	leadership := s.Locker()
	leadership.Lock()
	defer leadership.Unlock()
	fmt.Println(os.Getpid(), "leads")
	io.Copy(io.Discard, os.Stdin) // until its end
}
