package oauth2pw

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write docs/events.md")

// TestEventTable: docs/events.md has every kind and reason of an event, and no other.
// TestMain compares the same table with the events of all tests.
//
// Conformance 143.
func TestEventTable(t *testing.T) {
	kinds, reasons := eventConstants(t)
	for _, reason := range reasons {
		require.True(t, slices.ContainsFunc(kinds, func(k eventConstant) bool {
			return slices.Contains(EventKind(k.value).Reasons(), EventReason(reason.value))
		}), "no kind has the reason %s", reason.value)
	}
	require.Len(t, kinds, len(eventReasons))
	var b strings.Builder
	b.WriteString(eventsIntroduction)
	b.WriteString("\n| kind | meaning | reasons |\n| --- | --- | --- |\n")
	for _, k := range kinds {
		require.NotNil(t, EventKind(k.value).Reasons(), k.value)
		var list []string
		for _, reason := range EventKind(k.value).Reasons() {
			if reason == "" {
				continue // the code says more
			}
			list = append(list, "`"+string(reason)+"`")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", k.value, k.meaning, strings.Join(list, ", "))
	}
	b.WriteString("\n| reason | meaning |\n| --- | --- |\n")
	for _, reason := range reasons {
		if reason.meaning != "" {
			fmt.Fprintf(&b, "| `%s` | %s |\n", reason.value, reason.meaning)
		}
	}
	const file = "../docs/events.md"
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(b.String()), 0o644)) // a document
	}
	written, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, b.String(), string(written), "write it anew: go test ./oauth2pw -run TestEventTable -update")
}

const eventsIntroduction = "# Events\n\n" +
	"`Config.OnEvent` gets every event; `LogEvents` writes them to a `*slog.Logger`. Without `OnEvent`, failures and\n" +
	"hints about the configuration go to `slog.Default()`. An event holds no secret. `Event.Code` is the error code of the answer,\n" +
	"`Event.Plug` the store, hasher or function of the app that failed or refused, and `Event.Err` its error.\n" +
	"`EventKind.Reasons` returns the reasons of a kind, for the labels of metrics.\n\n" +
	"This page is made from the constants in [event.go](../oauth2pw/event.go).\n"

type eventConstant struct{ value, meaning string }

// eventConstants reads the kinds and the reasons with their comments from event.go.
func eventConstants(t *testing.T) (kinds, reasons []eventConstant) {
	file, err := parser.ParseFile(token.NewFileSet(), "event.go", nil, parser.ParseComments)
	require.NoError(t, err)
	for _, decl := range file.Decls {
		d, ok := decl.(*ast.GenDecl)
		if !ok || d.Tok != token.CONST {
			continue
		}
		for _, spec := range d.Specs {
			v := spec.(*ast.ValueSpec)
			c := eventConstant{value: strings.Trim(v.Values[0].(*ast.BasicLit).Value, `"`)}
			c.meaning = strings.TrimSpace(strings.ReplaceAll(v.Comment.Text(), "\n", " "))
			switch v.Type.(*ast.Ident).Name {
			case "EventKind":
				require.NotEmpty(t, c.meaning, c.value)
				kinds = append(kinds, c)
			case "EventReason":
				reasons = append(reasons, c)
			}
		}
	}
	return kinds, reasons
}
