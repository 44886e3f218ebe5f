//go:build (unix && !aix && !filelock_fcntl) || windows

package semaphore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sync"

	"github.com/procsem/semaphore"
)

// A mutex that excludes all processes of this machine that use its name. If one is
// killed while it has it, the next one gets it.
func ExampleSemaphore_Locker() {
	s, err := semaphore.OpenLimit("example-mutex", 1)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Unlink() // only if no other process needs the name
	defer s.Close()

	mutex := s.Locker()
	mutex.Lock()
	fmt.Println("alone")
	mutex.Unlock()
	// Output: alone
}

// At most three at a time, of all goroutines of all processes.
func ExampleOpenLimit() {
	s, err := semaphore.OpenLimit("example-limit", 3)
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
// time: here one of four databases, each for one test run on this machine.
func ExamplePermit_Slots() {
	s, err := semaphore.OpenLimit("example-slots", 4)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Unlink()
	defer s.Close()

	p, err := s.Acquire(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer p.Release()
	fmt.Printf("postgres:///test%d\n", p.Slots()[0])
	// Output: postgres:///test0
}

// Readers share the permits, and a writer takes all of them: then it is alone, on the whole machine.
func ExampleSemaphore_AcquireN() {
	s, err := semaphore.OpenLimit("example-all", 8)
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

// One call for one piece of work.
func ExampleDo() {
	err := semaphore.Do(context.Background(), "example-do", 2, func(context.Context) error {
		fmt.Println("one of two")
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	semaphore.Unlink("example-do") // only if no other process needs the name
	// Output: one of two
}

// A label tells whoever looks, by Holders or by procsem show, what a permit is held for.
func ExampleWithLabel() {
	s, err := semaphore.OpenLimit("example-label", 1, semaphore.WithLabel("deploy 4711"))
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

// An operator changes the limit while it is in force, with this or by "procsem resize example-resize 5". It stands for all, also
// for programs that ask for another one.
func ExampleSemaphore_SetLimit() {
	worker, err := semaphore.OpenLimit("example-resize", 3)
	if err != nil {
		log.Fatal(err)
	}
	defer worker.Unlink()
	defer worker.Close()

	operator, err := semaphore.OpenLimit("example-resize", 3)
	if err != nil {
		log.Fatal(err)
	}
	if err := operator.SetLimit(5); err != nil { // at once, for all processes
		log.Fatal(err)
	}
	if err := operator.Close(); err != nil {
		log.Fatal(err)
	}

	free, err := worker.Value()
	fmt.Println(free, err)
	// Output: 5 <nil>
}

// A lock beside what it guards: whoever uses this cache, one process at a time updates it.
func ExampleWithDir() {
	cache, err := os.MkdirTemp("", "cache-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(cache)
	err = semaphore.Do(context.Background(), "update", 1, func(context.Context) error {
		return os.WriteFile(filepath.Join(cache, "index"), []byte("fresh"), 0o600)
	}, semaphore.WithDir(cache))
	fmt.Println(err)
	// Output: <nil>
}
