package tokens

import (
	"encoding/base64"
	"errors"
	"strings"
	"sync"
)

// scratch is memory for one verification.
type scratch struct{ token, signature, payload []byte }

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// open checks the signature of a token and returns its payload. The header ends at dot.
func open(key *keyMaterial, token string, dot int) (payload string, err error) {
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	s.token = append(s.token[:0], token...)
	encodedPayload, encodedSignature, found := strings.Cut(token[dot+1:], ".")
	if !found {
		return "", errors.New("not three parts")
	}
	if s.signature, err = appendDecoded(s.signature[:0], encodedSignature); err != nil {
		return "", errors.New("the signature is not base64url")
	}
	if err := key.verify(s.token[:dot+1+len(encodedPayload)], s.signature); err != nil {
		return "", errSignature
	}
	if s.payload, err = appendDecoded(s.payload[:0], encodedPayload); err != nil {
		return "", errors.New("the payload is not base64url")
	}
	return string(s.payload), nil
}

var base64url = base64.RawURLEncoding.Strict()

func encode(b []byte) string { return base64url.EncodeToString(b) }

// appendDecoded decodes strict base64url (RFC 7515, section 2). The package base64 skips line
// ends, so they are refused here.
func appendDecoded(b []byte, s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return b, errors.New("a line end in base64url")
	}
	n := len(b)
	b = append(b, s...) // s is longer than its decoded bytes
	decoded, err := base64url.Decode(b[n:], b[n:])
	return b[:n+decoded], err
}

func decodeText(encoded string) (string, error) {
	b, err := appendDecoded(nil, encoded)
	return string(b), err
}
