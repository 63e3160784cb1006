package tokens

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// ClaimsFunc returns further claims for a token, as a JSON object: at most 246. [WithClaims]
// makes a ClaimsFunc from a function with a typed result. A ClaimsFunc is called concurrently.
type ClaimsFunc func(ctx context.Context, p oauth2pw.Principal) (json.RawMessage, error)

// WithClaims makes a ClaimsFunc from a function that returns a struct or a map with string
// keys. p.User is the user's record. If a name equals that of a claim of the token itself, in
// any case of letters, Issue returns an error and no token.
func WithClaims[T any](f func(ctx context.Context, p oauth2pw.Principal) (T, error)) ClaimsFunc {
	return func(ctx context.Context, p oauth2pw.Principal) (json.RawMessage, error) {
		v, err := f(ctx, p)
		if err != nil {
			return nil, err
		}
		return json.Marshal(v)
	}
}

// Issue makes a token of p; see oauth2pw.TokenIssuer. The ring's own Verify accepts every
// token of Issue. The error names the fault:
//
//   - p.Subject is empty
//   - a field is not UTF-8
//   - p.ClientID is not printable ASCII (RFC 6749, appendix A.1)
//   - p.Scope is not scopes between single spaces (RFC 6749, section 3.3)
//   - a time is outside of 1970 to 9999
//   - p.ExpiresAt is past
//   - Config.Claims failed
//   - the token is over 16 KiB
func (r *Ring) Issue(ctx context.Context, p oauth2pw.Principal) (string, oauth2pw.Principal, error) {
	p, err := r.stamp(p)
	if err != nil {
		return "", oauth2pw.Principal{}, fmt.Errorf("tokens: %w", err)
	}
	payload, err := r.payload(ctx, p)
	if err != nil {
		return "", oauth2pw.Principal{}, fmt.Errorf("tokens: %w", err)
	}
	key := r.state.Load().signer
	signed := key.header + "." + encode(payload)
	signature, err := key.sign([]byte(signed))
	if err != nil {
		return "", oauth2pw.Principal{}, fmt.Errorf("tokens: signing: %w", err)
	}
	token := signed + "." + encode(signature)
	if len(token) > maxToken {
		return "", oauth2pw.Principal{}, errors.New("tokens: the token is longer than 16 KiB")
	}
	p.Payload, p.User = string(payload), nil
	return token, p, nil
}

// stamp checks the fields of p and sets the fields of the issuer.
func (r *Ring) stamp(p oauth2pw.Principal) (oauth2pw.Principal, error) {
	switch {
	case p.Subject == "":
		return p, errors.New("Principal.Subject is empty")
	case !plain(p.Subject):
		return p, errors.New("Principal.Subject is not UTF-8")
	case !plain(p.SessionID):
		return p, errors.New("Principal.SessionID is not UTF-8")
	case !onlyASCII(p.ClientID, ' '):
		return p, errors.New("Principal.ClientID is not printable ASCII")
	case !validScope(p.Scope):
		return p, errors.New("Principal.Scope is not scopes between single spaces (RFC 6749, section 3.3)")
	}
	id := make([]byte, 20)
	_, _ = rand.Read(id) // never fails (crypto/rand)
	now := r.c.Now()
	latest := p.ExpiresAt
	p.Issuer, p.Audience, p.TokenID = r.c.Issuer, r.c.Audience, encode(id)
	p.IssuedAt = now.Truncate(time.Second)
	p.ExpiresAt = p.IssuedAt.Add(r.c.TTL)
	if !latest.IsZero() && latest.Before(p.ExpiresAt) {
		p.ExpiresAt = latest.Truncate(time.Second)
	}
	p.AuthTime = p.AuthTime.Truncate(time.Second)
	switch {
	case !validTime(p.IssuedAt), !validTime(p.ExpiresAt):
		return p, errors.New("the time of issue or expiry is outside of 1970 to 9999")
	case !p.AuthTime.IsZero() && !validTime(p.AuthTime):
		return p, errors.New("Principal.AuthTime is outside of 1970 to 9999")
	}
	if checkTimes(&p, now) != nil {
		return p, errors.New("Principal.ExpiresAt is past")
	}
	return p, nil
}

