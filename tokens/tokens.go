// Package tokens makes and verifies access tokens: JWTs in the profile of RFC
// 9068, signed with HS256 or EdDSA (Ed25519).
//
// # How to wire it
//
//	jwt, err := tokens.Open("signing.jwk", "https://api.example.com", "api")
//
// makes the key file if there is none, and returns a [Ring] that is the Issuer
// and the Verifier of an oauth2pw.Config. [New] has all settings.
//
// # Security
//
// The key fixes the algorithm. A token is one of ours only if its encoded header
// is, byte for byte, the one that this ring writes: that comparison ends "none",
// algorithm confusion, embedded and remote keys, crit and unknown key ids before
// anything is parsed. Only then is the signature checked, and only then are the
// claims read; duplicate members, wrong types and trailing data are refused.
//
// # Concurrency
//
// A Ring is safe for concurrent use.
//
// # Compatibility
//
// The header is {"alg":…,"kid":…,"typ":"at+jwt"} in this order, and stays so.
package tokens

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

var (
	_ oauth2pw.TokenIssuer   = (*Ring)(nil)
	_ oauth2pw.TokenVerifier = (*Ring)(nil)
)

// maxToken is the length of the longest token that is looked at, in bytes.
const maxToken = 16 << 10

// leeway is how far the clocks of two processes may be apart: a token may have
// been issued so long in the future. Expiry has none.
const leeway = 30 * time.Second

// Config has the settings of a Ring. Key, Issuer and Audience are required.
type Config struct {
	// Key signs and verifies. See ParseKey and OpenKey.
	Key Key
	// Issuer is the iss of the tokens: the URL of the service that issues them.
	Issuer string
	// Audience is their aud: the name or URL of the service that they are for.
	Audience string
	// TTL is how long a token lives, in whole seconds. Zero: 15 minutes.
	TTL time.Duration
	// Claims adds claims of the app's own; see WithClaims. Nil: none.
	Claims ClaimsFunc
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

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

// Ring signs tokens and verifies its own.
type Ring struct {
	c      Config
	header string // encoded, with the dot behind it
	key    *keyMaterial
}

// Open returns a Ring whose key is in a file, made there if there is none; see
// [OpenKey]. Tokens live 15 minutes.
func Open(file, issuer, audience string) (*Ring, error) {
	key, err := OpenKey(file)
	if err != nil {
		return nil, err
	}
	return New(Config{Key: key, Issuer: issuer, Audience: audience})
}

// New returns a Ring. The error names the setting that is wrong.
func New(c Config) (*Ring, error) {
	switch {
	case c.Key.material == nil:
		return nil, errors.New("tokens: Config.Key is missing")
	case c.Issuer == "" || !plain(c.Issuer):
		return nil, errors.New("tokens: Config.Issuer is missing, or not UTF-8")
	case c.Audience == "" || !plain(c.Audience):
		return nil, errors.New("tokens: Config.Audience is missing, or not UTF-8")
	case c.TTL < 0 || c.TTL%time.Second != 0:
		return nil, errors.New("tokens: Config.TTL is negative, or not in whole seconds")
	}
	if c.TTL == 0 {
		c.TTL = 15 * time.Minute
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	header, err := json.Marshal(struct {
		Alg string `json:"alg"`
		Kid string `json:"kid"`
		Typ string `json:"typ"`
	}{c.Key.material.alg, c.Key.material.kid, "at+jwt"})
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	return &Ring{c: c, header: encode(header) + ".", key: c.Key.material}, nil
}

// Issuer returns the iss of the ring's tokens.
func (r *Ring) Issuer() string { return r.c.Issuer }

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
	signed := r.header + encode(payload)
	signature, err := r.key.sign([]byte(signed))
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

// Verify checks a token of this ring. The error wraps oauth2pw.ErrInvalidToken
// and says what is wrong.
func (r *Ring) Verify(_ context.Context, token string) (oauth2pw.Principal, error) {
	p, err := r.verify(token)
	if err != nil {
		return oauth2pw.Principal{}, fmt.Errorf("tokens: %w: %w", err, oauth2pw.ErrInvalidToken)
	}
	return p, nil
}

func (r *Ring) verify(token string) (oauth2pw.Principal, error) {
	var none oauth2pw.Principal
	if len(token) > maxToken {
		return none, errors.New("too long")
	}
	rest, ours := strings.CutPrefix(token, r.header)
	if !ours {
		return none, errors.New("not a header of this issuer")
	}
	encodedPayload, encodedSignature, _ := strings.Cut(rest, ".")
	signature, err := decode(encodedSignature)
	if err != nil {
		return none, errors.New("the signature is not base64url")
	}
	if err := r.key.verify([]byte(token[:len(r.header)+len(encodedPayload)]), signature); err != nil {
		return none, errors.New("wrong signature")
	}
	payload, err := decode(encodedPayload)
	if err != nil {
		return none, errors.New("the payload is not base64url")
	}
	p, err := decodeClaims(payload)
	if err != nil {
		return none, err
	}
	now := r.c.Now()
	switch {
	case p.Issuer != r.c.Issuer:
		return none, errors.New("wrong issuer")
	case p.Audience != r.c.Audience:
		return none, errors.New("wrong audience")
	case p.Subject == "":
		return none, errors.New("no subject")
	// iat is cut to the second, and so is exp: the last second of a token is
	// whole, lest one that lives for a second be dead at birth.
	case !now.Before(p.ExpiresAt.Add(time.Second)):
		return none, errors.New("expired")
	case p.IssuedAt.After(now.Add(leeway)):
		return none, errors.New("issued in the future")
	}
	return p, nil
}

var base64url = base64.RawURLEncoding.Strict()

func encode(b []byte) string { return base64url.EncodeToString(b) }

// decode is strict base64url (RFC 7515, section 2): the package base64 skips line
// ends, which do not belong here.
func decode(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("a line end in base64url")
	}
	return base64url.DecodeString(s)
}
