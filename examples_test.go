//go:build unix || windows

package semaphore_test

import (
	"embed"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"strings"
	"testing"
)

//go:embed example_*test.go
var examples embed.FS

// What people copy must not lose permits: an example opens a recoverable semaphore, or one
// by which processes signal, with the value 0.
func TestExamplesOfLimitsAreRecoverable(t *testing.T) {
	files, err := examples.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	opened := 0
	for _, file := range files {
		text, err := examples.ReadFile(file.Name())
		if err != nil {
			t.Fatal(err)
		}
		set := token.NewFileSet()
		parsed, err := parser.ParseFile(set, file.Name(), text, 0)
		if err != nil {
			t.Fatal(err)
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
			if !strings.HasPrefix(source, "semaphore.Open(") && !strings.HasPrefix(source, "semaphore.Acquire(") {
				return true
			}
			opened++
			if !strings.Contains(source, "semaphore.WithRecovery(true)") && !strings.Contains(source, "semaphore.WithValue(0)") {
				t.Errorf("%v: %s limits with a semaphore that loses the permits of a killed process", set.Position(call.Pos()), source)
			}
			return true
		})
	}
	if opened == 0 {
		t.Error("no example opens a semaphore")
	}
}
