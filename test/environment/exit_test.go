//go:build unix || windows

// Signals: close-on-exit, and interrupted waits.

package environment_test

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/procsem/semaphore"
	. "github.com/procsem/semaphore/internal/testkit"
)

func init() { helpers["exit"] = exitMain }

// exitMain takes permits of a semaphore with value 5 in all possible ways, and waits
// until it is ended, while other goroutines do what args[2] says.
func exitMain(args []string) int {
	if args[2] != "closeall" && !mayBeEnded() {
		fmt.Println(notEndable)
		return 0
	}
	var engine semaphore.Engine
	fmt.Sscan(args[1], &engine)
	opts := []semaphore.Option{semaphore.WithEngine(engine), semaphore.WithCloseOnExit(args[2] != "plain")}
	if args[2] == "listening" {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	}
	if args[2] == "logging" {
		opts = append(opts, semaphore.WithLogger(slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelWarn}))))
	}
	if args[2] == "hanging" {
		opts = append(opts, semaphore.WithLogger(slog.New(slog.NewTextHandler(hangingOutput{}, nil))))
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
	case "hanging": // a server looks whether the name is still there, as somebody waits
		go func() {
			for s.Wait() == nil {
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
	case "closed": // no handle that closes on exit is left: signals act as without any
		s.Close()
		other.Close()
	case "leaving", "fatal", "notified", "closing", "twice", "acquiring", "releasing":
		leave(s, args[2])
		return 0
	case "closeall":
		semaphore.CloseAll()
		os.Exit(7)
	}
	heedCtrlC()
	fmt.Println("ready")
	if args[3] == "wait" {
		bufio.NewReader(os.Stdin).ReadString('\n')
		return 0
	}
	for { // with a timer: Go would end a program in which nothing can go on
		time.Sleep(time.Hour)
	}
}

// A hangingOutput says that it was written to, and does not return.
type hangingOutput struct{}

func (hangingOutput) Write([]byte) (int, error) {
	fmt.Println("hangs")
	select {}
}

// startEndable starts exitMain's process, which does what how says, so that end can end it,
// and returns when it is ready.
func startEndable(t *testing.T, s *semaphore.Semaphore, e semaphore.Engine, how string) *Actor {
	t.Helper()
	for range mostStarts {
		a := StartActorCommand(t, "exit", endable(Helper(t, "exit", s.Name(), fmt.Sprint(int(e)), how, "")))
		switch got := a.Answer(); got {
		case "ready":
			return a
		case notEndable:
			t.Log(got) // it has taken nothing
		default:
			t.Fatal(got)
		}
	}
	t.Fatalf("%d times in a row: %s", mostStarts, notEndable)
	return nil
}

// mostStarts is how often a process may be started that cannot be ended as it should; see
// mayBeEnded.
const mostStarts = 5

const notEndable = "nothing could end this process as it should"

// leave waits for a permit that is not there, or for a signal of its own, and returns
// because of the signal that ends the process, in the ways in which programs do that.
func leave(s *semaphore.Semaphore, how string) {
	opts := []semaphore.Option{semaphore.WithEngine(s.Engine()), semaphore.WithCloseOnExit(true)}
	p, err := semaphore.Acquire(context.Background(), s.Name(), opts...)
	if err != nil {
		panic(err)
	}
	for s.TryWait() == nil {
	}
	wait := s.Wait
	switch how {
	case "notified", "acquiring", "releasing":
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		wait = func() error {
			if how == "notified" {
				return s.WaitContext(ctx)
			}
			<-ctx.Done()
			if how == "releasing" {
				return p.Release()
			}
			_, err := semaphore.Acquire(ctx, s.Name(), opts...)
			return err
		}
	case "closing", "twice": // by a listener of its own
		heard := make(chan os.Signal, 1)
		signal.Notify(heard, syscall.SIGINT, syscall.SIGTERM)
		wait = func() error {
			<-heard
			if how == "twice" {
				go s.Close()
			}
			return s.Close()
		}
	}
	heedCtrlC()
	fmt.Println("ready")
	if err := wait(); err != nil && how == "fatal" {
		log.Fatal(err)
	}
}

// An exit is a way in which exitMain's process ends.
type exit struct {
	how  string
	sig  syscall.Signal
	lost int // permits
}

func TestCloseOnExit(t *testing.T) {
	EachEngine(t, func(t *testing.T, e semaphore.Engine) {
		const value = 5
		for _, tt := range exits {
			t.Run(fmt.Sprint(tt.how, " ", tt.sig), func(t *testing.T) {
				s := Open(t, UniqueName(t), e, semaphore.WithValue(value))
				end(t, startEndable(t, s, e, tt.how), tt)
				left := value - tt.lost
				if Owns(e) {
					left = value
				}
				Becomes(t, s, left)
			})
		}
		// The program hears of the signal too, or of what it does, and leaves by itself. It
		// is a race, so try it some times.
		for _, how := range []string{"leaving", "fatal", "notified", "closing", "twice", "acquiring", "releasing"} {
			t.Run(how, func(t *testing.T) {
				for range Times(10) {
					s := Open(t, UniqueName(t), e, semaphore.WithValue(value))
					end(t, startEndable(t, s, e, how), exit{how, syscall.SIGINT, 0})
					Becomes(t, s, value)
					if t.Failed() {
						return
					}
				}
			})
		}
		t.Run("CloseAll before os.Exit", func(t *testing.T) {
			s := Open(t, UniqueName(t), e, semaphore.WithValue(value))
			cmd := Helper(t, "exit", s.Name(), fmt.Sprint(int(e)), "closeall", "")
			if cmd.Run(); cmd.ProcessState.ExitCode() != 7 {
				t.Errorf("%v", cmd.ProcessState)
			}
			Becomes(t, s, value)
		})
	})
}
