package guides

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/examples/internal/readme"
)

// guides are the documents, with the files that have their code. The first cells of the tables
// of theirs, other libraries, are names of theirs, which theirFile has.
var guides = []struct {
	document, file, theirs, theirFile string
	names                             string // patterns of files that have further names
	python                            bool   // a block of Python; TestOldTokens runs it
}{
	// examples/adding has the differences and the commands.
	{document: "adding-login.md", file: "addinglogin.go", names: "../adding/*/after/main.go"},
	{document: "from-fastapi.md", file: "fromfastapi.go", theirs: "FastAPI fastapi-users", python: true},
	{document: "testing.md", file: "testing_test.go"},
	{document: "choosing.md", file: "choosing.go"},
	{document: "from-golang-jwt.md", file: "fromothers.go", theirFile: "testdata/golangjwt/golangjwt.go"},
	{document: "from-go-oauth2.md", file: "fromothers.go", theirs: "go-oauth2", theirFile: "testdata/gooauth2/gooauth2.go"},
	{document: "from-gin-jwt.md", file: "fromothers.go", theirs: "gin-jwt", theirFile: "testdata/ginjwt/ginjwt.go", names: "../adding/gin/after/main.go"},
	{document: "leaving-the-password-grant.md", file: "leaving.go"},
	{document: "moving-in.md", file: "movingin.go"},
	{document: "stores.md", file: "stores_test.go", names: "../../internal/integration/*_test.go ../../store/redisstore/*_test.go"},
}

// TestGuides: each block and each span of Go in a guide is one that the compiler has read, and
// each name of Go in a guide exists.
func TestGuides(t *testing.T) {
	ours := exported(t, "../..")
	for _, g := range guides {
		t.Run(g.document, func(t *testing.T) {
			document := filepath.Join("../../docs", g.document)
			source := read(t, g.file)
			theirs := ""
			if g.theirFile != "" {
				theirs = read(t, g.theirFile)
			}
			names := source + theirs
			for _, pattern := range strings.Fields(g.names) {
				further, err := filepath.Glob(pattern)
				require.NoError(t, err)
				for _, file := range further {
					names += read(t, file)
				}
			}
			for _, block := range readme.BlocksOf(t, document, "go") {
				if theirs != "" && contains(theirs, block) {
					continue
				}
				require.True(t, contains(source, block), "%s has not the block:\n%s", g.file, block)
			}
			text := read(t, document)
			for _, fence := range regexp.MustCompile("(?m)^```(\\w+)").FindAllStringSubmatch(text, -1) {
				held := fence[1] == "go" || g.document == "adding-login.md" || fence[1] == "python" && g.python
				require.True(t, held, "no test holds a block of %s", fence[1])
			}
			text = regexp.MustCompile("(?s)```.*?```").ReplaceAllString(text, "")
			inTheirTable, seen := false, 0
			for line := range strings.Lines(text) {
				cells := strings.Split(line, "|")
				if !strings.HasPrefix(line, "| ") {
					inTheirTable = false
				} else if head := strings.TrimSpace(cells[1]); head != "" && strings.Contains(g.theirs, head) {
					inTheirTable = true
				}
				for _, span := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatchIndex(line, -1) {
					code := line[span[2]:span[3]]
					first := inTheirTable && strings.Count(line[:span[2]], "|") == 1
					switch {
					case first && theirs == "": // Python
					case first:
						require.True(t, contains(theirs, code), "%s has not %s", g.theirFile, code)
						seen++
					case isCode(code):
						require.True(t, contains(source, code), "%s has not %s", g.file, code)
						seen++
					case goName.MatchString(code) && !algorithm.MatchString(code):
						for _, name := range strings.Split(code, ".") {
							if ast.IsExported(name) {
								require.True(t, ours[name] || strings.Contains(names, name), "no %s exists", code)
								seen++
							}
						}
					}
				}
			}
			require.Greater(t, seen, 4)
		})
	}
}

var (
	goName     = regexp.MustCompile(`^(?:[a-z]\w*\.)?[A-Z][a-z]\w*(?:\.[A-Z]\w*)*$`)
	algorithm  = regexp.MustCompile(`^EdDSA$`)
	expression = regexp.MustCompile(`^[\w.]+\(.*\)$`)
	notGo      = regexp.MustCompile(`^(?:UPDATE|SELECT|go|func\(|Authorization:|Bearer|Cache-Control:|WWW-Authenticate:|if )`)
)

// isCode reports whether a span is a statement, an expression or a field of Go, and not only a
// name.
func isCode(span string) bool {
	if notGo.MatchString(span) {
		return false
	}
	return strings.Contains(span, " = ") || strings.Contains(span, " := ") || expression.MatchString(span) || regexp.MustCompile(`^\w+: \S`).MatchString(span)
}

// contains reports whether a source has lines of code, indented in any way. "…" between them
// is any text.
func contains(source, code string) bool {
	source = flat(source)
	for part := range strings.SplitSeq(code, "…\n") {
		at := strings.Index(source, strings.TrimSpace(flat(part)))
		if at < 0 {
			return false
		}
		source = source[at:]
	}
	return true
}

// flat returns lines without indentation.
func flat(code string) string {
	var out []string
	for line := range strings.Lines(code) {
		out = append(out, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(out, "\n")
}

func read(t *testing.T, file string) string {
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(text)
}

// exported returns the exported names of the library: types, functions, methods, constants,
// fields and packages.
func exported(t *testing.T, root string) map[string]bool {
	names := make(map[string]bool)
	for _, folder := range []string{"oauth2pw", "hasher", "tokens", "store"} {
		require.NoError(t, filepath.WalkDir(filepath.Join(root, folder), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.FuncDecl:
					names[n.Name.Name] = true
					return false
				case *ast.TypeSpec:
					names[n.Name.Name] = true
				case *ast.ValueSpec:
					for _, name := range n.Names {
						names[name.Name] = true
					}
				case *ast.Field:
					for _, name := range n.Names {
						names[name.Name] = true
					}
				}
				return true
			})
			return nil
		}))
	}
	return names
}

// TestTheirs: in the workspace, which has the other libraries, their code of the guides
// compiles, and the middleware of golang-jwt lacks the rules that the guide names.
func TestTheirs(t *testing.T) {
	work, err := exec.CommandContext(t.Context(), "go", "env", "GOWORK").Output()
	require.NoError(t, err)
	if where := strings.TrimSpace(string(work)); where == "" || where == "off" {
		t.Skip("the module of the examples does not have the other libraries")
	}
	folders, err := filepath.Glob("testdata/*")
	require.NoError(t, err)
	slices.Sort(folders)
	for _, folder := range folders {
		for _, command := range []string{"vet", "test"} {
			out, err := exec.CommandContext(t.Context(), "go", command, "./"+folder).CombinedOutput()
			require.NoError(t, err, string(out))
		}
	}
}
