// A test starts three processes that work at the same time, and kills one of them while it works.
package rendezvous_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

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
	name := semtest.Name(t)
	r := semtest.NewRendezvous(t)
	said, out := io.Pipe()
	workers := map[int]*exec.Cmd{}
	for range 3 {
		worker := exec.Command(os.Args[0])
		worker.Env = append(os.Environ(), "WORKER="+name)
		worker.Stdout = out
		r.Start(worker)
		workers[worker.Process.Pid] = worker
	}
	r.Release() // fails if one of them ends before it has arrived

	for range workers {
		var pid int
		if _, err := fmt.Fscanln(said, &pid); err != nil {
			t.Fatal(err)
		}
		workers[pid].Process.Kill() // the next one gets its permit
	}
}

func work(name string) {
	if err := semtest.Arrive(); err != nil {
		panic(err)
	}
	semaphore.Do(context.Background(), name, 1, func(context.Context) error {
		fmt.Println(os.Getpid())
		time.Sleep(time.Hour) // it is killed
		return nil
	})
}
