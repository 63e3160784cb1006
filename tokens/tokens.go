// Package tokens makes and verifies access tokens: JWTs in the profile of RFC
// 9068. It also verifies those of other issuers.
//
// # How to wire it
//
//	jwt, err := tokens.Open("signing.jwk", "https://api.example.com", "api")
//
// makes the key file if there is none, and returns a [Ring] that is the Issuer
// and the Verifier of an oauth2pw.Config. [New] has all settings. A service that
// takes the tokens of an identity provider has a [Remote] instead, or beside it
// with [ByIssuer].
//
// # Keys
//
// HS256, HS384, HS512; RS256, RS384, RS512, PS256, PS384, PS512 with 2,048 to
// 8,192 bits; ES256, ES384, ES512; EdDSA with Ed25519: from a JWK, a JWK set or
// PEM. The key fixes the algorithm: its "alg", or else HS256, RS256, that of its
// curve, or EdDSA. Its kid is that of the JWK or, without one, its thumbprint (RFC
// 7638).
//
// To rotate a key, first let every process verify the new one ([Ring.SetKeys] with
// the old key first), then sign with it (the new key first), and drop the old one
// when the longest-lived of its tokens has expired. None of it needs a restart.
//
// # Security
//
// A token is one of ours only if its encoded header is, byte for byte, one that
// this ring writes: that comparison ends "none", algorithm confusion, embedded and
// remote keys, crit and unknown key ids before anything is parsed. Only then is
// the signature checked, and only then are the claims read; duplicate members,
// wrong types and trailing data are refused.
//
// Verified tokens are remembered, until they expire or the keys change, by their
// SHA-256. That a session has ended is another question, which oauth2pw.Auth asks
// each time.
//
// # Concurrency
//
// All types of this package are safe for concurrent use. Keys are swapped without
// a lock on the way of a request.
//
// # Compatibility
//
// The header is {"alg":…,"kid":…,"typ":"at+jwt"} in this order, and stays so.
package tokens

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

var (
	_ oauth2pw.TokenIssuer   = (*Ring)(nil)
	_ oauth2pw.TokenVerifier = (*Ring)(nil)
	_ oauth2pw.Checker       = (*Ring)(nil)
)

// maxToken is the length of the longest token that is looked at, in bytes.
const maxToken = 16 << 10

// leeway is how far the clocks of two processes may be apart: a token may have
// been issued so long in the future. Expiry has none.
const leeway = 30 * time.Second

// Config has the settings of a Ring. Keys, Issuer and Audience are required.
type Config struct {
	// Keys verify, and the first of them signs. See ParseKeys and OpenKeys.
	Keys []Key
	// Issuer is the iss of the tokens: the URL of the service that issues them.
	Issuer string
	// Audience is their aud: the name or URL of the service that they are for.
	Audience string
	// TTL is how long a token lives, in whole seconds. Zero: 15 minutes.
	TTL time.Duration
	// Claims adds claims of the app's own; see WithClaims. Nil: none.
	Claims ClaimsFunc
	// Cache is how many verified tokens are remembered. Zero: 4096; negative:
	// none.
	Cache int
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

const defaultCache = 4096

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
	c     Config // without the keys
	state atomic.Pointer[ringState]
}

// ringState is what changes with the keys, all at once.
type ringState struct {
	signer     *ringKey
	byHeader   map[string]*ringKey
	publicKeys []byte // the JWK set
	cache      *cache
}

// ringKey is a key with the encoded header of its tokens.
type ringKey struct {
	*keyMaterial
	header string
}

// Open returns a Ring whose keys are in a file, made there if there is none; see
// [OpenKeys]. Tokens live 15 minutes.
func Open(file, issuer, audience string) (*Ring, error) {
	keys, err := OpenKeys(file)
	if err != nil {
		return nil, err
	}
	return New(Config{Keys: keys, Issuer: issuer, Audience: audience})
}

