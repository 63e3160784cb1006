package integration

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const conformanceList = "docs/conformance.md"

// TestConformanceList compares docs/conformance.md with the tests that name its lines: each
// line has a test, or says that it has none yet, or which document holds it, and no test
// names a line that the list does not have. With -v it prints the tests of each line.
//
// The go command keeps a passed result although a file outside of this module has changed:
// run it with -count=1, as make lint does.
func TestConformanceList(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	require.NoError(t, err)
	document, err := os.ReadFile(filepath.Join(root, conformanceList))
	require.NoError(t, err)
	lines, problems := readConformance(string(document))
	tests, more := conformanceTests(t, root)
	problems = append(problems, more...)
	problems = append(problems, compareConformance(root, lines, tests)...)
	for _, p := range problems {
		t.Error(p)
	}
	for _, l := range lines {
		fmt.Fprintf(t.Output(), "%d (%s): %s\n", l.number, l.heldBy, strings.Join(tests[l.number], ", "))
	}
}

// conformanceLine is a row of the tables.
type conformanceLine struct {
	number        int
	level, heldBy string
}

var documentLink = regexp.MustCompile(`^\[[^\]]+\]\(([^)#]+)#([^)]+)\)$`)

// readConformance reads the rows whose first cell is a number.
func readConformance(document string) (lines []conformanceLine, problems []string) {
	for row := range strings.Lines(document) {
		cells := strings.Split(strings.Trim(row, "| \n"), " | ")
		number, err := strconv.Atoi(cells[0])
		if err != nil || !strings.HasPrefix(row, "|") {
			continue
		}
		if len(cells) != 5 {
			problems = append(problems, fmt.Sprintf("%s: line %d has %d cells, not 5", conformanceList, number, len(cells)))
			continue
		}
		l := conformanceLine{number, cells[1], cells[4]}
		if number != len(lines)+1 {
			problems = append(problems, fmt.Sprintf("%s: line %d is where %d belongs", conformanceList, number, len(lines)+1))
		}
		if !slices.Contains([]string{"must", "should", "choice"}, l.level) {
			problems = append(problems, fmt.Sprintf("%s: line %d has the level %q", conformanceList, number, l.level))
		}
		lines = append(lines, l)
	}
	return lines, problems
}

// compareConformance reports what the list and the tests disagree about. tests are the
// names of tests by line.
func compareConformance(root string, lines []conformanceLine, tests map[int][]string) (problems []string) {
	problem := func(l conformanceLine, format string, args ...any) {
		problems = append(problems, fmt.Sprintf("%s: line %d ", conformanceList, l.number)+fmt.Sprintf(format, args...))
	}
	listed := make(map[int]bool)
	for _, l := range lines {
		listed[l.number] = true
		held := len(tests[l.number]) > 0
		link := documentLink.FindStringSubmatch(l.heldBy)
		switch {
		case l.heldBy == "tests" || l.heldBy == "tests, in part":
			if !held {
				problem(l, "has no test; write one, or \"not yet\"")
			}
		case l.heldBy == "not yet":
			if held {
				problem(l, "is \"not yet\", and has a test: %s", tests[l.number][0])
			}
		case link != nil:
			if held {
				problem(l, "is held by a document, and has a test: %s", tests[l.number][0])
			}
			if err := findHeading(filepath.Join(root, "docs", link[1]), link[2]); err != nil {
				problem(l, "%v", err)
			}
		default:
			problem(l, "is held by %q: write tests; tests, in part; not yet; or the link to a heading", l.heldBy)
		}
	}
	for number, names := range tests {
		if !listed[number] {
			problems = append(problems, fmt.Sprintf("%s names line %d, which %s does not have", names[0], number, conformanceList))
		}
	}
	return problems
}

