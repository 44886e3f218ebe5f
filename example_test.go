//go:build unix || windows

package semaphore_test

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"log"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/procsem/semaphore"
)

// With the value 0 a semaphore signals: each Post lets one Wait through, which
// may be in another process.
func Example_signal() {
	s, err := semaphore.Open("example-signal", semaphore.WithValue(0))
	if err != nil {
		log.Fatal(err)
	}
	defer s.Unlink()
	defer s.Close()

	go func() {
		fmt.Println("ready")
		s.Post()
	}()
	if err := s.Wait(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("go")
	// Output:
	// ready
	// go
}

// A wait that Ctrl-C or a deadline ends.
func ExampleSemaphore_WaitContext() {
	s, err := semaphore.Open("example-context", semaphore.WithValue(0))
	if err != nil {
		log.Fatal(err)
	}
	defer s.Unlink()
	defer s.Close()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	fmt.Println(s.WaitContext(ctx))
	fmt.Println(errors.Is(s.TryWait(), semaphore.ErrWouldBlock))
	// Output:
	// context deadline exceeded
	// true
}

// A wait that does not last: for a moment, or not at all.
func ExampleSemaphore_WaitTimeout() {
	s, err := semaphore.Open("example-timeout", semaphore.WithValue(0))
	if err != nil {
		log.Fatal(err)
	}
	defer s.Unlink()
	defer s.Close()

	if err := s.TryWait(); errors.Is(err, semaphore.ErrWouldBlock) {
		fmt.Println("nobody has posted")
	}
	if err := s.WaitTimeout(10 * time.Millisecond); errors.Is(err, semaphore.ErrTimeout) {
		fmt.Println("nor since then")
	}
	// Output:
	// nobody has posted
	// nor since then
}

// A starting gun: whoever waits, in whichever process, goes on at the same moment.
func ExampleSemaphore_PostN() {
	s, err := semaphore.Open("example-start", semaphore.WithValue(0))
	if err != nil {
		log.Fatal(err)
	}
	defer s.Unlink()
	defer s.Close()

	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if err := s.Wait(); err != nil {
				log.Print(err)
				return
			}
			fmt.Println("runs")
		})
	}
	if err := s.PostN(3); err != nil {
		log.Print(err)
	}
	all.Wait()
	// Output:
	// runs
	// runs
	// runs
}

// Every error names the operation and the semaphore.
func ExampleError() {
	s, err := semaphore.Open("example-error", semaphore.WithValue(0))
	if err != nil {
		log.Fatal(err)
	}
	defer s.Unlink()
	defer s.Close()

	err = s.WaitTimeout(10 * time.Millisecond)
	fmt.Println(err)
	var e *semaphore.Error
	if errors.As(err, &e) {
		fmt.Println(e.Op, e.Name, e.Timeout())
	}
	// What other packages call it is understood, too.
	fmt.Println(errors.Is(err, os.ErrDeadlineExceeded))
	// Output:
	// wait "example-error": semaphore: timeout: no permit within 10ms
	// wait example-error true
	// true
}

// A name from a configuration is checked when that is read.
func ExampleCheckName() {
	fmt.Println(semaphore.CheckName("build"))
	err := semaphore.CheckName("build/linux")
	fmt.Println(err)
	fmt.Println(errors.Is(err, semaphore.ErrInvalidName))
	// Output:
	// <nil>
	// checkname "build/linux": semaphore: invalid name: it contains a slash; only one leading slash is allowed
	// true
}

// A semaphore whose permits any program may give and take, in C for instance, which has made it. If this program is
// ended by a signal that it could handle, its permit comes back; if it is killed, not.
func ExampleWithCloseOnExit() {
	other, err := semaphore.Open("example-shared", semaphore.WithValue(0))
	if err != nil {
		log.Fatal(err)
	}
	defer other.Unlink()
	defer other.Close()
	if err := other.Post(); err != nil {
		log.Fatal(err)
	}

	s, err := semaphore.Open("example-shared", semaphore.WithCreate(false), semaphore.WithCloseOnExit(true))
	if err != nil {
		log.Fatal(err)
	}
	if err := s.Wait(); err != nil {
		log.Fatal(err)
	}
	// Ctrl-C would give the permit back now, and then end the program. So does Close, and goes on.
	if err := s.Close(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("free:", other.TryWait() == nil)
	// Output: free: true
}

// Which engines there are depends on the system and the build. Without WithEngine it is the first of them.
func ExampleWithEngine() {
	for _, engine := range []semaphore.Engine{semaphore.EngineLibc, semaphore.EngineNative, semaphore.EngineWindows, semaphore.EngineFlock} {
		s, err := semaphore.Open("example-engine", semaphore.WithValue(0), semaphore.WithEngine(engine))
		if errors.Is(err, semaphore.ErrUnsupported) {
			continue // the error says what this build has
		}
		if err != nil {
			log.Fatal(err)
		}
		defer s.Unlink()
		defer s.Close()
		fmt.Println("has the engine that was asked for:", s.Engine() == engine)
		break
	}
	// Output: has the engine that was asked for: true
}

//go:embed example_*test.go examples
var examples embed.FS

// What people copy must not lose permits: an example opens a limit by OpenLimit or Do, or WithRecovery, or by Open a semaphore by
// which processes signal, with the value 0, or which others have made.
func TestExamplesOfLimitsAreRecoverable(t *testing.T) {
	limits, others := 0, 0
	allowed := regexp.MustCompile(`semaphore\.(WithRecovery\(true\)|WithValue\(0\)|WithCreate\(false\))`)
	err := fs.WalkDir(examples, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := examples.ReadFile(path)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		parsed, err := parser.ParseFile(set, path, text, 0)
		if err != nil {
			return err
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			var b strings.Builder
			if err := printer.Fprint(&b, set, call); err != nil {
				t.Fatal(err)
			}
			source := b.String()
			switch name, _, _ := strings.Cut(source, "("); name {
			case "semaphore.OpenLimit", "semaphore.Do":
				limits++
			case "semaphore.Open", "semaphore.Acquire":
				others++
				if !allowed.MatchString(source) {
					t.Errorf("%v: %s limits with a semaphore that loses the permits of a killed process", set.Position(call.Pos()), source)
				}
			}
			return true
		})
		return nil
	})
	if err != nil || limits == 0 || others == 0 {
		t.Errorf("%v; %d examples open limits, and %d others", err, limits, others)
	}
}
