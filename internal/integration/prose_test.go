package integration

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// proseHeld are the folders and files without a hit. Add a folder when its text is rewritten;
// with -v, TestProse prints the hits of the rest.
var proseHeld = []string{"oauth2pw", "internal", "hasher", "tokens", "store", "examples", "docs", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"}

// proseExceptions are hits that stay.
var proseExceptions = []proseException{}

// proseException allows a phrase in a file.
type proseException struct{ file, phrase, reason string }

// proseRule forbids a phrase.
type proseRule struct {
	pattern    *regexp.Regexp
	bad, write string // a sentence with the phrase, and the sentence to write instead
}

// proseRules are the part of the rule for comments and documents that a pattern can hold. The
// readers are in a hurry, and many have another first language than English: the subject comes
// first and is a noun, the verb is active, and each sentence has one fact.
var proseRules = []proseRule{
	// Clauses that are used as nouns.
	{regexp.MustCompile(`(?i)\bwhat\b`), "What is taken and returned are copies.", "Arguments and results are copies."},
	{regexp.MustCompile(`(?i)\b(?:whoever|whomever|whatever|whichever)\b`), "A header that says http is trusted, whoever sent it.", "A header that says http is trusted from any peer."},
	{regexp.MustCompile(`(?:^|[.!?] )Who\b|\b(?:about|by|decides?|know|knows|learns?|of|on|proves?|proved|proving|says?|shows?|than|to) who\b`), "A grant proves who the user is.", "A grant proves the identity of a user."},
	{regexp.MustCompile(`(?:^|[.!?] )That\b`), "That the client hangs up does not stop it.", "The request continues if the client disconnects."},
	// Pronouns without a noun in the same sentence.
	{regexp.MustCompile(`(?:^|[.!?] )(?:It|They|He|She)\b`), "It is called concurrently.", "Every method is called concurrently."},
	{regexp.MustCompile(`(?:^|[.!?] )One (?:can|cannot|gets|has|is|may|must|that|was|which|who|whose)\b`), "One that expires is refused.", "An expired token is refused."},
	{regexp.MustCompile(`(?i)\b(?:he|him|his|himself|she|her|herself)\b`), "The user proves the password again, and his session moves on.", "The user proves the password again, and the session moves on."},
	{regexp.MustCompile(`(?i)\b(?:ours|theirs|mine)\b`), "The token is ours.", "The token is of the own issuer."},
	{regexp.MustCompile(`(?i)\b(?:is|are) none\b`), "Nil: there are none.", "Nil: no clients."},
	{regexp.MustCompile(`(?i)\b(?:nobody|somebody|anybody|everybody)'s\b`), "The name is nobody's.", "The name is of no user."},
	// Connectives.
	{regexp.MustCompile(`, for (?:it|they|there|nobody|he|we|you) \w+`), "The code is not kept, for nobody needs it.", "The code is not kept, because nobody needs it."},
	{regexp.MustCompile(`(?i)\b(?:lest|nor|albeit|hence|thus|thereby|therein|thereof|whereby|wherein|notwithstanding|anew|for ever|in spite of)\b`), "The hook must not block, lest requests wait.", "The hook must not block, because requests would wait."},
	{regexp.MustCompile(`(?i)\bbut for\b`), "All sessions end, but for the caller's own.", "All sessions end, except the caller's own."},
	{regexp.MustCompile(`(?i), say[,.:;)]|, say$`), "A code, say, can be guessed.", "A code, for example, can be guessed."},
	{regexp.MustCompile(`\bof (?:before|now)\b|\bfrom before\b`), "A token from before the change is refused.", "A token older than the change is refused."},
	{regexp.MustCompile(`(?i)\balone\b`), "The event goes to the hook alone.", "The event goes only to the hook."},
	// Everyday words as terms.
	{regexp.MustCompile(`(?i)\b(?:is|are|was|were|be) over(?:$|[.,;:)]| (?:and|at|before|or|then|when)\b)|\bover or not\b`), "The session is over.", "The session has ended or expired."},
	{regexp.MustCompile(`(?i)\b(?:dead|alive|dies|died)\b`), "Every older token is dead.", "Every older token is refused."},
	{regexp.MustCompile(`(?i)\blives\b`), "The session lives.", "The session is live."},
	{regexp.MustCompile(`(?i)\b(?:stands?|stood|standing)\b`), "The key stands in the closure.", "Only the closure has the key."},
	{regexp.MustCompile(`(?i)\bcosts? (?:nobody|nothing|next to|what)\b|\bit costs\b`), "A lost answer costs nobody the login.", "After a lost answer the login continues."},
	{regexp.MustCompile(`(?i)\b(?:tells?|told|telling)\b`), "The hook is told once.", "The hook gets the event once."},
	{regexp.MustCompile(`(?i)\bfor nothing\b`), "The request counts for nothing.", "The request is not counted."},
	{regexp.MustCompile(`(?i)\bgood\b`), "A token that is not good is refused.", "An invalid token is refused."},
	{regexp.MustCompile(`(?i)\bworth(?:less| nothing| anything)\b`), "The stolen copy is worth nothing.", "The stolen copy is refused."},
	{regexp.MustCompile(`(?i)\bsa(?:ys?|id) (?:all|else|no|nothing|so|yes)\b`), "The request is refused, unless the Config says else.", "The request is refused, unless Config.AllowNoClient is set."},
	{regexp.MustCompile(`(?i)\bbeliev(?:e|ed|es|ing)\b`), "Their headers are believed.", "Their headers are trusted."},
	{regexp.MustCompile(`(?i)\b(?:go|goes|going|went) on\b`), "The login goes on.", "The login continues."},
	{regexp.MustCompile(`(?i)\b(?:is|are|was|were|be|being) (?:never |not )?asked(?:$|[.,;:)]| (?:after|again|and|at|before|by|first|if|once|only|to|whether)\b)`), "The throttle is not asked.", "The throttle is not called."},
	{regexp.MustCompile(`(?i)\b(?:comes?|came|coming) (?:again|back|in)\b`), "A replaced token came again.", "A replaced token was sent again."},
	{regexp.MustCompile(`(?i)\b(?:hangs? up|(?:is|are) gone)\b`), "The client is gone.", "The client has disconnected."},
	{regexp.MustCompile(`(?i)\b(?:logins?|proofs?) (?:still )?holds?\b|\bstill holds?[.,;:]|\bnot hold any more\b`), "The login holds if the hash is unchanged.", "The login is valid if the hash is unchanged."},
}

// TestProse looks for forbidden words and sentence openings in the comments of all Go files
// other than tests, and in all Markdown files. Code, code spans, quoted text and the targets of
// links are left out. With -v the test prints the number of hits of each folder.
//
// The go command keeps a passed result although a file outside of this module has changed:
// run the test with -count=1, as make lint does.
func TestProse(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	require.NoError(t, err)
	hits := make(map[string]int)  // of a folder
	held := make(map[string]bool) // entries of proseHeld that exist
	used := make(map[proseException]bool)
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case d.IsDir() || !isProse(path):
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		found, err := proseHits(name, source)
		found = withoutExceptions(found, proseExceptions, used)
		folder, _, nested := strings.Cut(name, "/")
		if !nested {
			folder = "."
		}
		hits[folder] += len(found)
		for _, h := range proseHeld {
			if name == h || strings.HasPrefix(name, h+"/") {
				held[h] = true
				for _, hit := range found {
					t.Error(hit)
				}
				break
			}
		}
		return err
	}))
	for _, h := range proseHeld {
		require.True(t, held[h], "%s has no text", h)
	}
	for _, e := range proseExceptions {
		require.NotEmpty(t, e.reason, e.phrase)
		require.True(t, used[e], "%s has no %q any more: remove the exception", e.file, e.phrase)
	}
	for _, folder := range slices.Sorted(maps.Keys(hits)) {
		fmt.Fprintf(t.Output(), "%s: %d\n", folder, hits[folder])
	}
}

