package main

import (
	"errors"
	"regexp"
	"strings"
)

// mend returns the hash of a row as the table of the app keeps it. The change is safe if it
// leaves a hash that can be verified: no hash has spaces, quotes or braces of its own around
// it. An error says why the row cannot be imported.
func mend(hash string, reads func(hash string) bool) (mended, note string, err error) {
	if reads(hash) {
		return hash, "", nil
	}
	trimmed := strings.TrimSpace(strings.TrimPrefix(hash, "\ufeff"))
	for _, m := range []struct{ note, hash string }{
		{"spaces around the hash", trimmed},
		{"Python's b'…' around the hash", unquote(trimmed)},
		{"an unknown " + brace(trimmed) + " before the hash", strings.TrimPrefix(trimmed, brace(trimmed))},
	} {
		if reads(m.hash) {
			return m.hash, m.note, nil
		}
	}
	if strings.Trim(trimmed, "!*x-") == "" || strings.HasPrefix(trimmed, "!") || trimmed == "NULL" || trimmed == `\N` {
		return "", "no password: the user needs a new one", nil
	}
	for _, p := range problems {
		if p.pattern.MatchString(trimmed) {
			return "", "", errors.New(p.reason)
		}
	}
	return "", "", errors.New("the hash is of no format that can be verified")
}

// unquote removes the quotes of Python's bytes.
func unquote(s string) string {
	for _, quote := range []string{"'", `"`} {
		if inner, ok := strings.CutPrefix(s, "b"+quote); ok && strings.HasSuffix(inner, quote) {
			return strings.TrimSuffix(inner, quote)
		}
	}
	return s
}

// brace returns the {…} at the beginning of a hash.
func brace(s string) string { return bracePattern.FindString(s) }

var bracePattern = regexp.MustCompile(`^\{[A-Za-z0-9._-]+\}`)

// problems are rows that no program can mend. The first pattern that matches is the reason.
var problems = []struct {
	pattern *regexp.Regexp
	reason  string
}{
	{regexp.MustCompile(`^b['"]`), "an unclosed b'…' of Python"},
	{regexp.MustCompile(`^\{(noop|PLAIN|CLEARTEXT)\}`), "a password in clear text: hash it"},
	{regexp.MustCompile(`^\$2[abxy]\$\d\d\$.{0,52}$`), "a bcrypt hash that is cut off: the old column was too short"},
	{regexp.MustCompile(`^\$2[abxy]\$`), "a damaged bcrypt hash, one of the format $2x$, or one with a cost over the cap"},
	{regexp.MustCompile(`^(\$|argon2\$|pbkdf2|scrypt|bcrypt|AQAAAA|\{)`), "a hash of an unknown format, a damaged one, or one with a cost over the cap: register a hasher.Scheme, or raise MaxMemory"},
	{regexp.MustCompile(`(?i)^[0-9a-f]{32}$`), "looks like MD5 without a salt: register a hasher.Scheme"},
	{regexp.MustCompile(`(?i)^([0-9a-f]{40}|[0-9a-f]{64}|[0-9a-f]{128})$`), "looks like SHA-1 or SHA-2 without a salt: register a hasher.Scheme"},
}
