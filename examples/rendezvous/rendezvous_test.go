// A test starts three processes that compete for one permit as soon as all are ready, and kills the one that gets it first.
package rendezvous_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
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
	if err != nil {
		t.Fatal(err)
	}
	in, end, err := os.Pipe() // the workers work until it is closed
	if err != nil {
		t.Fatal(err)
	}
	workers, waits := map[string]*exec.Cmd{}, map[string]func() error{}
	for range 3 {
		worker := exec.Command(os.Args[0])
		worker.Env, worker.Stdin, worker.Stdout = append(os.Environ(), "WORKER="+name), in, out
		wait := r.Start(worker)
		pid := fmt.Sprint(worker.Process.Pid)
		workers[pid], waits[pid] = worker, wait
	}
	r.Release() // fails if one of them ends before it has arrived
	out.Close()
	first := bufio.NewScanner(said)
	first.Scan()
	workers[first.Text()].Process.Kill() // its permit comes back, and the others get it
	end.Close()
	for pid, wait := range waits {
		if err := wait(); (err != nil) != (pid == first.Text()) {
			t.Errorf("worker %s, of which %s was killed: %v", pid, first.Text(), err)
		}
	}
}

func work(name string) {
	if err := semtest.Arrive(); err != nil {
		panic(err)
	}
	semaphore.Do(context.Background(), name, 1, func(context.Context) error {
		fmt.Println(os.Getpid())
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	})
}
