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

// ClaimsFunc returns further claims for a token, as a JSON object. [WithClaims]
// makes one from a function with a typed result.
type ClaimsFunc func(ctx context.Context, p oauth2pw.Principal) (json.RawMessage, error)

// WithClaims makes a ClaimsFunc from a function that returns a struct or a map
// with string keys, to be encoded as the further claims of a token. p.User is the
// user's record. A name that the token itself uses, in any case, is an error when
// the token is made, and no token is issued.
func WithClaims[T any](f func(ctx context.Context, p oauth2pw.Principal) (T, error)) ClaimsFunc {
	return func(ctx context.Context, p oauth2pw.Principal) (json.RawMessage, error) {
		v, err := f(ctx, p)
		if err != nil {
			return nil, err
		}
		return json.Marshal(v)
	}
}

// Issue makes a token that says what p says. See oauth2pw.TokenIssuer.
func (r *Ring) Issue(ctx context.Context, p oauth2pw.Principal) (string, oauth2pw.Principal, error) {
	if p.Subject == "" || !plain(p.Subject) || !plain(p.ClientID) || !plain(p.Scope) || !plain(p.SessionID) {
		return "", oauth2pw.Principal{}, errors.New("tokens: the subject is missing, or a claim is not UTF-8")
	}
	id := make([]byte, 20)
	_, _ = rand.Read(id) // never fails (crypto/rand)
	now := r.c.Now().Truncate(time.Second)
	latest := p.ExpiresAt
	p.Issuer, p.Audience, p.TokenID, p.IssuedAt, p.ExpiresAt = r.c.Issuer, r.c.Audience, encode(id), now, now.Add(r.c.TTL)
	if !latest.IsZero() && latest.Before(p.ExpiresAt) {
		p.ExpiresAt = latest.Truncate(time.Second)
	}
	payload, err := encodeClaims(p)
	if err != nil {
		return "", oauth2pw.Principal{}, err
	}
	if r.c.Claims != nil {
		extra, err := r.c.Claims(ctx, p)
		if err != nil {
			return "", oauth2pw.Principal{}, fmt.Errorf("tokens: Config.Claims: %w", err)
		}
		if payload, err = addClaims(payload, extra); err != nil {
			return "", oauth2pw.Principal{}, err
		}
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

// claims is the payload of our tokens (RFC 9068, section 2.2).
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

// reserved are the names that a ClaimsFunc may not use: those that the token
// itself uses, and those that say something about a token wherever they stand.
var reserved = []string{
	"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "auth_time", "client_id", "scope", "sid", "cnf", "act",
}

// plain reports whether encoding/json keeps s as it is.
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

// addClaims appends the members of the object extra to the object payload. Each
// name is decoded, compared and encoded again, so that none can smuggle another
// in.
func addClaims(payload []byte, extra json.RawMessage) ([]byte, error) {
	out := bytes.NewBuffer(payload[:len(payload)-1])
	err := eachMember(string(extra), func(name, value string) error {
		for _, r := range reserved {
			// Readers that fold case must not be fooled either.
			if strings.EqualFold(name, r) {
				return fmt.Errorf("the claim %q is reserved", r)
			}
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
		return nil, fmt.Errorf("tokens: Config.Claims: %w", err)
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}
