package oauth2pw

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestParts: the parts of an Auth form no cycle, and every receiver but Auth, whose methods
// only open the parts, lives in two files at most.
func TestParts(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	uses := make(map[string][]string)         // the types in the fields of a struct
	lives := make(map[string]map[string]bool) // the files of the methods of a type
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		for _, decl := range file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Recv != nil {
					receiver := typeName(d.Recv.List[0].Type)
					if lives[receiver] == nil {
						lives[receiver] = make(map[string]bool)
					}
					lives[receiver][name] = true
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					ts, ok := spec.(*ast.TypeSpec)
					if !ok {
						continue
					}
					if s, ok := ts.Type.(*ast.StructType); ok {
						uses[ts.Name.Name] = []string{}
						for _, field := range s.Fields.List {
							uses[ts.Name.Name] = append(uses[ts.Name.Name], typeName(field.Type))
						}
					}
				}
			}
		}
	}
	require.Contains(t, uses, "parts")
	require.Greater(t, len(uses["parts"]), 10)

	done, open := make(map[string]bool), []string{}
	var visit func(name string)
	visit = func(name string) {
		if at := slices.Index(open, name); at >= 0 {
			require.Fail(t, "a cycle", strings.Join(append(open[at:], name), " uses "))
		}
		if done[name] {
			return
		}
		open = append(open, name)
		for _, used := range uses[name] {
			visit(used)
		}
		open = open[:len(open)-1]
		done[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(uses)) {
		visit(name)
	}
	for receiver, in := range lives {
		if receiver != "Auth" {
			require.LessOrEqual(t, len(in), 2, "%s lives in %v", receiver, slices.Sorted(maps.Keys(in)))
		}
	}
}

// typeName returns the name of a type of this package, "" for any other.
func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return typeName(e.X)
	case *ast.Ident:
		return e.Name
	case *ast.IndexExpr:
		return typeName(e.X)
	}
	return ""
}
