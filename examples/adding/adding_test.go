// Package adding compares the apps of its folders, before and after the login of this
// library, and holds docs/adding-login.md to the differences.
package adding

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the differences and the figures into docs/adding-login.md")

const guide = "../../docs/adding-login.md"

// routers are the folders, with the most lines that a login may change. gin and huma need an
// adapter of nine lines.
var routers = []struct {
	folder, name string
	most         int
}{
	{"nethttp", "net/http", 15},
	{"chi", "chi", 15},
	{"echo", "echo", 15},
	{"gin", "gin", 21},
	{"huma", "huma", 21},
}

// TestGuide: a login changes few lines of an app, and the guide shows exactly these lines and
// their number.
func TestGuide(t *testing.T) {
	text := read(t, guide)
	shown := text
	var table strings.Builder
	table.WriteString("| router | changed lines | without `must` |\n| --- | --- | --- |\n")
	for _, router := range routers {
		changes := diff(lines(read(t, filepath.Join(router.folder, "before", "main.go"))), lines(read(t, filepath.Join(router.folder, "after", "main.go"))))
		added, removed, must := 0, 0, 0
		for _, c := range changes {
			switch c.sign {
			case '+':
				added++
				must += strings.Count(c.text, "must(")
			case '-':
				removed++
			}
		}
		require.LessOrEqual(t, added+removed, router.most, router.name)
		// Without must, a call has three more lines: if err != nil, the answer, and the brace.
		fmt.Fprintf(&table, "| [%s](#%s) | %d | %d |\n", router.name, router.folder, added+removed, added+removed+3*must)
		block := fmt.Sprintf("%d lines: %d added, %d removed.\n\n```diff\n%s```\n", added+removed, added, removed, unified(changes, 3))
		text = replace(t, text, router.folder, block)
	}
	text = replace(t, text, "figures", table.String())
	if *update {
		require.NoError(t, os.WriteFile(guide, []byte(text), 0o644))
		return
	}
	require.Equal(t, text, shown, "run go test ./adding -update in examples")
}

// replace replaces the text between the two marks of a name.
func replace(t *testing.T, text, name, content string) string {
	begin, end := "<!-- "+name+": made by go test ./adding -update -->\n", "<!-- end of "+name+" -->\n"
	before, rest, found := strings.Cut(text, begin)
	require.True(t, found, begin)
	_, after, found := strings.Cut(rest, end)
	require.True(t, found, end)
	return before + begin + content + end + after
}

func read(t *testing.T, file string) string {
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(text)
}

func lines(text string) []string { return strings.Split(strings.TrimSuffix(text, "\n"), "\n") }

// change is a line of a difference: removed '-', added '+' or unchanged ' '.
type change struct {
	sign byte
	text string
}

// diff returns the lines of a and b along a longest common subsequence.
func diff(a, b []string) []change {
	longest := make([][]int, len(a)+1) // of a[i:] and b[j:]
	for i := range longest {
		longest[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				longest[i][j] = longest[i+1][j+1] + 1
			} else {
				longest[i][j] = max(longest[i+1][j], longest[i][j+1])
			}
		}
	}
	var changes []change
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			changes = append(changes, change{' ', a[i]})
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && longest[i+1][j] >= longest[i][j+1]:
			changes = append(changes, change{'-', a[i]})
			i++
		default:
			changes = append(changes, change{'+', b[j]})
			j++
		}
	}
	return changes
}

// unified returns the changes in the form of diff -u, with lines of context around them.
func unified(changes []change, context int) string {
	shown := make([]bool, len(changes))
	for i, c := range changes {
		if c.sign != ' ' {
			for k := max(i-context, 0); k <= min(i+context, len(changes)-1); k++ {
				shown[k] = true
			}
		}
	}
	var out strings.Builder
	out.WriteString("--- before/main.go\n+++ after/main.go\n")
	lineA, lineB := 1, 1
	for i := 0; i < len(changes); {
		var hunk strings.Builder
		startA, startB := lineA, lineB
		for ; i < len(changes) && shown[i]; i++ {
			c := changes[i]
			hunk.WriteString(strings.TrimRight(string(c.sign)+c.text, " ") + "\n")
			if c.sign != '+' {
				lineA++
			}
			if c.sign != '-' {
				lineB++
			}
		}
		if hunk.Len() > 0 {
			fmt.Fprintf(&out, "@@ -%d,%d +%d,%d @@\n%s", startA, lineA-startA, startB, lineB-startB, hunk.String())
			continue
		}
		i, lineA, lineB = i+1, lineA+1, lineB+1 // unchanged, and not shown
	}
	return out.String()
}

// TestDiff: the form is that of diff -u.
func TestDiff(t *testing.T) {
	before := strings.Split("a b c d e f g h i j k", " ")
	after := strings.Split("a b C d e f g h i j k l", " ")
	require.Equal(t, `--- before/main.go
+++ after/main.go
@@ -2,3 +2,3 @@
 b
-c
+C
 d
@@ -11,1 +11,2 @@
 k
+l
`, unified(diff(before, after), 1))
}
