package tokens

import (
	"errors"
	"fmt"
	"strings"
)

// ownType is the typ of the tokens of a Ring (RFC 9068, section 2.1).
const ownType = "at+jwt"

// header has the members of a JOSE header (RFC 7515, section 4) that verifiers use. Keys and
// URLs in a header are never used.
type header struct {
	alg, kid, typ string
	hasKid        bool
}

func readHeader(encoded string) (h header, err error) {
	text, err := decodeText(encoded)
	if err != nil {
		return h, errors.New("the header is not base64url")
	}
	err = eachMember(text, func(name, value string) (err error) {
		switch name {
		case "alg":
			h.alg, err = jsonString(value)
		case "typ":
			h.typ, err = jsonString(value)
		case "kid":
			h.hasKid = true
			h.kid, err = jsonString(value)
		case "crit", "b64":
			err = errors.New("an unknown extension")
		}
		return err
	})
	if err != nil {
		return h, fmt.Errorf("the header is malformed: %w", err)
	}
	return h, nil
}

// shortType returns a typ in lower case and without "application/", which is optional (RFC
// 7515, section 4.1.9).
func shortType(t string) string {
	t = strings.ToLower(t)
	if short, ok := strings.CutPrefix(t, "application/"); ok && !strings.Contains(short, "/") {
		return short
	}
	return t
}