// withoutExceptions removes the hits that stay, and notes their exceptions in used.
func withoutExceptions(hits []proseHit, exceptions []proseException, used map[proseException]bool) []proseHit {
	return slices.DeleteFunc(hits, func(h proseHit) bool {
		i := slices.IndexFunc(exceptions, func(e proseException) bool { return e.file == h.file && e.phrase == h.phrase })
		if i >= 0 {
			used[exceptions[i]] = true
		}
		return i >= 0
	})
}

// isProse reports whether a file has comments or text to check.
func isProse(path string) bool {
	return strings.HasSuffix(path, ".md") || strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go")
}

// proseHit is a forbidden phrase in a file.
type proseHit struct {
	file   string
	line   int
	phrase string
	rule   proseRule
}

func (h proseHit) String() string {
	return fmt.Sprintf("%s:%d: %q: instead of %q write %q", h.file, h.line, h.phrase, h.rule.bad, h.rule.write)
}

// proseHits returns the hits of all rules in a Go or Markdown file.
func proseHits(name string, source []byte) ([]proseHit, error) {
	paragraphs, err := markdownParagraphs(string(source)), error(nil)
	if strings.HasSuffix(name, ".go") {
		paragraphs, err = commentParagraphs(name, source)
	}
	var hits []proseHit
	for _, p := range paragraphs {
		text := strings.ReplaceAll(p.text, "\n", " ")
		for _, rule := range proseRules {
			for _, at := range rule.pattern.FindAllStringIndex(text, -1) {
				phrase := strings.TrimLeft(text[at[0]:at[1]], " .,!?")
				line := p.line + strings.Count(p.text[:at[1]-len(phrase)], "\n")
				hits = append(hits, proseHit{name, line, strings.TrimRight(phrase, " .,;:)"), rule})
			}
		}
	}
	slices.SortStableFunc(hits, func(a, b proseHit) int { return a.line - b.line })
	return hits, err
}

