//go:build linux

package environment_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/testhook"
	. "github.com/procsem/semaphore/internal/testkit"
)

func init() { helpers["interrupt"] = interruptMain }

// interruptMain waits, and sends a signal whose handler lacks SA_RESTART to the thread
// that is blocked in the wait.
func interruptMain(args []string) int {
	handled := installHandler(syscall.SIGUSR1)
	retry := args[1] == "retry"
	if args[3] == "classic" {
		WithoutWaitv()
	}
	s, err := semaphore.Open(args[0], semaphore.WithEngine(EngineOf(args[2])), semaphore.WithRetryOnEINTR(retry))
	if err != nil {
		panic(err)
	}
	if err := s.Wait(); err != nil {
		panic(err)
	}
	waiting := make(chan error, 2)
	for range 2 {
		go func() { waiting <- s.Wait() }()
	}
	interrupted := 0
	for {
		select {
		case err = <-waiting:
			if err != nil && !errors.Is(err, syscall.EINTR) {
				panic(err)
			}
			fmt.Println(errors.Is(err, semaphore.ErrInterrupted), "after", interrupted)
			if interrupted == 4 {
				return 0
			}
		default:
		}
		tid := Sleeper(os.Getpid(), StoreFile(EngineOf(args[2]), args[0]))
		if tid == 0 || handled() < interrupted {
			continue
		}
		if interrupted == 3 {
			// The thread is blocked again after three signals.
			interrupted++
			s.Post()
			continue
		}
		if interrupted < 3 && (retry || interrupted < 1) {
			if err := unix.Tgkill(os.Getpid(), tid, unix.SIGUSR1); err != nil {
				panic(err)
			}
			interrupted++
		} else if !retry && err != nil {
			interrupted = 4
			s.Post()
			err = nil
		}
	}
}

// Without retry a signal ends the Wait at the head of the queue, and the next one waits
// on; with retry both wait on.
func TestInterruptedWait(t *testing.T) {
	UseHelper("interrupt")
	NeedCallNumbers(t)
	for retry, want := range map[string][]string{
		"retry": {"false after 4"},
		"end":   {"true after 1", "false after 4"},
	} {
		for _, how := range []string{"libc", "native", "native classic", "recoverable", "recoverable classic"} {
			t.Run(how+" "+retry, func(t *testing.T) {
				kind, classic, _ := strings.Cut(how, " ")
				NeedEngine(t, EngineOf(kind))
				if kind == "libc" && testhook.Libc.Polls {
					t.Skip("not in this build: a wait that a signal can interrupt")
				}
				NeedFile(t, EngineOf(kind))
				s := Open(t, UniqueName(t), EngineOf(kind))
				a := StartActorCommand(t, "interrupt", Helper(t, "interrupt", s.Name(), retry, kind, classic))
				for _, want := range want {
					if got := a.Answer(); got != want {
						t.Errorf("ErrInterrupted %s, want %s", got, want)
					}
				}
			})
		}
	}
}
