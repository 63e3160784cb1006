package integration

import (
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestExamples: every exported function and method that an app calls has an Example that the go
// command runs, and the code of the Example contains the call.
//
// The go command keeps a passed result although a file outside of this module has changed:
// run the test with -count=1.
func TestExamples(t *testing.T) {
	lists := exampleLists{maps.Clone(examples.elsewhere), maps.Clone(examples.exceptions), maps.Clone(examples.noOutput)}
	fset := token.NewFileSet()
	here := examplesByName(parseFolder(t, fset, "."))
	names := publicPackages(t)
	require.Contains(t, names, "oauth2pw")
	for _, name := range names {
		files := parseFolder(t, fset, filepath.Join("..", "..", filepath.FromSlash(name)))
		for _, complaint := range missingExamples(t, name, fset, files, here, lists) {
			t.Error(complaint)
		}
	}
	for _, list := range []map[string]string{lists.elsewhere, lists.exceptions, lists.noOutput} {
		require.Empty(t, list, "remove these entries: the function or the Example does not exist, or needs no entry any more")
	}
}

// publicPackages returns the folders of the packages that an app can import.
func publicPackages(t *testing.T) (names []string) {
	t.Helper()
	root := filepath.Join("..", "..")
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() || path == root {
			return err
		}
		if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil || strings.HasPrefix(d.Name(), ".") || d.Name() == "internal" || d.Name() == "testdata" {
			return filepath.SkipDir
		}
		files, err := filepath.Glob(filepath.Join(path, "*.go"))
		if err != nil || len(files) == 0 {
			return err
		}
		name, err := filepath.Rel(root, path)
		names = append(names, filepath.ToSlash(name))
		return err
	}))
	return names
}

func parseFolder(t *testing.T, fset *token.FileSet, dir string) (files []*ast.File) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	for _, path := range paths {
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		require.NoError(t, err)
		files = append(files, f)
	}
	require.NotEmpty(t, files, dir)
	return files
}

// examplesByName returns the Examples of a package by the names of their functions.
func examplesByName(files []*ast.File) map[string]*doc.Example {
	named := make(map[string]*doc.Example)
	for _, e := range doc.Examples(files...) {
		named["Example"+e.Name] = e
	}
	return named
}

// missingExamples returns a complaint for each function of a package without an Example, and for
// each Example without output, and deletes the needed entries of the lists.
func missingExamples(t *testing.T, name string, fset *token.FileSet, files []*ast.File, here map[string]*doc.Example, lists exampleLists) (complaints []string) {
	t.Helper()
	own := examplesByName(slices.DeleteFunc(slices.Clone(files), func(f *ast.File) bool {
		return !strings.HasSuffix(fset.File(f.Pos()).Name(), "_test.go")
	}))
	p, err := doc.NewFromFiles(fset, files, module+"/"+name)
	require.NoError(t, err)

	for _, f := range exportedFunctions(p) {
		full := name + "." + f.Name
		if f.Recv != "" {
			full = name + "." + strings.TrimPrefix(f.Recv, "*") + "." + f.Name
		}
		if slices.ContainsFunc(f.Examples, func(e *doc.Example) bool { return runs(e) && calls(e, f.Name) }) {
			continue
		}
		if _, ok := lists.exceptions[full]; ok {
			delete(lists.exceptions, full)
			continue
		}
		other, listed := lists.elsewhere[full]
		delete(lists.elsewhere, full)
		e := own[other]
		if e == nil {
			e = here[other]
		}
		switch {
		case !listed:
			complaints = append(complaints, fmt.Sprintf("%s: no Example with output calls it", full))
		case e == nil || !runs(e) || !calls(e, f.Name):
			complaints = append(complaints, fmt.Sprintf("%s: %s does not exist, has no output or does not call it", full, other))
		}
	}
	for _, example := range slices.Sorted(maps.Keys(own)) {
		full := name + "." + example
		_, listed := lists.noOutput[full]
		switch {
		case !runs(own[example]) && !listed:
			complaints = append(complaints, fmt.Sprintf("%s: the Example has no output", full))
		case !runs(own[example]):
			delete(lists.noOutput, full)
		}
	}
	return complaints
}

// exportedFunctions returns the functions of a package, and the methods of its types.
func exportedFunctions(p *doc.Package) []*doc.Func {
	list := slices.Clone(p.Funcs)
	for _, t := range p.Types {
		list = append(append(list, t.Funcs...), t.Methods...)
	}
	return list
}

// runs reports whether the go command runs an Example and compares its output.
func runs(e *doc.Example) bool { return e.Output != "" || e.EmptyOutput }

// calls reports whether the code of an Example names a function or method of another package.
func calls(e *doc.Example, function string) (found bool) {
	ast.Inspect(e.Code, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		found = found || ok && s.Sel.Name == function
		return !found
	})
	return found
}

// TestExamplesChecker: a function without a running call, an Example without output and an entry
// that is not needed are found.
func TestExamplesChecker(t *testing.T) {
	const library = `package thing

type T struct{}

func New() *T { return nil }
func (*T) Shown()  {}
func (*T) Other()  {}
func (*T) Hidden() {}
func (*T) check()  {}
func Silent() {}
`
	const examples = `package thing_test

func ExampleNew() {
	thing.New().Other()
	// Output:
}

func ExampleT_Shown() {
	println("without the call")
	// Output:
}

func ExampleSilent() { thing.Silent() }
`
	fset := token.NewFileSet()
	var files []*ast.File
	for name, source := range map[string]string{"thing.go": library, "example_test.go": examples} {
		f, err := parser.ParseFile(fset, name, source, parser.ParseComments)
		require.NoError(t, err)
		files = append(files, f)
	}
	lists := func() exampleLists {
		return exampleLists{
			elsewhere:  map[string]string{"thing.T.Other": "ExampleNew", "thing.T.Shown": "ExampleNew", "thing.Gone": "ExampleNew"},
			exceptions: map[string]string{"thing.T.Hidden": "hidden", "thing.New": "shown"},
			noOutput:   map[string]string{"thing.ExampleSilent": "silent"},
		}
	}
	l := lists()
	require.Equal(t, []string{
		"thing.Silent: no Example with output calls it",
		"thing.T.Shown: ExampleNew does not exist, has no output or does not call it",
	}, missingExamples(t, "thing", fset, files, nil, l))
	require.Equal(t, exampleLists{map[string]string{"thing.Gone": "ExampleNew"}, map[string]string{"thing.New": "shown"}, map[string]string{}}, l)

	require.Equal(t, []string{
		"thing.Silent: no Example with output calls it",
		"thing.T.Hidden: no Example with output calls it",
		"thing.T.Other: no Example with output calls it",
		"thing.T.Shown: no Example with output calls it",
		"thing.ExampleSilent: the Example has no output",
	}, missingExamples(t, "thing", fset, files, nil, exampleLists{}))
}
