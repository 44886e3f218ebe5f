package doccode

import (
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// CheckShown reports each exported name of packages, by their paths, that no example of any of them uses: of methods and
// fields, Type.Name. Not those that are obvious, of which it reports what is none, or is in an example.
func CheckShown(t *testing.T, obvious map[string][]string) {
	t.Helper()
	paths := slices.Sorted(maps.Keys(obvious))
	listed := list(t, append([]string{"-test"}, paths...)...)
	files := token.NewFileSet()
	from := exported(files, listed)
	names := make(map[types.Object]string)
	for _, path := range paths {
		of, err := from.Import(path)
		if err != nil {
			t.Fatal(err)
		}
		addExported(names, of)
	}
	shown := make(map[string]bool)
	for _, path := range paths {
		uses, types := used(t, files, from, listed[path].dir)
		for _, object := range uses {
			shown[names[object]] = true
		}
		for object, name := range names {
			shown[name] = shown[name] || implemented(object, types)
		}
	}
	left := make(map[string]bool)
	for path, all := range obvious {
		for _, name := range all {
			left[path+"."+name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Values(names)) {
		switch {
		case left[name] && shown[name]:
			t.Errorf("%s is in an example, and among those that are obvious", name)
		case !left[name] && !shown[name]:
			t.Errorf("no example uses %s", name)
		}
		delete(left, name)
	}
	for name := range left {
		t.Errorf("there is no %s, which is among those that are obvious", name)
	}
}

// addExported adds the exported names of a package, but for types: an example that uses a method or field, or what returns
// one, shows the type.
func addExported(names map[types.Object]string, of *types.Package) {
	add := func(prefix string, object types.Object) {
		if object.Exported() {
			names[object] = prefix + "." + object.Name()
		}
	}
	for _, name := range of.Scope().Names() {
		object := of.Scope().Lookup(name)
		if _, is := object.(*types.TypeName); !is {
			add(of.Path(), object)
			continue
		}
		named, is := object.Type().(*types.Named)
		if !is || !object.Exported() {
			continue
		}
		prefix := of.Path() + "." + name
		for method := range named.Methods() {
			add(prefix, method)
		}
		switch under := named.Underlying().(type) {
		case *types.Struct:
			for field := range under.Fields() {
				add(prefix, field)
			}
		case *types.Interface:
			for method := range under.Methods() {
				add(prefix, method)
			}
		}
	}
}

// used returns what the example files of a directory use, and the types that they declare.
func used(t *testing.T, files *token.FileSet, from types.Importer, dir string) (uses []types.Object, declared []types.Type) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "example*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var examples []*ast.File
	for _, path := range paths {
		if match, err := build.Default.MatchFile(dir, filepath.Base(path)); err != nil || !match {
			continue
		}
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		file.Decls = slices.DeleteFunc(file.Decls, func(d ast.Decl) bool {
			f, is := d.(*ast.FuncDecl)
			return is && strings.HasPrefix(f.Name.Name, "Test")
		})
		examples = append(examples, file)
	}
	info := types.Info{Defs: make(map[*ast.Ident]types.Object), Uses: make(map[*ast.Ident]types.Object)}
	// The compiler finds mistakes. What other test files declare is unknown here.
	config := types.Config{Importer: from, Error: func(error) {}}
	_, _ = config.Check(dir, files, examples, &info)
	for _, object := range info.Defs {
		if of, is := object.(*types.TypeName); is {
			declared = append(declared, of.Type())
		}
	}
	return slices.Collect(maps.Values(info.Uses)), declared
}

// implemented reports whether an object is a method of an interface that one of the types implements.
func implemented(object types.Object, by []types.Type) bool {
	method, is := object.(*types.Func)
	if !is || method.Signature().Recv() == nil {
		return false
	}
	of, is := method.Signature().Recv().Type().Underlying().(*types.Interface)
	return is && slices.ContainsFunc(by, func(t types.Type) bool { return types.Implements(types.NewPointer(t), of) })
}
