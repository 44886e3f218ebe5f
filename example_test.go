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
	"strings"
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

//go:embed example_*test.go examples
var examples embed.FS

// What people copy must not lose permits: an example opens a limit by OpenLimit or Do, or by Open a semaphore by
// which processes signal, with the value 0.
func TestExamplesOfLimitsAreRecoverable(t *testing.T) {
	limits, others := 0, 0
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
				if !strings.Contains(source, "semaphore.WithValue(0)") {
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