// New returns a Ring. The error names the setting that is wrong.
func New(c Config) (*Ring, error) {
	switch {
	case c.Issuer == "" || !plain(c.Issuer):
		return nil, errors.New("tokens: Config.Issuer is missing, or not UTF-8")
	case c.Audience == "" || !plain(c.Audience):
		return nil, errors.New("tokens: Config.Audience is missing, or not UTF-8")
	case c.TTL < 0 || c.TTL%time.Second != 0:
		return nil, errors.New("tokens: Config.TTL is negative, or not in whole seconds: write 15*time.Minute")
	}
	if c.TTL == 0 {
		c.TTL = 15 * time.Minute
	}
	if c.Cache == 0 {
		c.Cache = defaultCache
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	keys := c.Keys
	c.Keys = nil
	r := &Ring{c: c}
	return r, r.SetKeys(keys...)
}

// SetKeys replaces the keys: all of them verify, and the first signs, from the
// next request on. It may be called while serving. The error says which key is
// wrong; the ring is unchanged then.
func (r *Ring) SetKeys(keys ...Key) error {
	if len(keys) == 0 {
		return errors.New("tokens: Config.Keys is empty")
	}
	s := &ringState{byHeader: make(map[string]*ringKey, len(keys)), cache: newCache(r.c.Cache)}
	public := struct {
		Keys []json.RawMessage `json:"keys"`
	}{[]json.RawMessage{}}
	kids := make(map[string]bool, len(keys))
	for i, key := range keys {
		m := key.material
		switch {
		case m == nil:
			return fmt.Errorf("tokens: Config.Keys[%d] is the zero Key", i)
		case i == 0 && m.sign == nil:
			return errors.New("tokens: Config.Keys[0] is public; signing needs the private key")
		case kids[m.kid]:
			return fmt.Errorf("tokens: Config.Keys[%d] has the kid %q of another", i, m.kid)
		}
		kids[m.kid] = true
		header, err := json.Marshal(struct {
			Alg string `json:"alg"`
			Kid string `json:"kid"`
			Typ string `json:"typ"`
		}{m.alg, m.kid, "at+jwt"})
		if err != nil {
			return fmt.Errorf("tokens: %w", err)
		}
		k := &ringKey{m, encode(header)}
		s.byHeader[k.header] = k
		if i == 0 {
			s.signer = k
		}
		if m.jwk != nil {
			public.Keys = append(public.Keys, m.jwk)
		}
	}
	var err error
	if s.publicKeys, err = json.Marshal(public); err != nil {
		return fmt.Errorf("tokens: %w", err)
	}
	r.state.Store(s)
	return nil
}

// JWKSHandler returns a handler of GET that answers with the public keys of the
// ring as a JWK set (RFC 7517, section 5), which is empty for HMAC keys. Its usual
// place is /.well-known/jwks.json. Others may keep the answer for five minutes: let
// every process verify a key for as long before one signs with it.
func (r *Ring) JWKSHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "application/json")
		if req.Method != http.MethodGet && req.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			h.Set("Cache-Control", "no-store")
			w.WriteHeader(http.StatusMethodNotAllowed)
			_, _ = w.Write([]byte(`{"error":"invalid_request","error_description":"The method must be GET."}`))
			return
		}
		keys := r.state.Load().publicKeys
		digest := sha256.Sum256(keys)
		tag := `"` + encode(digest[:12]) + `"`
		h.Set("Cache-Control", "public, max-age=300")
		h.Set("ETag", tag)
		if req.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Content-Length", strconv.Itoa(len(keys)))
		_, _ = w.Write(keys) // the client is gone; nobody is left to tell
	})
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
	if len(token) > maxToken {
		return oauth2pw.Principal{}, errors.New("too long")
	}
	state, now := r.state.Load(), r.c.Now()
	var digest [sha256.Size]byte
	if state.cache != nil {
		digest = digestOf(token)
		if p := state.cache.get(&digest); p != nil {
			return *p, checkTimes(p, now)
		}
	}

	dot := strings.IndexByte(token, '.')
	key := state.byHeader[token[:max(dot, 0)]]
	if key == nil {
		return oauth2pw.Principal{}, errors.New("not a header of this issuer")
	}
	payload, err := open(key.keyMaterial, token, dot)
	if err != nil {
		return oauth2pw.Principal{}, err
	}
	p, err := decodeClaims(payload)
	if err != nil {
		return oauth2pw.Principal{}, err
	}
	switch {
	case p.Issuer != r.c.Issuer:
		err = wrongClaim("issuer", p.Issuer, r.c.Issuer)
	case p.Audience != r.c.Audience:
		err = wrongClaim("audience", p.Audience, r.c.Audience)
	case p.Subject == "":
		err = errors.New("no subject")
	default:
		err = checkTimes(&p, now)
	}
	if err != nil {
		return oauth2pw.Principal{}, err
	}
	if state.cache != nil {
		state.cache.put(&digest, p, now)
	}
	return p, nil
}

// wrongClaim says for the operator what a token has, cut short, and what is wanted.
func wrongClaim(what, has, want string) error {
	return fmt.Errorf("wrong %s: has %.100q, want %q", what, has, want)
}

// Check reports that a Ring was not made by New or Open; see oauth2pw.Checker.
func (r *Ring) Check() error {
	if r.state.Load() == nil {
		return errors.New("tokens: a zero Ring: it is made by New or Open")
	}
	return nil
}

// checkTimes refuses a token that is not of this time. iat is cut to the second,
// and so is exp: the last second of a token is whole, lest one that lives for a
// second be dead at birth.
func checkTimes(p *oauth2pw.Principal, now time.Time) error {
	switch {
	case !now.Before(p.ExpiresAt.Add(time.Second)):
		return errExpired
	case p.IssuedAt.After(now.Add(leeway)):
		return errFuture
	}
	return nil
}

var (
	errExpired = errors.New("expired")
	errFuture  = errors.New("issued in the future")
)

// scratch is memory for one verification.
type scratch struct{ token, signature, payload []byte }

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// digestOf returns the SHA-256 of a token, without memory of its own.
func digestOf(token string) [sha256.Size]byte {
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	s.token = append(s.token[:0], token...)
	return sha256.Sum256(s.token)
}

// open checks the signature of a token, whose header ends at dot, and returns its
// payload.
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

// appendDecoded is strict base64url (RFC 7515, section 2): the package base64
// skips line ends, which do not belong here.
func appendDecoded(b []byte, s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return b, errors.New("a line end in base64url")
	}
	n := len(b)
	b = append(b, s...) // which is longer than what it decodes to
	decoded, err := base64url.Decode(b[n:], b[n:])
	return b[:n+decoded], err
}
