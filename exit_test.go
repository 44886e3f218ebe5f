//go:build unix

// Signals: close-on-exit, and interrupted waits.

package semaphore_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"

	"github.com/procsem/semaphore"
	"github.com/procsem/semaphore/internal/filelock"
)

// exitMain holds permits of a semaphore with value 5 in all ways that there
// are, and waits for its end, while another goroutine takes and gives.
func exitMain(args []string) int {
	var engine semaphore.Engine
	fmt.Sscan(args[1], &engine)
	opts := []semaphore.Option{semaphore.WithEngine(engine), semaphore.WithCloseOnExit(args[2] != "plain")}
	if args[2] == "listening" {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	}
	s, err := semaphore.Open(args[0], opts...)
	if err != nil {
		panic(err)
	}
	other, err := semaphore.Open(args[0], semaphore.WithEngine(engine), semaphore.WithCloseOnExit(args[2] != "plain"))
	if err != nil {
		panic(err)
	}
	for _, take := range []func() error{s.Wait, s.TryWait, s.Post, other.Wait} {
		if err := take(); err != nil {
			panic(err)
		}
	}
	if _, err := s.Acquire(context.Background()); err != nil {
		panic(err)
	}
	switch args[2] {
	case "busy":
		go func() {
			for s.Wait() == nil && s.Post() == nil {
			}
		}()
	case "storm": // handles come and go at the moment of the signal
		for range 6 {
			go func() {
				for {
					if p, err := semaphore.Acquire(context.Background(), args[0], opts...); err == nil {
						p.Release()
					}
				}
			}()
		}
	case "closed": // the last handle that closes on exit: all is as without
		s.Close()
		other.Close()
	case "closeall":
		semaphore.CloseAll()
		os.Exit(7)
	}
	fmt.Println("ready")
	if args[3] == "wait" {
		bufio.NewReader(os.Stdin).ReadString('\n')
		return 0
	}
	select {}
}

func TestCloseOnExit(t *testing.T) {
	eachEngine(t, func(t *testing.T, e semaphore.Engine) {
		const value = 5
		for _, tt := range []struct {
			how  string
			sig  syscall.Signal
			left int
		}{
			{"idle", syscall.SIGINT, value},
			{"idle", syscall.SIGTERM, value},
			{"idle", syscall.SIGHUP, value},
			{"busy", syscall.SIGTERM, value},
			{"storm", syscall.SIGTERM, value},
			{"listening", syscall.SIGTERM, value},
			{"listening", syscall.SIGINT, value},
			{"closed", syscall.SIGTERM, value},
			{"idle", syscall.SIGKILL, value - 3},  // not covered
			{"plain", syscall.SIGTERM, value - 3}, // not asked for
		} {
			t.Run(fmt.Sprint(tt.how, " ", tt.sig), func(t *testing.T) {
				s := open(t, uniqueName(t), e, semaphore.WithValue(value))
				a := startActorCommand(t, "exit", helper(t, "exit", s.Name(), fmt.Sprint(int(e)), tt.how, ""))
				if got := a.answer(); got != "ready" {
					t.Fatal(got)
				}
				must(t, a.cmd.Process.Signal(tt.sig))
				a.cmd.Wait()
				status := a.cmd.ProcessState.Sys().(syscall.WaitStatus)
				if !status.Signaled() || status.Signal() != tt.sig {
					t.Errorf("%v, want it to die of %v", a.cmd.ProcessState, tt.sig)
				}
				left := tt.left
				if owns(e) {
					left = value
				}
				becomes(t, s, left)
			})
		}
		t.Run("CloseAll before os.Exit", func(t *testing.T) {
			s := open(t, uniqueName(t), e, semaphore.WithValue(value))
			cmd := helper(t, "exit", s.Name(), fmt.Sprint(int(e)), "closeall", "")
			if cmd.Run(); cmd.ProcessState.ExitCode() != 7 {
				t.Errorf("%v", cmd.ProcessState)
			}
			becomes(t, s, value)
		})
	})
}

// A file's lock that somebody keeps for ever keeps nobody from dying.
func TestCloseOnExitDiesThoughItCannotGiveBack(t *testing.T) {
	useHelper("exit")
	s := open(t, uniqueName(t), semaphore.EngineFlock, semaphore.WithValue(5))
	a := startActorCommand(t, "exit", helper(t, "exit", s.Name(), fmt.Sprint(int(semaphore.EngineFlock)), "idle", ""))
	if got := a.answer(); got != "ready" {
		t.Fatal(got)
	}
	f, err := os.OpenFile(storeFile(semaphore.EngineFlock, s.Name()), os.O_RDWR, 0)
	must(t, err)
	defer filelock.Close(f)
	if locked, err := filelock.TryLock(f); !locked {
		t.Fatalf("the lock was not free: %v", err)
	}
	must(t, a.cmd.Process.Signal(syscall.SIGTERM))
	died := inBackground(a.cmd.Wait)
	if err := result(t, died); err == nil || a.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("%v, want it to die of SIGTERM", err)
	}
}

// What was ignored when the program started does not end it, nor give back.
func TestCloseOnExitRespectsNohup(t *testing.T) {
	useHelper("exit")
	eachEngine(t, func(t *testing.T, e semaphore.Engine) {
		for name, sig := range map[string]syscall.Signal{"INT": syscall.SIGINT, "HUP": syscall.SIGHUP} {
			s := open(t, uniqueName(t), e, semaphore.WithValue(5))
			direct := helper(t, "exit", s.Name(), fmt.Sprint(int(e)), "idle", "wait")
			cmd := exec.Command("sh", append([]string{"-c", "trap '' " + name + `; exec "$0" "$@"`}, direct.Args...)...)
			cmd.Env = direct.Env
			a := startActorCommand(t, "exit", cmd)
			if got := a.answer(); got != "ready" {
				t.Fatal(got)
			}
			must(t, a.cmd.Process.Signal(sig))
			a.send("")
			if err := a.cmd.Wait(); err != nil {
				t.Errorf("SIG%s, ignored from the start: %v", name, err)
			}
			left := 2
			if owns(e) {
				left = 5 // not given back by us, but the process has ended
			}
			becomes(t, s, left)
		}
	})
}
