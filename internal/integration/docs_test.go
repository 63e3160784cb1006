package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDocumentsNameTests: every test and benchmark that a document names exists. A name with
// "…" at the end is the beginning of one.
func TestDocumentsNameTests(t *testing.T) {
	var functions strings.Builder
	require.NoError(t, filepath.WalkDir("../..", func(path string, _ os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "_test.go") {
			source, err := os.ReadFile(path)
			require.NoError(t, err)
			for _, name := range regexp.MustCompile(`(?m)^func (\w+)\(`).FindAllSubmatch(source, -1) {
				functions.WriteString(" " + string(name[1]) + " ")
			}
		}
		return err
	}))
	documents, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	documents = append(documents, "../../README.md", "../../SECURITY.md", "../../CONTRIBUTING.md", "../../CHANGELOG.md")
	seen := 0
	for _, document := range documents {
		text, err := os.ReadFile(document)
		require.NoError(t, err)
		for _, name := range regexp.MustCompile("`((?:Test|Benchmark|Fuzz)[A-Z]\\w*)[/…`]").FindAllStringSubmatch(string(text), -1) {
			seen++
			if name[1] != "TestConformance" && !strings.Contains(functions.String(), " "+name[1]) {
				t.Errorf("%s names %s, which does not exist", filepath.Base(document), name[1])
			}
		}
	}
	require.Greater(t, seen, 30)
}
