//go:build unix

// Package documents tests what is written in documents: the Go code of README.md and of docs compiles, and
// each exported name is in an example.
package documents

import (
	"strings"
	"testing"

	"github.com/procsem/semaphore/internal/doccode"
)

// What the code of documents does not declare itself, as the tables of docs/coming-from.md say.
const declarations = `
var (
	name   string
	n      int
	d      time.Duration
	ctx    context.Context
	f      func(context.Context) error
	logger *slog.Logger
	s      *semaphore.Semaphore
	p      *semaphore.Permit
)`

var imports = []string{"context", "crypto/rand", "fmt", "io/fs", "log/slog", "os", "time", "github.com/procsem/semaphore"}

func TestGoCode(t *testing.T) {
	checker := doccode.New(t, declarations, imports...)
	checked := 0
	for _, s := range append(doccode.Blocks(t, "../..", "go"), doccode.Cells(t, "../../docs/coming-from.md", "here")...) {
		if strings.Contains(s.Code, "etcd.") {
			continue // by the module etcd, that has the packages for it
		}
		checked++
		if err := checker.Check(s); err != nil {
			t.Error(err)
		}
	}
	if checked < 60 {
		t.Errorf("%d pieces of code were found, and there are more", checked)
	}
}

// The checker finds what is wrong.
func TestWrongCode(t *testing.T) {
	checker := doccode.New(t, declarations, imports...)
	for code, right := range map[string]bool{
		"s.Wait()":                                true,
		"p, err := s.Acquire(ctx)":                true,
		"s.Waits()":                               false,
		"s.Acquire()":                             false,
		"return s.Acquire(ctx)":                   false,
		"if err != nil {}":                        false,
		"var m int = s.Name()":                    false,
		"p, err := s.Acquire(ctx":                 false,
		"return s.WaitContext(ctx)\n":             true,
		"package main\nfunc main() {}\nvar x = y": false,
	} {
		if err := checker.Check(doccode.Snippet{Where: "here", Code: code}); (err == nil) != right {
			t.Errorf("%s: %v, want right: %v", code, err, right)
		}
	}
}
