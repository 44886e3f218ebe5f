package permits

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The models in spec stand for functions of the module, which its README lists
// with a line of each. A model of what is not there any more shows nothing.
func TestSpecNamesLinesThatExist(t *testing.T) {
	root := filepath.Join("..", "..")
	readme, err := os.ReadFile(filepath.Join(root, "spec", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	// | step | `file.go:(*Type).Method` | `a line of it` | what |
	row := regexp.MustCompile("^\\| (\\w+): [^|]+ \\| `([^`:]+\\.go):([^`]+)` \\| `([^`]+)` \\|")
	rows := make(map[string]int) // by model
	for line := range strings.Lines(string(readme)) {
		if !strings.Contains(line, ".go:") || !strings.HasPrefix(line, "|") {
			continue
		}
		m := row.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("not a row of the table: %s", line)
			continue
		}
		rows[m[1]]++
		source, err := os.ReadFile(filepath.Join(root, m[2]))
		if err != nil {
			t.Error(err)
			continue
		}
		body, ok := functions(t, m[2], source)[m[3]]
		if !ok {
			t.Errorf("%s: no function %s", m[2], m[3])
		} else if !strings.Contains(body, m[4]) {
			t.Errorf("%s: %s has no %q", m[2], m[3], m[4])
		}
	}
	models, err := filepath.Glob(filepath.Join(root, "spec", "*.pml"))
	if err != nil || len(models) < 5 {
		t.Errorf("models %v, %v", models, err)
	}
	for _, m := range models {
		if name := strings.TrimSuffix(filepath.Base(m), ".pml"); rows[name] < 4 {
			t.Errorf("%s: got %d rows, want a row for each step", name, rows[name])
		}
	}
}

// functions returns the text of a file's functions, by "Name" or "(*Type).Name".
func functions(t *testing.T, name string, source []byte) map[string]string {
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, name, source, 0)
	if err != nil {
		t.Fatal(err)
	}
	texts := make(map[string]string)
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		name := fn.Name.Name
		if fn.Recv != nil {
			of := fn.Recv.List[0].Type
			if star, ok := of.(*ast.StarExpr); ok {
				name = "(*" + star.X.(*ast.Ident).Name + ")." + name
			} else {
				name = of.(*ast.Ident).Name + "." + name
			}
		}
		texts[name] = string(source[files.Position(fn.Pos()).Offset:files.Position(fn.End()).Offset])
	}
	return texts
}
