//go:build (unix && !aix && !filelock_fcntl) || windows

package semaphore_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

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

// Open and Acquire in one, for a program that needs one permit for as long as it runs.
func ExampleAcquire() {
	p, err := semaphore.Acquire(context.Background(), "example-acquire", semaphore.WithRecovery(true), semaphore.WithValue(2))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("one of two")
	if err := p.Release(); err != nil { // closes, too
		log.Fatal(err)
	}
	semaphore.Unlink("example-acquire") // only if no other process needs the name
	// Output: one of two
}

// A job that leaves if another run of it is still at work.
func ExampleSemaphore_TryAcquire() {
	job := func() error {
		s, err := semaphore.OpenLimit("example-job", 1)
		if err != nil {
			return err
		}
		defer s.Close()
		p, err := s.TryAcquire()
		if errors.Is(err, semaphore.ErrWouldBlock) {
			fmt.Println("the last run is still at work")
			return nil
		}
		if err != nil {
			return err
		}
		defer p.Release()
		fmt.Println("at work")
		return nil
	}
	fmt.Println(job())
	semaphore.Do(context.Background(), "example-job", 1, func(context.Context) error { return job() })
	semaphore.Unlink("example-job") // only if no other process needs the name
	// Output:
	// at work
	// <nil>
	// the last run is still at work
}

// A program that takes a limit as its operator has made it, by "procsem create -n 3 example-existing" say.
func ExampleWithRecovery() {
	operator, err := semaphore.OpenLimit("example-existing", 3, semaphore.WithExclusive(true))
	if err != nil {
		log.Fatal(err)
	}
	defer operator.Unlink()
	defer operator.Close()

	s, err := semaphore.Open("example-existing", semaphore.WithRecovery(true), semaphore.WithCreate(false))
	if errors.Is(err, fs.ErrNotExist) {
		log.Fatal("the operator has to make it first")
	}
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	n, err := s.Limit()
	fmt.Println(n, err)
	// Output: 3 <nil>
}

// A name is of one kind, and a limit is the same for all who use it at a time.
func ExampleOpen() {
	s, err := semaphore.OpenLimit("example-open", 3)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Unlink()
	defer s.Close()

	_, err = semaphore.OpenLimit("example-open", 5)
	fmt.Println("another limit:", errors.Is(err, semaphore.ErrLimitMismatch))
	_, err = semaphore.Open("example-open", semaphore.WithValue(0))
	fmt.Println("another kind:", errors.Is(err, semaphore.ErrKindMismatch))
	_, err = semaphore.OpenLimit("example-open", 3, semaphore.WithExclusive(true))
	fmt.Println("a new one:", errors.Is(err, fs.ErrExist))
	// Output:
	// another limit: true
	// another kind: true
	// a new one: true
}

// The holders of the permits, and those that wait.
func ExampleSemaphore_Holders() {
	s, err := semaphore.OpenLimit("example-holders", 2)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Unlink()
	defer s.Close() // which gives back
	if err := s.Wait(); err != nil {
		log.Fatal(err)
	}
	waiting := make(chan error)
	waiter, err := semaphore.OpenLimit("example-holders", 2)
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		_, err := waiter.AcquireN(context.Background(), 2)
		waiting <- err
	}()

	var holders []semaphore.Holder
	for !slices.ContainsFunc(holders, func(h semaphore.Holder) bool { return h.Waiting && h.Permits == 1 }) {
		time.Sleep(time.Millisecond)
		if holders, err = s.Holders(); err != nil {
			log.Fatal(err)
		}
	}
	for _, h := range holders {
		who := fmt.Sprintf("process %d", h.PID)
		if h.PID == os.Getpid() {
			who = "this process"
		}
		fmt.Printf("%s has %d, and wants %d\n", who, h.Permits, h.Want)
	}
	waiter.Close()
	fmt.Println(errors.Is(<-waiting, semaphore.ErrClosed))
	// Unordered output:
	// this process has 1, and wants 0
	// this process has 1, and wants 2
	// true
}

// Work that only a holder may do asks before each step whether it still is one. It always is on one machine, where
// permits are not lost; with those of a store on several machines (package etcd) the same code is right.
func ExamplePermit_Err() {
	s, err := semaphore.OpenLimit("example-err", 1)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Unlink()
	defer s.Close()
	p, err := s.Acquire(context.Background())
	if err != nil {
		log.Fatal(err)
	}

	for step := range 2 {
		if err := p.Err(); err != nil { // ErrLost: others may be at work
			log.Fatal(err)
		}
		fmt.Println("step", step)
	}
	select {
	case <-p.Lost():
		log.Fatal("lost while waiting for something else")
	case <-time.After(time.Millisecond): // the something else
	}
	if err := p.Release(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(errors.Is(p.Err(), semaphore.ErrNotHeld))
	// Output:
	// step 0
	// step 1
	// true
}

// A handle that finds the mistakes of its program: what is a lock is not taken twice, nor given back twice.
func ExampleWithStrict() {
	s, err := semaphore.OpenLimit("example-strict", 1, semaphore.WithStrict(true))
	if err != nil {
		log.Fatal(err)
	}
	defer s.Unlink()

	fmt.Println(s.Wait(), errors.Is(s.Wait(), semaphore.ErrHeld))
	fmt.Println(s.Post(), errors.Is(s.Post(), semaphore.ErrNotHeld))
	fmt.Println(s.Close(), errors.Is(s.Close(), semaphore.ErrClosed))
	// Output:
	// <nil> true
	// <nil> true
	// <nil> true
}

// A program gives back before os.Exit, which runs no deferred function.
func ExampleCloseAll() {
	run := func() error {
		s, err := semaphore.OpenLimit("example-exit", 1)
		if err != nil {
			return err
		}
		if err := s.Wait(); err != nil {
			return err
		}
		return errors.New("something else failed")
	}
	status := 0
	if err := run(); err != nil {
		fmt.Println(err)
		status = 1
	}
	semaphore.CloseAll()
	fmt.Println("os.Exit of", status)
	semaphore.Unlink("example-exit") // only if no other process needs the name
	// Output:
	// something else failed
	// os.Exit of 1
}

// What happens is logged at Debug, and what should be seen at Warn.
func ExampleWithLogger() {
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{} // here, where the output is compared
			}
			return a
		},
	}))
	s, err := semaphore.OpenLimit("example-log", 1, semaphore.WithLogger(logger))
	if err != nil {
		log.Fatal(err)
	}
	defer s.Unlink()
	if err := s.Wait(); err != nil {
		log.Fatal(err)
	}
	if err := s.Post(); err != nil {
		log.Fatal(err)
	}
	if err := s.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// level=DEBUG msg="semaphore: open" name=example-log engine=recoverable
	// level=DEBUG msg="semaphore: taken" name=example-log
	// level=DEBUG msg="semaphore: posted" name=example-log
	// level=DEBUG msg="semaphore: closed" name=example-log
}

// Options that several calls share: limits of a directory that a group of users works in. All of them say the mode, and
// whoever makes the first one has a umask that leaves the group its rights.
func ExampleOption() {
	dir, err := os.MkdirTemp("", "shared-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	shared := []semaphore.Option{semaphore.WithDir(dir), semaphore.WithMode(0o660)}

	s, err := semaphore.OpenLimit("scanner", 1, shared...)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(s.Engine(), s.Close())
	fmt.Println(semaphore.Unlink("scanner", shared...))
	// Output:
	// recoverable <nil>
	// <nil>
}