// findHeading looks for a heading of a Markdown file by the anchor that GitHub gives it.
func findHeading(file, anchor string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for row := range strings.Lines(string(text)) {
		heading := strings.TrimLeft(row, "#")
		if heading == row {
			continue
		}
		var b strings.Builder
		for _, c := range strings.ToLower(strings.TrimSpace(heading)) {
			switch {
			case c == ' ':
				b.WriteByte('-')
			case c == '-' || c == '_' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
				b.WriteRune(c)
			}
		}
		if b.String() == anchor {
			return nil
		}
	}
	return fmt.Errorf("names #%s, a heading that %s does not have", anchor, filepath.Base(file))
}

var (
	// numberedFunc finds the line in the name of a function: TestConformance56Refreshes.
	numberedFunc = regexp.MustCompile(`^(?:Test|Fuzz)[A-Za-z]*Conformance(\d+)`)
	// numberedCase finds the lines in the name of a case: 26_unknown_user, 16_17_success.
	numberedCase = regexp.MustCompile(`^(\d+(?:_\d+)*)_(?:\D|$)`)
	// numberedDoc finds the lines in the last paragraph of the doc comment of a whole test.
	numberedDoc = regexp.MustCompile(`\nConformance (\d+(?:, \d+)*)\.\n$`)
	// nearDoc finds comments that mean to name a line.
	nearDoc = regexp.MustCompile(`(?i)\bconformance:?\s+(?:lines?\s+)?\d|\b(?:holds|covers) lines? \d`)
)

// conformanceTests returns the names of the tests of the repository by the lines that they
// name.
func conformanceTests(t *testing.T, root string) (tests map[int][]string, problems []string) {
	tests = make(map[int][]string)
	files := 0
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || path != root && strings.HasPrefix(d.Name(), ".")):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		files++
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		named, more, err := namedLines(filepath.ToSlash(name), source)
		for number, list := range named {
			tests[number] = append(tests[number], list...)
		}
		problems = append(problems, more...)
		return err
	}))
	require.NotZero(t, files)
	return tests, problems
}

// namedLines returns the names of the tests of a file by the lines that they name.
func namedLines(file string, source []byte) (tests map[int][]string, problems []string, err error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, file, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, nil, err
	}
	tests = make(map[int][]string)
	add := func(numbers, sep, name string) {
		for n := range strings.SplitSeq(numbers, sep) {
			number, _ := strconv.Atoi(n)
			if name := file + " " + name; !slices.Contains(tests[number], name) {
				tests[number] = append(tests[number], name)
			}
		}
	}
	docs := make(map[*ast.CommentGroup]bool) // that name lines as they should
	for _, decl := range f.Decls {
		function, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		name := function.Name.Name
		if m := numberedFunc.FindStringSubmatch(name); m != nil {
			add(m[1], "_", name)
		}
		if m := numberedDoc.FindStringSubmatch("\n" + function.Doc.Text()); m != nil && (strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Fuzz")) {
			docs[function.Doc] = true
			add(m[1], ", ", name)
		}
		ast.Inspect(function, func(n ast.Node) bool {
			if m := numberedCase.FindStringSubmatch(caseName(n)); m != nil {
				add(m[1], "_", name+"/"+caseName(n))
			}
			return true
		})
	}
	for _, group := range f.Comments {
		if at := nearDoc.FindString(group.Text()); at != "" && !docs[group] {
			problems = append(problems, fmt.Sprintf("%s: %q names no line: write \"Conformance 42, 92.\" as the last paragraph of the comment of a test",
				fset.Position(group.Pos()), at))
		}
	}
	return tests, problems, nil
}

// caseName returns the name that a node gives to a case: the first argument of a call of
// Run, or the field name of a row in a table. "" for any other node.
func caseName(n ast.Node) string {
	var value ast.Expr
	switch n := n.(type) {
	case *ast.CallExpr:
		if f, ok := n.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "Run" && len(n.Args) == 2 {
			value = n.Args[0]
		}
	case *ast.KeyValueExpr:
		if key, ok := n.Key.(*ast.Ident); ok && key.Name == "name" {
			value = n.Value
		}
	}
	for {
		sum, ok := value.(*ast.BinaryExpr)
		if !ok {
			break
		}
		value = sum.X // "136_" + name
	}
	literal, ok := value.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return ""
	}
	name, _ := strconv.Unquote(literal.Value)
	return name
}

