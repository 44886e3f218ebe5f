// Shutdown does one job after the other, as one of at most two on this machine. At Ctrl-C or SIGTERM it ends the job that it is doing,
// begins no other, also if it waits for a permit, and exits with status 0.
package main

import (
	"context"
	"fmt"
	"log"
	"os/signal"
	"syscall"
	"time"

	"github.com/procsem/semaphore"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	s, err := semaphore.OpenLimit("example-shutdown", 2)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	for job := 0; ; job++ {
		p, err := s.Acquire(ctx)
		if ctx.Err() != nil {
			return // the bare error of ctx, and no permit
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("begin", job)
		time.Sleep(20 * time.Millisecond) // the job
		fmt.Println("end", job)
		if err := p.Release(); err != nil {
			log.Fatal(err)
		}
	}
}
