// Pool does twelve jobs, in four goroutines. However many of it run on this machine, two jobs are done at a time.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"sync"
	"time"

	"github.com/procsem/semaphore"
)

func main() {
	s, err := semaphore.OpenLimit("example-pool", 2)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	var workers sync.WaitGroup
	for worker := range 4 {
		workers.Go(func() {
			for job := range 3 {
				p, err := s.Acquire(context.Background())
				if err != nil {
					log.Fatal(err)
				}
				fmt.Println("begin", os.Getpid(), worker, job)
				time.Sleep(5 * time.Millisecond) // the job
				fmt.Println("end", os.Getpid(), worker, job)
				p.Release()
			}
		})
	}
	workers.Wait()
}
