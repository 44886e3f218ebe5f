// Package doccode finds the code in README.md and docs, type-checks Go, and finds what no example shows, for tests.
package doccode

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A Snippet is a piece of code of a document.
type Snippet struct{ Where, Code string }

// leftOut is what stands for code that the reader imagines.
var leftOut = regexp.MustCompile(`(?m)(^|[ \t])(\.\.\.|…)( |$)`)

// Blocks returns the blocks of code in a language, in all documents of the repository, whose directory is root.
func Blocks(t *testing.T, root, language string) (all []Snippet) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "docs/*.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?ms)^```" + language + "\n(.*?)^```")
	for _, file := range append(files, filepath.Join(root, "README.md"), filepath.Join(root, "CONTRIBUTING.md")) {
		text := read(t, file)
		for _, at := range block.FindAllStringSubmatchIndex(text, -1) {
			where := fmt.Sprintf("%s:%d", filepath.Base(file), strings.Count(text[:at[2]], "\n")+1)
			all = append(all, Snippet{where, text[at[2]:at[3]]})
		}
	}
	return all
}

// Cells returns the code in those columns of a document's tables that have that heading.
func Cells(t *testing.T, file, heading string) (all []Snippet) {
	t.Helper()
	column := -1
	for i, line := range strings.Split(read(t, file), "\n") {
		cells := strings.Split(strings.ReplaceAll(line, `\|`, "\x00"), "|")
		switch {
		case !strings.HasPrefix(line, "|"):
			column = -1
		case column < 0:
			for c, cell := range cells {
				if strings.TrimSpace(cell) == heading {
					column = c
				}
			}
			if column < 0 {
				column = len(cells) // another table
			}
		case column < len(cells):
			for _, code := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[column], -1) {
				all = append(all, Snippet{fmt.Sprintf("%s:%d", filepath.Base(file), i+1), strings.ReplaceAll(code[1], "\x00", "|")})
			}
		}
	}
	return all
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A Checker type-checks snippets as they would be in a package that has these imports and declarations.
type Checker struct {
	before   string
	importer types.Importer
}

// New returns a Checker. Packages are those of the module of the working directory.
func New(t *testing.T, declarations string, imports ...string) *Checker {
	t.Helper()
	c := &Checker{before: "package p\n", importer: exported(token.NewFileSet(), list(t, imports...))}
	for _, path := range imports {
		c.before += fmt.Sprintf("import %q\n", path)
	}
	c.before += declarations + "\nfunc use(...any)\n"
	return c
}

// A pkg is a package that go list has found.
type pkg struct{ dir, export string }

// list returns packages and all that they import, by their paths. Flags go before the paths.
func list(t *testing.T, args ...string) map[string]pkg {
	t.Helper()
	list := exec.Command("go", append([]string{"list", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Dir}}\t{{.Export}}"}, args...)...)
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		t.Fatalf("%v: %v", list, err)
	}
	found := make(map[string]pkg)
	for line := range strings.Lines(string(out)) {
		cells := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		found[cells[0]] = pkg{cells[1], cells[2]}
	}
	return found
}

// exported returns an importer of packages that were listed.
func exported(files *token.FileSet, listed map[string]pkg) types.Importer {
	return importer.ForCompiler(files, "gc", func(path string) (io.ReadCloser, error) { return os.Open(listed[path].export) })
}

// Check reports what is wrong with a snippet: a whole file, an expression, or statements of a function that returns an error. That something
// is not used is not wrong.
func (c *Checker) Check(s Snippet) error {
	s.Code = leftOut.ReplaceAllString(s.Code, "$1")
	source := c.before + "func _() error {\n" + s.Code + "\npanic(0)\n}\n"
	if _, err := parser.ParseExpr(s.Code); err == nil {
		source = c.before + "func _() { use(" + s.Code + ") }\n"
	} else if strings.Contains(s.Code, "\npackage ") || strings.HasPrefix(s.Code, "package ") {
		source = s.Code
	}
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, s.Where, source, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	var wrong []error
	config := types.Config{Importer: c.importer, Error: func(err error) {
		if e := (types.Error{}); errors.As(err, &e) && !e.Soft {
			wrong = append(wrong, errors.New(e.Msg))
		}
	}}
	_, _ = config.Check("p", files, []*ast.File{file}, nil)
	if err := errors.Join(wrong...); err != nil {
		return fmt.Errorf("%s: %w, in\n%s", s.Where, err, bytes.TrimSpace([]byte(s.Code)))
	}
	return nil
}
