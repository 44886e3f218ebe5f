// A test starts three processes that compete for one permit as soon as all are ready, and kills the one that gets it first.
package rendezvous_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/semtest"
)

func TestMain(m *testing.M) {
	if name := os.Getenv("WORKER"); name != "" {
		work(name)
		return
	}
	os.Exit(m.Run())
}

func TestKilledWorker(t *testing.T) {
	r, name := semtest.NewRendezvous(t), semtest.Name(t)
	said, out, err := os.Pipe()
	in, end, err2 := os.Pipe() // the workers work until it is closed
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	waits := map[int]func() error{} // by process ID
	for range 3 {
		worker := exec.Command(os.Args[0])
		worker.Env, worker.Stdin, worker.Stdout = append(os.Environ(), "WORKER="+name), in, out
		wait := r.Start(worker)
		waits[worker.Process.Pid] = wait
	}
	r.Release() // fails if one of them ends before it has arrived
	out.Close()
	var first int
	fmt.Fscan(said, &first)
	worker, _ := os.FindProcess(first)
	worker.Kill() // its permit comes back, and the others get it
	end.Close()
	for pid, wait := range waits {
		if err := wait(); (err != nil) != (pid == first) {
			t.Errorf("worker %d, of which %d was killed: %v", pid, first, err)
		}
	}
}

func work(name string) {
	if err := semtest.Arrive(); err != nil {
		panic(err)
	}
	semaphore.Do(context.Background(), name, 1, func(context.Context) error {
		fmt.Println(os.Getpid())
		fmt.Scanln() // the work
		return nil
	})
}
