package tokens

import (
	"errors"
	"fmt"
	"strings"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// ErrExpired is the error of every verifier for a token that has expired and has no other
// fault: the signature, issuer, audience and type are correct. A token is valid until the end
// of the second of its exp, because a token that is made late in a second would otherwise be
// valid for less than its TTL. ErrExpired wraps
// oauth2pw.ErrInvalidToken. A Remote returns ErrExpired only if it has the key of the token
// already, because it fetches no keys for an expired token.
var ErrExpired = fmt.Errorf("tokens: the token has expired: %w", oauth2pw.ErrInvalidToken)

// refused returns the error of a verifier for a refused token.
func refused(reason error) error {
	if errors.Is(reason, oauth2pw.ErrInvalidToken) {
		return reason
	}
	return fmt.Errorf("tokens: %w: %w", reason, oauth2pw.ErrInvalidToken)
}

var (
	errTooLong    = errors.New("too long")
	errSignature  = errors.New("wrong signature")
	errUnknownKey = errors.New("an unknown key id")
)

const (
	maxShown      = 64 // bytes of a value
	maxShownCount = 4  // values
)

// mismatch returns the error for a wrong value of a token: "has audience account, want api".
// has comes from outside: its values are cut and shown as printable ASCII. want comes from the
// configuration.
func mismatch(what string, has, want []string) error {
	shown := make([]string, 0, maxShownCount+1)
	for _, s := range has {
		if s == "" {
			continue
		}
		if len(shown) == maxShownCount {
			shown = append(shown, "...")
			break
		}
		shown = append(shown, printable(s))
	}
	if len(shown) == 0 {
		shown = append(shown, "no "+what)
	} else {
		shown[0] = what + " " + shown[0]
	}
	all := make([]string, len(want))
	for i, s := range want {
		if all[i] = s; s == "" {
			all[i] = "none"
		}
	}
	return fmt.Errorf("has %s, want %s", strings.Join(shown, " "), strings.Join(all, " or "))
}

// printable returns the beginning of s, with a question mark for each byte that is a space
// or not printable ASCII: the result is one word.
func printable(s string) string {
	cut := s[:min(len(s), maxShown)]
	b := []byte(cut)
	for i, c := range b {
		if c <= ' ' || c > '~' {
			b[i] = '?'
		}
	}
	if len(cut) < len(s) {
		b = append(b, "..."...)
	}
	return string(b)
}