// TestConformanceChecker: what the comparison finds.
func TestConformanceChecker(t *testing.T) {
	const list = "| number | level | statement | source | held by |\n| --- | --- | --- | --- | --- |\n"
	root := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(root, "docs"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(root, "docs", "x.md"), []byte("# A title\n\n## What is (not) here\n"), 0o600))
	const source = "package x\n\n// TestDoc: words.\n//\n// Conformance 1, 3.\nfunc TestDoc(t *testing.T) {}\n\nfunc TestXConformance4Words(t *testing.T) {\n" +
		"for _, c := range []struct{ name string }{{name: `5_a_case`}} { t.Run(c.name, nil) }\nt.Run(\"6_7_two\", nil)\nt.Run(\"8_\" + x, nil)\nt.Run(\"100,000 words\", nil)\nt.Run(\"9 words\", nil)\n}\n"
	tests, problems, err := namedLines("x_test.go", []byte(source))
	require.NoError(t, err)
	require.Empty(t, problems)
	require.Equal(t, map[int][]string{
		1: {"x_test.go TestDoc"}, 3: {"x_test.go TestDoc"}, 4: {"x_test.go TestXConformance4Words"}, 5: {"x_test.go TestXConformance4Words/5_a_case"},
		6: {"x_test.go TestXConformance4Words/6_7_two"}, 7: {"x_test.go TestXConformance4Words/6_7_two"}, 8: {"x_test.go TestXConformance4Words/8_"},
	}, tests)
	for _, near := range []string{
		"// TestDoc: conformance 5.\nfunc TestDoc() {}", "// Conformance 5\nfunc TestDoc() {}", "// Conformance 5.\nfunc helper() {}",
		"// Conformance 5.\nfunc BenchmarkX() {}", "// TestDoc holds lines 5 and 6.\nfunc TestDoc() {}", "func TestDoc() {\n\t// Conformance 5.\n}",
	} {
		_, problems, err := namedLines("x_test.go", []byte("package x\n\n"+near+"\n"))
		require.NoError(t, err)
		require.Len(t, problems, 1, near)
	}

	for rows, want := range map[string]string{
		"| 1 | must | A. | own | tests |\n":                                              "",
		"| 1 | must | A. | own | tests, in part |\n":                                     "",
		"| 1 | must | A. | own | tests |\n| 2 | choice | B. | own | not yet |\n":         "",
		"| 1 | must | A. | own | tests |\n| 2 | should | B. | own | tests |\n":           "line 2 has no test",
		"| 1 | must | A. | own | tests |\n| 2 | should | B. | own | tests, in part |\n":  "line 2 has no test",
		"| 1 | must | A. | own | not yet |\n":                                            "line 1 is \"not yet\", and has a test",
		"| 1 | must | A. | own | [x](x.md#what-is-not-here) |\n":                         "line 1 is held by a document, and has a test",
		"| 1 | must | A. | own | tests |\n| 2 | must | B. | own | [x](x.md#a-title) |\n": "",
		"| 1 | must | A. | own | tests |\n| 2 | must | B. | own | [x](x.md#other) |\n":   "a heading that x.md does not have",
		"| 1 | must | A. | own | tests |\n| 2 | must | B. | own | [x](y.md#other) |\n":   "no such file",
		"| 1 | must | A. | own | soon |\n":                                               "is held by \"soon\"",
		"| 1 | may | A. | own | tests |\n":                                               "the level \"may\"",
		"| 1 | must | A. | tests |\n":                                                    "4 cells",
		"| 2 | must | A. | own | not yet |\n":                                            "line 2 is where 1 belongs",
		"":                                                                               "TestDoc names line 1, which docs/conformance.md does not have",
	} {
		lines, problems := readConformance(list + rows)
		problems = append(problems, compareConformance(root, lines, map[int][]string{1: {"TestDoc"}})...)
		if want == "" {
			require.Empty(t, problems, rows)
			continue
		}
		require.Contains(t, strings.Join(problems, "\n"), want, rows)
	}
}
