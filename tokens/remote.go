package tokens

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// RemoteConfig has the settings of a Remote. Issuer and Audience are required.
type RemoteConfig struct {
	// Issuer is the iss of the tokens, byte for byte: an https URL, or an http URL on loopback
	// (localhost, 127.0.0.0/8, ::1) for development.
	Issuer string
	// JWKSURL is the URL of the issuer's keys: an https URL, or an http URL on the host of an
	// http issuer. Empty: the jwks_uri of the issuer's metadata, at
	// .well-known/openid-configuration below the issuer or else at the place of RFC 8414.
	JWKSURL string
	// Audience is required in the aud of a token, as a string or in a list.
	Audience string
	// Algorithms are the allowed algorithms of tokens. Nil: RS256, PS256, ES256 and EdDSA. HMAC
	// is an error.
	Algorithms []string
	// Types are the allowed typ headers, in any case, with or without "application/". Nil:
	// "at+jwt" (RFC 9068), which refuses ID tokens. Some providers write "JWT" or no typ: then
	// set "JWT" or "", and make sure that the ID tokens have another audience.
	Types []string
	// Scopes maps each scope of the issuer to a scope of the app; see SameScopes. Any other
	// scope is dropped. Nil: no scopes.
	Scopes map[string]string
	// ScopeClaims are the claims with scopes: a string with spaces between, or an array. Nil:
	// "scope" and "scp". Some providers use "permissions" or "roles".
	ScopeClaims []string
	// RootCAs are the authorities for the issuer's certificate. Nil: the system's authorities.
	RootCAs *x509.CertPool
	// MaxStale is the largest age of fetched keys. The keys are used until this age if every
	// new fetch fails. At least a second. Zero: 24 hours.
	MaxStale time.Duration
	// Cache is the largest number of verified tokens that the Remote remembers. Tokens over
	// 4 KiB are never remembered: 4096 take less than 45 MiB. Zero: 4096; negative: none.
	Cache int
	// OnError gets the error of each failed fetch, in a goroutine of its own, outside of any
	// request. Nil: the errors are dropped.
	OnError func(err error)
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// SameScopes returns RemoteConfig.Scopes for an issuer that names scopes as the app does: these
// scopes are kept, and every other scope is dropped.
func SameScopes(scopes ...string) map[string]string {
	same := make(map[string]string, len(scopes))
	for _, s := range scopes {
		same[s] = s
	}
	return same
}

// Remote verifies the tokens of another issuer by its published keys.
//
// Keys are fetched at the first token, and again in the background after five minutes. A token
// with an unknown kid causes a fetch too, if the token has no other fault. There is one fetch
// at a time and at most one in 30 seconds; as long as no fetch has succeeded, the next one may
// start 1, 2, 4 and so on up to 30 seconds after the last. While the issuer does not answer,
// the last fetched keys are used until MaxStale. Without any keys, and for an unknown kid,
// Verify then fails (503) and does not refuse the token.
//
// Only https URLs are fetched, without redirects and proxies, within 5 seconds and 512 KiB.
// Private and loopback addresses are not fetched. The issuer's own host name is exempt: this
// host may have a private address, and on loopback the URL may be http. A set has 100 keys at
// most. HMAC keys, keys with another use than "sig", and RSA keys under 2,048 or over 8,192
// bits are left out.
type Remote struct {
	c     RemoteConfig
	types []string
	rules *claimRules
	fetch func(ctx context.Context) ([]*keyMaterial, error)
	limit time.Duration               // the time limit of one fetch
	state atomic.Pointer[remoteState] // nil: no keys yet

	mu       sync.Mutex
	flight   chan struct{} // closed when the running fetch ends; nil: none is running
	lastTry  time.Time
	lastErr  error
	failures int
}

const (
	remoteFresh    = 5 * time.Minute
	remoteInterval = 30 * time.Second
	remoteTimeout  = 5 * time.Second
	remoteStale    = 24 * time.Hour
)

// NewRemote returns a verifier of another issuer's tokens, and fetches nothing yet. The error
// names the invalid setting.
func NewRemote(c RemoteConfig) (*Remote, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	c.setDefaults()
	r := &Remote{c: c, fetch: newFetcher(c).keys, limit: remoteTimeout}
	r.rules = &claimRules{issuer: c.Issuer, audience: c.Audience, scopeClaims: c.ScopeClaims, scope: r.ourScopes}
	for _, t := range c.Types {
		r.types = append(r.types, shortType(t))
	}
	return r, nil
}

func (c *RemoteConfig) check() error {
	plainHost := plainHostOf(c.Issuer)
	if err := checkFetchURL("RemoteConfig.Issuer", c.Issuer, plainHost); err != nil {
		return err
	}
	if c.JWKSURL != "" {
		if err := checkFetchURL("RemoteConfig.JWKSURL", c.JWKSURL, plainHost); err != nil {
			return err
		}
	}
	for _, alg := range c.Algorithms {
		if !slices.Contains(asymmetric, alg) {
			return fmt.Errorf("tokens: RemoteConfig.Algorithms: %q is none of %s", alg, strings.Join(asymmetric, ", "))
		}
	}
	for theirs, ours := range c.Scopes {
		for _, s := range []string{theirs, ours} {
			if s == "" || strings.Contains(s, " ") || !validScope(s) {
				return fmt.Errorf("tokens: RemoteConfig.Scopes: %q is not one scope (RFC 6749, section 3.3)", s)
			}
		}
	}
	switch {
	case c.Audience == "":
		return errors.New("tokens: RemoteConfig.Audience is empty")
	case 0 < c.MaxStale && c.MaxStale < time.Second:
		return errors.New("tokens: RemoteConfig.MaxStale is under a second: write 24*time.Hour")
	case c.MaxStale < 0:
		return errors.New("tokens: RemoteConfig.MaxStale is negative")
	}
	return nil
}

func (c *RemoteConfig) setDefaults() {
	if c.Algorithms == nil {
		c.Algorithms = []string{"RS256", "PS256", "ES256", "EdDSA"}
	}
	if c.Types == nil {
		c.Types = []string{ownType}
	}
	if c.ScopeClaims == nil {
		c.ScopeClaims = []string{"scope", "scp"}
	}
	if c.MaxStale == 0 {
		c.MaxStale = remoteStale
	}
	if c.Cache == 0 {
		c.Cache = defaultCache
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	// Later changes of the app's slices and maps must not change the rules.
	c.Algorithms, c.Types, c.ScopeClaims, c.Scopes = slices.Clone(c.Algorithms), slices.Clone(c.Types), slices.Clone(c.ScopeClaims), maps.Clone(c.Scopes)
}

var asymmetric = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// Issuer returns the iss of the tokens.
func (r *Remote) Issuer() string { return r.c.Issuer }

// Check reports that a Remote was not made by NewRemote; see oauth2pw.Checker.
func (r *Remote) Check() error {
	if r.fetch == nil {
		return errors.New("tokens: a zero Remote: it is made by NewRemote")
	}
	return nil
}

// Verify checks a token of the issuer; see oauth2pw.TokenVerifier. An error that wraps
// oauth2pw.ErrInvalidToken names the fault of the token; the error is ErrExpired if the token
// has expired and has no other fault. Any other error means that the keys could not be
// fetched.
func (r *Remote) Verify(ctx context.Context, token string) (oauth2pw.Principal, error) {
	p, err := r.verify(ctx, token)
	if err == nil {
		return p, nil
	}
	if unavailable := (unavailableError{}); errors.As(err, &unavailable) {
		return oauth2pw.Principal{}, fmt.Errorf("tokens: the keys of %s cannot be had: %w", r.c.Issuer, unavailable.cause)
	}
	return oauth2pw.Principal{}, refused(err)
}

func (r *Remote) verify(ctx context.Context, token string) (oauth2pw.Principal, error) {
	if len(token) > maxToken {
		return oauth2pw.Principal{}, errTooLong
	}
	now := r.c.Now()
	if state := r.state.Load(); state != nil && now.Sub(state.fetched) < remoteFresh {
		if p := state.cache.get(token); p != nil {
			return *p, checkTimes(p, now)
		}
	}

	// Header and claims are checked before the signature: only a token that would pass may
	// cause a fetch of keys.
	dot := strings.IndexByte(token, '.')
	header, err := r.readHeader(token[:max(dot, 0)])
	if err != nil {
		return oauth2pw.Principal{}, err
	}
	p, err := r.readClaims(token, dot, now)
	if errors.Is(err, ErrExpired) {
		return oauth2pw.Principal{}, r.expired(header, token, dot, now)
	}
	if err != nil {
		return oauth2pw.Principal{}, err
	}
	state, key, err := r.key(ctx, header)
	if err != nil {
		return oauth2pw.Principal{}, err
	}
	if _, err := open(key, token, dot); err != nil {
		return oauth2pw.Principal{}, err
	}
	state.cache.put(token, p, now)
	return p, nil
}

// readHeader reads a header and checks its alg and typ.
func (r *Remote) readHeader(encoded string) (header, error) {
	h, err := readHeader(encoded)
	switch {
	case err != nil:
	case !slices.Contains(r.c.Algorithms, h.alg):
		err = mismatch("alg", []string{h.alg}, r.c.Algorithms)
	case !slices.Contains(r.types, shortType(h.typ)):
		err = mismatch("typ", []string{h.typ}, r.c.Types)
	}
	return h, err
}

// expired returns the error for an expired token without another fault so far: ErrExpired if
// the signature is correct. expired fetches no keys.
func (r *Remote) expired(h header, token string, dot int, now time.Time) error {
	state := r.state.Load()
	if state == nil || now.Sub(state.fetched) >= r.c.MaxStale {
		return errExpiredUnchecked
	}
	key := state.find(h)
	if key == nil {
		return errExpiredUnchecked
	}
	if _, err := open(key, token, dot); err != nil {
		return err
	}
	return ErrExpired
}

var errExpiredUnchecked = errors.New("expired, and without a key at hand to check its signature")

// readClaims reads and checks the claims of a token, before the signature is checked.
func (r *Remote) readClaims(token string, dot int, now time.Time) (oauth2pw.Principal, error) {
	encoded, _, _ := strings.Cut(token[dot+1:], ".")
	payload, err := decodeText(encoded)
	if err != nil {
		return oauth2pw.Principal{}, errors.New("the payload is not base64url")
	}
	return r.rules.read(payload, now)
}

// ourScopes maps the scopes of a token to scopes of the app, without duplicates.
func (r *Remote) ourScopes(theirs []string) string {
	var ours []string
	for _, s := range theirs {
		if mapped, ok := r.c.Scopes[s]; ok && !slices.Contains(ours, mapped) {
			ours = append(ours, mapped)
		}
	}
	return strings.Join(ours, " ")
}
