// Package readme runs the commands of the README, and of other documents, and compares their
// output, so that the documents stay true.
package readme

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Text returns the README. The test runs in a folder of examples.
func Text(t *testing.T) string {
	t.Helper()
	return read(t, "../../README.md")
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(text)
}

// Blocks returns the fenced blocks of a language in the README.
func Blocks(t *testing.T, language string) []string {
	t.Helper()
	return BlocksOf(t, "../../README.md", language)
}

// BlocksOf returns the fenced blocks of a language in a file.
func BlocksOf(t *testing.T, file, language string) []string {
	t.Helper()
	var blocks []string
	for _, part := range strings.Split(read(t, file), "```"+language+"\n")[1:] {
		block, _, found := strings.Cut(part, "```")
		require.True(t, found)
		blocks = append(blocks, block)
	}
	return blocks
}

// Run runs the commands of a console block, in dir and with url instead of the address of the
// README, and compares the output of each command. "…" matches any text, lines included.
func Run(t *testing.T, block, url, dir string) {
	t.Helper()
	type command struct{ line, want string }
	var commands []command
	for line := range strings.Lines(block) {
		if typed, ok := strings.CutPrefix(line, "$ "); ok {
			commands = append(commands, command{line: strings.ReplaceAll(typed, "http://127.0.0.1:8000", url)})
			continue
		}
		commands[len(commands)-1].want += line
	}
	const mark = "-- end of a command --"
	var script strings.Builder
	for _, c := range commands {
		fmt.Fprintf(&script, "%secho\necho '%s'\n", c.line, mark)
	}
	shell := exec.Command("bash", "-u", "-c", script.String())
	shell.Dir = dir
	out, err := shell.CombinedOutput()
	require.NoError(t, err, string(out))
	outputs := strings.Split(strings.ReplaceAll(string(out), "\r", ""), mark+"\n")
	require.Len(t, outputs, len(commands)+1, string(out))
	for i, c := range commands {
		want := regexp.QuoteMeta(strings.TrimSpace(c.want))
		want = strings.ReplaceAll(want, "…", `(?s:.*?)`)
		require.Regexp(t, "^"+want+"$", strings.TrimSpace(outputs[i]), c.line)
	}
}