// paragraph is text without code, from a line of a file on.
type paragraph struct {
	line int
	text string // lines
}

// paragraphs collects lines.
type paragraphs struct {
	list []paragraph
	open bool // the last one takes more lines
}

func (p *paragraphs) add(line int, text string, first bool) {
	if !p.open || first {
		p.list = append(p.list, paragraph{line: line, text: text})
	} else {
		p.list[len(p.list)-1].text += "\n" + text
	}
	p.open = true
}

var (
	codeSpan   = regexp.MustCompile("(`+)[^`]+`+")
	linkTarget = regexp.MustCompile(`\]\([^)]*\)|https?://[^\s)>]+`)
	quotation  = regexp.MustCompile(`"[^"]*"|“[^”]*”`)
	listItem   = regexp.MustCompile(`^\s*(?:[-*+]|\d+\.)\s+`)
)

// cleaned returns the paragraphs without code spans, quotations, targets of links and emphasis.
// Lines stay lines.
func (p *paragraphs) cleaned() []paragraph {
	blank := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r == '\n' {
				return r
			}
			return '_'
		}, s)
	}
	for i, text := range p.list {
		for _, out := range []*regexp.Regexp{codeSpan, linkTarget, quotation} {
			text.text = out.ReplaceAllStringFunc(text.text, blank)
		}
		p.list[i].text = strings.ReplaceAll(text.text, "*", "")
	}
	return p.list
}

// commentParagraphs returns the paragraphs of the comments of a Go file, without indented code
// and without the name at the beginning of a doc comment.
func commentParagraphs(name string, source []byte) ([]paragraph, error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	names := make(map[*ast.CommentGroup][]string)
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			names[n.Doc] = []string{n.Name.Name}
		case *ast.GenDecl:
			for _, spec := range n.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					names[n.Doc] = append(names[n.Doc], spec.Name.Name)
					names[spec.Doc] = append(names[spec.Doc], spec.Name.Name)
				case *ast.ValueSpec:
					names[n.Doc] = append(names[n.Doc], spec.Names[0].Name)
					names[spec.Doc] = append(names[spec.Doc], spec.Names[0].Name)
				}
			}
		case *ast.Field:
			for _, field := range n.Names {
				names[n.Doc] = append(names[n.Doc], field.Name)
			}
		}
		return true
	})
	var p paragraphs
	for _, group := range f.Comments {
		p.open = false
		for i, c := range group.List {
			line := fset.Position(c.Pos()).Line
			text := strings.TrimPrefix(c.Text, "//")
			first := strings.TrimLeft(text, " \t/*")
			if i == 0 {
				word, rest, _ := strings.Cut(first, " ")
				if group == f.Doc {
					word, rest, _ = strings.Cut(rest, " ")
					names[group] = []string{word} // Package x, Command x
				}
				if slices.Contains(names[group], word) {
					first = "_ " + rest
				}
			}
			switch {
			case first == "", strings.HasPrefix(text, "\t"), strings.HasPrefix(text, "go:"):
				p.open = false
			case listItem.MatchString(text) && strings.HasPrefix(text, "   "):
				p.add(line, listItem.ReplaceAllString(text, ""), true)
			default:
				p.add(line, strings.TrimPrefix(first, "# "), strings.HasPrefix(first, "# "))
			}
		}
	}
	return p.cleaned(), nil
}

