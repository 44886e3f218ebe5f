//go:build unix

package environment_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/testhook"
	. "github.com/procsem/semaphore/internal/testkit"
)

func init() { helpers["named"] = namedMain }

// namedMain waits in all possible ways, for a signal that its option names to end them.
func namedMain(args []string) int {
	s, err := semaphore.Open(args[0], semaphore.WithEngine(EngineOf(args[1])), semaphore.WithRetryOnEINTR(false, os.Interrupt, syscall.SIGUSR2))
	if err != nil {
		panic(err)
	}
	if err := s.Wait(); err != nil {
		panic(err)
	}
	waits := []func() error{
		s.Wait,
		func() error { return s.WaitContext(context.Background()) },
		func() error { return s.WaitTimeout(time.Hour) },
		func() error { _, err := s.Acquire(context.Background()); return err },
	}
	for range 2 { // signals
		ended := make(chan error)
		for _, wait := range waits {
			go func() { ended <- wait() }()
		}
		for testhook.Inspect(s).Waiting < len(waits) {
			runtime.Gosched()
		}
		fmt.Println("waiting")
		for range waits {
			if err := <-ended; !errors.Is(err, semaphore.ErrInterrupted) || !errors.Is(err, syscall.EINTR) {
				fmt.Println("not interrupted:", err)
			}
		}
	}
	fmt.Println("interrupted", testhook.Inspect(s).Waiting)
	if err := errors.Join(s.Post(), s.Wait(), s.Post(), s.Close()); err != nil {
		fmt.Println(err)
	}
	fmt.Println("closed")
	for {
		time.Sleep(time.Hour)
	}
}

// A signal to the process, as of kill(1) and Ctrl-C, ends all waits of a handle whose
// options name it, and does what it did before as soon as the handle is closed.
func TestNamedSignalEndsWaits(t *testing.T) {
	UseHelper("named")
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		s := Open(t, UniqueName(t), e)
		a := StartActorCommand(t, "named", Helper(t, "named", s.Name(), s.Engine().String()))
		for _, sig := range []os.Signal{os.Interrupt, syscall.SIGUSR2} {
			if got := a.Answer(); got != "waiting" {
				t.Fatal(got)
			}
			Must(t, a.Cmd.Process.Signal(sig))
		}
		for _, want := range []string{"interrupted 0", "closed"} {
			if got := a.Answer(); got != want {
				t.Fatal(got)
			}
		}
		Becomes(t, s, 1)
		end(t, a, exit{sig: syscall.SIGINT})
	})
}

func TestSignalsThatCannotEndWaits(t *testing.T) {
	for _, opt := range []semaphore.Option{
		semaphore.WithRetryOnEINTR(true, os.Interrupt),
		semaphore.WithRetryOnEINTR(false, os.Interrupt, os.Kill),
		semaphore.WithRetryOnEINTR(false, syscall.SIGSTOP),
		semaphore.WithRetryOnEINTR(false, nil),
	} {
		_, err := semaphore.Open(UniqueName(t), opt)
		WantErr(t, "Open", err, semaphore.ErrInvalidOption)
	}
}