// validTime reports whether a verifier accepts a time. Zero means a missing time.
func validTime(t time.Time) bool { return 0 < t.Unix() && t.Unix() <= maxTime }

// validScope reports whether s is empty or a scope (RFC 6749, section 3.3): scope tokens
// between single spaces.
func validScope(s string) bool {
	if s == "" {
		return true
	}
	for token := range strings.SplitSeq(s, " ") {
		if token == "" || !onlyASCII(token, '!') || strings.ContainsAny(token, `"\`) {
			return false
		}
	}
	return true
}

// onlyASCII reports whether all bytes of s are between first and the tilde.
func onlyASCII(s string, first byte) bool {
	for i := range len(s) {
		if s[i] < first || s[i] > '~' {
			return false
		}
	}
	return true
}

// payload returns the claims of p and of Config.Claims as JSON.
func (r *Ring) payload(ctx context.Context, p oauth2pw.Principal) ([]byte, error) {
	payload, err := encodeClaims(p)
	if err != nil || r.c.Claims == nil {
		return payload, err
	}
	extra, err := r.c.Claims(ctx, p)
	if err == nil {
		payload, err = addClaims(payload, extra)
	}
	if err != nil {
		return nil, fmt.Errorf("Config.Claims: %w", err)
	}
	return payload, nil
}

// claims is the payload of a Ring's token (RFC 9068, section 2.2).
type claims struct {
	Issuer    string `json:"iss"`
	Subject   string `json:"sub"`
	Audience  string `json:"aud"`
	ExpiresAt int64  `json:"exp"`
	IssuedAt  int64  `json:"iat"`
	TokenID   string `json:"jti"`
	AuthTime  int64  `json:"auth_time,omitempty"`
	ClientID  string `json:"client_id,omitempty"`
	Scope     string `json:"scope,omitempty"`
	SessionID string `json:"sid,omitempty"`
}

// reserved are the names that a ClaimsFunc must not use: the claims of the token itself, and
// claims with a meaning in every token.
var reserved = []string{
	"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "auth_time", "client_id", "scope", "sid", "cnf", "act",
}

// maxExtraClaims leaves room for the members of claims, because a verifier accepts at most
// maxMembers.
const maxExtraClaims = maxMembers - 10

// plain reports whether encoding/json keeps s unchanged.
func plain(s string) bool { return utf8.ValidString(s) }

func encodeClaims(p oauth2pw.Principal) ([]byte, error) {
	c := claims{
		Issuer: p.Issuer, Subject: p.Subject, Audience: p.Audience, TokenID: p.TokenID,
		ExpiresAt: p.ExpiresAt.Unix(), IssuedAt: p.IssuedAt.Unix(),
		ClientID: p.ClientID, Scope: p.Scope, SessionID: p.SessionID,
	}
	if !p.AuthTime.IsZero() {
		c.AuthTime = p.AuthTime.Unix()
	}
	return json.Marshal(c)
}

// addClaims appends the members of the object extra to the object payload. Each name is
// decoded, compared and encoded again: otherwise a crafted name could contain a second member.
func addClaims(payload []byte, extra json.RawMessage) ([]byte, error) {
	out := bytes.NewBuffer(payload[:len(payload)-1])
	left := maxExtraClaims
	err := eachMember(string(extra), func(name, value string) error {
		for _, r := range reserved {
			// Some readers fold case.
			if strings.EqualFold(name, r) {
				return fmt.Errorf("the claim %q is reserved", r)
			}
		}
		if left--; left < 0 {
			return fmt.Errorf("over %d claims", maxExtraClaims)
		}
		key, err := json.Marshal(name)
		if err != nil {
			return err
		}
		out.WriteByte(',')
		out.Write(key)
		out.WriteByte(':')
		out.WriteString(value)
		return nil
	})
	if err != nil {
		return nil, err
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}