// markdownParagraphs returns the paragraphs, list items and table cells of a Markdown document,
// without blocks of code.
func markdownParagraphs(document string) []paragraph {
	var p paragraphs
	fence, indented, n := "", false, 0
	for line := range strings.Lines(document) {
		n++
		line = strings.TrimRight(line, "\n")
		text := strings.TrimLeft(line, " \t>")
		if fence != "" {
			if strings.HasPrefix(text, fence) {
				fence = ""
			}
			continue
		}
		deep := strings.HasPrefix(line, "    ") || strings.HasPrefix(line, "\t")
		switch {
		case strings.HasPrefix(text, "```"), strings.HasPrefix(text, "~~~"):
			fence, p.open = text[:3], false
		case text == "":
			p.open = false
			continue // indented code continues after an empty line
		case deep && (indented || !p.open) && !listItem.MatchString(line):
			indented = true
			continue
		case strings.HasPrefix(text, "|"):
			for cell := range strings.SplitSeq(codeSpan.ReplaceAllString(text, "_"), "|") {
				p.add(n, strings.TrimSpace(cell), true)
			}
			p.open = false
		case strings.HasPrefix(text, "#"):
			p.add(n, strings.TrimLeft(text, "# "), true)
			p.open = false
		default:
			p.add(n, listItem.ReplaceAllString(text, ""), listItem.MatchString(line))
		}
		indented = false
	}
	return p.cleaned()
}

// TestProseChecker: each rule finds its own bad sentence, the sentence to write instead has no
// hit, and code is left out.
func TestProseChecker(t *testing.T) {
	for i, rule := range proseRules {
		require.True(t, rule.pattern.MatchString(rule.bad), rule.bad)
		for _, other := range proseRules {
			require.Empty(t, other.pattern.FindString(rule.write), rule.write)
		}
		for _, other := range proseRules[:i] {
			require.NotEqual(t, other.bad, rule.bad)
		}
	}
	phrases := func(name, source string) (list []string) {
		hits, err := proseHits(name, []byte(source))
		require.NoError(t, err)
		for _, h := range hits {
			list = append(list, fmt.Sprintf("%d %s", h.line, h.phrase))
		}
		return list
	}

	require.Empty(t, phrases("x.go", `// Package tell has a list:
//   - a thing
//
// and code:
//
//	what, stands := tell("lest")
package tell

// tell returns the description "The session is over." of https://example.com/what.
func tell() string { return "whatever stands" }

// dead is the reason of x.
const dead = "It is good" // in bytes
`))
	require.Equal(t, []string{"1 It", "2 stands", "5 told", "8 stands", "11 but for", "12 What", "13 lest"}, phrases("x.go", `// Package x is a package. It
// stands here.
//
//   - an item
//     that is told
package x

// tell stands.
func tell() {}

// All end, but
// for this. What?
var _ = 1 // lest
`))

	hits, err := proseHits("x.go", []byte("package x\n\n// A stands, b stands alone.\n"))
	require.NoError(t, err)
	require.Len(t, hits, 3)
	used, exception := make(map[proseException]bool), proseException{"x.go", "stands", "a quotation"}
	hits = withoutExceptions(hits, []proseException{exception, {"y.go", "alone", "another file"}}, used)
	require.Len(t, hits, 1)
	require.Equal(t, "alone", hits[0].phrase)
	require.Equal(t, map[proseException]bool{exception: true}, used)

	require.Empty(t, phrases("x.md", "# A title\n\nText with `what stands` in it, [a link](https://example.com/what).\n\n"+
		"```go\n// It stands.\n```\n\n    what stands\n\n    lest it does\n\n1. A step:\n\n       make alone\n\n| `what` | \"It is over.\" |\n"))
	require.Equal(t, []string{"1 stands", "3 It", "4 hangs up", "6 but for", "9 lest", "10 What", "10 nobody's", "15 alone"}, phrases("x.md", `# A title stands

A line. **It
hangs up**.

- All end, but
  for this.

> So, lest.
| What | a name that is nobody's |

    code that stands

1. A step
   alone.
`))
}
