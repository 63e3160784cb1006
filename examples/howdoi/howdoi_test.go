package howdoi

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/examples/internal/readme"
)

// TestREADME: each line of code in the tables of the README, and in its block about a
// service that only takes tokens, is one that the compiler has read.
func TestREADME(t *testing.T) {
	source, err := os.ReadFile("howdoi.go")
	require.NoError(t, err)
	text, seen := readme.Text(t), 0
	for row := range strings.Lines(text) {
		if !strings.HasPrefix(row, "| ") {
			continue
		}
		for _, span := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row, -1) {
			if strings.Contains(span[1], " = ") || strings.Contains(span[1], " := ") || strings.HasPrefix(span[1], "auth.") && strings.HasSuffix(span[1], `")`) {
				require.Contains(t, string(source), span[1])
				seen++
			}
		}
	}
	require.Greater(t, seen, 15)
	for _, block := range readme.Blocks(t, "go") {
		if !strings.Contains(block, "NewRemote") {
			continue
		}
		for line := range strings.Lines(block) {
			if line = strings.TrimSpace(line); line != "…" {
				require.Contains(t, string(source), line)
			}
		}
	}
}
