package tokens

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

var _ oauth2pw.TokenVerifier = (*Remote)(nil)

// RemoteConfig has the settings of a Remote. Issuer and Audience are required.
type RemoteConfig struct {
	// Issuer is the iss of the tokens, byte for byte.
	Issuer string
	// JWKSURL is where the issuer's keys are. Empty: where its metadata says,
	// which is looked for at .well-known/openid-configuration below the issuer,
	// and then at the place of RFC 8414.
	JWKSURL string
	// Audience must be the aud of a token, or one of them.
	Audience string
	// Algorithms are those that a token may be signed with. Nil: RS256, PS256,
	// ES256 and EdDSA. HMAC is not allowed.
	Algorithms []string
	// Types are the typ headers that a token may have, in any case, with or
	// without "application/". Nil: "at+jwt" (RFC 9068), which keeps ID tokens out.
	// For a provider whose access tokens say "JWT", or nothing, name "JWT", or "",
	// and be sure that its ID tokens have another audience.
	Types []string
	// Scopes says which scope of ours a scope of theirs means. What it does not
	// name is dropped. Nil: nothing is granted.
	Scopes map[string]string
	// ScopeClaims are the claims that hold scopes: a string with spaces between,
	// or an array. Nil: "scope" and "scp". "permissions" and "roles" are others.
	ScopeClaims []string
	// RootCAs are the authorities that its certificate may come from. Nil: those
	// of the system.
	RootCAs *x509.CertPool
	// MaxStale is how long the last good keys serve while new ones cannot be had.
	// Zero: 24 hours.
	MaxStale time.Duration
	// Cache is how many verified tokens are remembered. Zero: 4096; negative:
	// none.
	Cache int
	// OnError is told, beside the request, why keys could not be fetched. Nil:
	// nobody is.
	OnError func(err error)
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Remote verifies the tokens of another issuer, by the keys that it publishes.
//
// Keys are fetched at the first token, and again in the background when they are
// older than five minutes. An unknown kid has them fetched too, if its token is
// good otherwise; but there is one fetch at a time and at most one in 30 seconds,
// whatever the tokens say. While the issuer does not answer, the last good keys
// serve for MaxStale; without any, and for an unknown kid, a token cannot be
// verified then, which is a failure (503) and no bad token.
//
// Only https URLs are fetched, without redirects and proxies, within 5 seconds and
// 512 KiB; no address that is private or loopback, unless the issuer's own host is
// at that address. Of a set at most 100 keys are allowed; those for HMAC, for
// another use than "sig", and RSA keys under 2,048 bits are left out.
type Remote struct {
	c     RemoteConfig
	types []string
	fetch func(ctx context.Context) ([]*keyMaterial, error)
	limit time.Duration               // of one fetch
	state atomic.Pointer[remoteState] // nil: nothing was fetched yet

	mu       sync.Mutex
	flight   chan struct{} // closed when the fetch that is under way ends; nil: none is
	lastTry  time.Time
	lastErr  error
	failures int
}

// remoteState is one set of keys.
type remoteState struct {
	keys    []*keyMaterial
	fetched time.Time
	cache   *cache
}

const (
	remoteFresh    = 5 * time.Minute
	remoteInterval = 30 * time.Second
	remoteTimeout  = 5 * time.Second
	remoteStale    = 24 * time.Hour
)

// NewRemote returns a verifier of another issuer's tokens. It fetches nothing yet.
// The error names the setting that is wrong.
func NewRemote(c RemoteConfig) (*Remote, error) {
	if err := checkFetchURL("RemoteConfig.Issuer", c.Issuer); err != nil {
		return nil, err
	}
	if c.JWKSURL != "" {
		if err := checkFetchURL("RemoteConfig.JWKSURL", c.JWKSURL); err != nil {
			return nil, err
		}
	}
	if c.Audience == "" {
		return nil, errors.New("tokens: RemoteConfig.Audience is empty")
	}
	if c.Algorithms == nil {
		c.Algorithms = []string{"RS256", "PS256", "ES256", "EdDSA"}
	}
	for _, alg := range c.Algorithms {
		if !slices.Contains(asymmetric, alg) {
			return nil, fmt.Errorf("tokens: RemoteConfig.Algorithms: %q is none of %s", alg, strings.Join(asymmetric, ", "))
		}
	}
	if c.Types == nil {
		c.Types = []string{"at+jwt"}
	}
	if c.ScopeClaims == nil {
		c.ScopeClaims = []string{"scope", "scp"}
	}
	switch {
	case 0 < c.MaxStale && c.MaxStale < time.Second:
		return nil, errors.New("tokens: RemoteConfig.MaxStale is under a second: write 24*time.Hour")
	case c.MaxStale < 0:
		return nil, errors.New("tokens: RemoteConfig.MaxStale is negative")
	case c.MaxStale == 0:
		c.MaxStale = remoteStale
	}
	if c.Cache == 0 {
		c.Cache = defaultCache
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	r := &Remote{c: c, fetch: newFetcher(c).keys, limit: remoteTimeout}
	for _, t := range c.Types {
		r.types = append(r.types, shortType(t))
	}
	return r, nil
}

var asymmetric = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

func checkFetchURL(name, s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" {
		return fmt.Errorf("tokens: %s must be an https URL, not %q", name, s)
	}
	return nil
}

// shortType is a typ without "application/", which RFC 7515, section 4.1.9, lets
// people leave out, in lower case.
func shortType(t string) string {
	t = strings.ToLower(t)
	if short, ok := strings.CutPrefix(t, "application/"); ok && !strings.Contains(short, "/") {
		return short
	}
	return t
}

// Issuer returns the iss of the tokens.
func (r *Remote) Issuer() string { return r.c.Issuer }

// Check reports that a Remote was not made by NewRemote; see oauth2pw.Checker.
func (r *Remote) Check() error {
	if r.fetch == nil {
		return errors.New("tokens: a zero Remote: it is made by NewRemote")
	}
	return nil
}

// Refresh fetches the keys now, if none were tried within 30 seconds: for a start
// that wants to know whether the issuer can be reached. It is never required.
func (r *Remote) Refresh(ctx context.Context) error {
	return r.refresh(ctx, true)
}

// Verify checks a token of the issuer. See oauth2pw.TokenVerifier.
func (r *Remote) Verify(ctx context.Context, token string) (oauth2pw.Principal, error) {
	p, err := r.verify(ctx, token)
	if err == nil {
		return p, nil
	}
	if unavailable := (unavailableError{}); errors.As(err, &unavailable) {
		return oauth2pw.Principal{}, fmt.Errorf("tokens: the keys of %s cannot be had: %w", r.c.Issuer, unavailable.cause)
	}
	return oauth2pw.Principal{}, fmt.Errorf("tokens: %w: %w", err, oauth2pw.ErrInvalidToken)
}

// unavailableError says that a token could not be checked.
type unavailableError struct{ cause error }

func (e unavailableError) Error() string { return e.cause.Error() }

func (r *Remote) verify(ctx context.Context, token string) (oauth2pw.Principal, error) {
	if len(token) > maxToken {
		return oauth2pw.Principal{}, errors.New("too long")
	}
	now := r.c.Now()
	digest := digestOf(token)
	if state := r.state.Load(); state != nil && state.cache != nil && now.Sub(state.fetched) < remoteFresh {
		if p := state.cache.get(&digest); p != nil {
			return *p, checkTimes(p, now)
		}
	}

	// What the token says is looked at before its signature: only one that would
	// pass may have keys fetched.
	dot := strings.IndexByte(token, '.')
	header, err := readHeader(token[:max(dot, 0)])
	if err != nil {
		return oauth2pw.Principal{}, err
	}
	if !slices.Contains(r.c.Algorithms, header.alg) {
		return oauth2pw.Principal{}, errors.New("an algorithm that is not allowed")
	}
	if !slices.Contains(r.types, shortType(header.typ)) {
		return oauth2pw.Principal{}, wrongClaim("type", header.typ, strings.Join(r.c.Types, " or "))
	}
	p, err := r.readClaims(token, dot, now)
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
	if state.cache != nil {
		state.cache.put(&digest, p, now)
	}
	return p, nil
}

// header is what we read of a JOSE header (RFC 7515, section 4). Keys and URLs in
// it are never used.
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
			err = errors.New("an extension that we do not know")
		}
		return err
	})
	if err != nil {
		return h, fmt.Errorf("the header is malformed: %w", err)
	}
	return h, nil
}

func decodeText(encoded string) (string, error) {
	b, err := appendDecoded(nil, encoded)
	return string(b), err
}

// readClaims reads and checks the claims of a token whose signature nobody has
// looked at yet.
func (r *Remote) readClaims(token string, dot int, now time.Time) (p oauth2pw.Principal, err error) {
	encoded, _, _ := strings.Cut(token[dot+1:], ".")
	payload, err := decodeText(encoded)
	if err != nil {
		return p, errors.New("the payload is not base64url")
	}
	var audiences, scopes []string
	var expires, issued, authenticated, notBefore int64
	err = eachMember(payload, func(name, value string) (err error) {
		switch name {
		case "iss":
			p.Issuer, err = jsonString(value)
		case "sub":
			p.Subject, err = jsonString(value)
		case "aud":
			audiences, err = jsonStrings(value)
		case "exp":
			expires, err = jsonTime(value)
		case "iat":
			issued, err = jsonTime(value)
		case "nbf":
			notBefore, err = jsonTime(value)
		case "auth_time":
			authenticated, err = jsonTime(value)
		case "jti":
			p.TokenID, err = jsonString(value)
		case "client_id":
			p.ClientID, err = jsonString(value)
		case "sid":
			p.SessionID, err = jsonString(value)
		case "cnf": // RFC 7800: it is bound to a key, and no bearer token
			err = errors.New("the token is bound to a key")
		}
		if err == nil && slices.Contains(r.c.ScopeClaims, name) {
			var list []string
			list, err = jsonStrings(value)
			for _, s := range list {
				scopes = append(scopes, strings.Fields(s)...)
			}
		}
		if err != nil {
			return fmt.Errorf("the claim %s: %w", name, err)
		}
		return nil
	})
	if err != nil {
		return p, fmt.Errorf("the claims are malformed: %w", err)
	}
	switch {
	case p.Issuer != r.c.Issuer:
		return p, wrongClaim("issuer", p.Issuer, r.c.Issuer)
	case !slices.Contains(audiences, r.c.Audience):
		return p, wrongClaim("audience", strings.Join(audiences, " "), r.c.Audience)
	case p.Subject == "":
		return p, errors.New("no subject")
	case expires == 0:
		return p, errTime
	case time.Unix(notBefore, 0).After(now.Add(leeway)):
		return p, errors.New("not valid yet")
	}
	p.Audience, p.Scope, p.Payload = r.c.Audience, r.ourScopes(scopes), payload
	p.ExpiresAt, p.IssuedAt = time.Unix(expires, 0), time.Unix(issued, 0)
	if authenticated != 0 {
		p.AuthTime = time.Unix(authenticated, 0)
	}
	return p, checkTimes(&p, now)
}

// ourScopes returns what their scopes mean, without duplicates.
func (r *Remote) ourScopes(theirs []string) string {
	var ours []string
	for _, s := range theirs {
		if mapped, ok := r.c.Scopes[s]; ok && !slices.Contains(ours, mapped) {
			ours = append(ours, mapped)
		}
	}
	return strings.Join(ours, " ")
}

// key returns the key of a token whose claims are good, fetching the keys if that
// is allowed.
func (r *Remote) key(ctx context.Context, h header) (*remoteState, *keyMaterial, error) {
	now := r.c.Now()
	state := r.state.Load()
	if state != nil && now.Sub(state.fetched) >= r.c.MaxStale {
		state = nil
	}
	key := state.find(h)
	switch {
	case state == nil || key == nil:
		err := r.refresh(ctx, true)
		if fresh := r.state.Load(); fresh != nil && now.Sub(fresh.fetched) < r.c.MaxStale {
			state = fresh
		}
		if state == nil {
			if err == nil {
				err = errors.New("they are too old")
			}
			return nil, nil, unavailableError{err}
		}
		if key = state.find(h); key == nil && err != nil {
			return nil, nil, unavailableError{err} // the issuer may have it
		}
		if key == nil {
			return nil, nil, errors.New("an unknown key id")
		}
	case now.Sub(state.fetched) >= remoteFresh:
		_ = r.refresh(ctx, false) // in the background
	}
	return state, key, nil
}

// find returns the key that a header names: by its kid or, without one, the only
// one of its algorithm.
func (s *remoteState) find(h header) (found *keyMaterial) {
	if s == nil {
		return nil
	}
	for _, key := range s.keys {
		if key.alg != h.alg || h.hasKid && key.kid != h.kid {
			continue
		}
		if found != nil {
			return nil
		}
		found = key
	}
	return found
}

// refresh fetches the keys under a context of its own, if none is being fetched and
// the last time is long enough ago. With wait it returns when the fetch that is
// under way has ended, or ctx; the error is that of the last fetch.
func (r *Remote) refresh(ctx context.Context, wait bool) error {
	r.mu.Lock()
	if r.flight == nil {
		now := r.c.Now()
		if !r.lastTry.IsZero() && now.Sub(r.lastTry) < r.pause() {
			err := r.lastErr
			r.mu.Unlock()
			return err
		}
		r.lastTry = now
		r.flight = make(chan struct{})
		go r.fly()
	}
	flight := r.flight
	r.mu.Unlock()
	if !wait {
		return nil
	}
	select {
	case <-flight:
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.lastErr
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pause is how long after one fetch the next may follow. Without any keys an
// issuer that comes back is found sooner: after a second, two, four and so on. The
// lock is held.
func (r *Remote) pause() time.Duration {
	if r.state.Load() != nil || r.failures == 0 {
		return remoteInterval
	}
	return min(time.Second<<min(r.failures-1, 10), remoteInterval)
}

// fetchKeys fetches, in a goroutine of its own, in which nobody else recovers.
func (r *Remote) fetchKeys(ctx context.Context) (keys []*keyMaterial, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic (%T)", v)
		}
	}()
	return r.fetch(ctx)
}

// fly is one fetch.
func (r *Remote) fly() {
	ctx, cancel := context.WithTimeout(context.Background(), r.limit)
	defer cancel()
	keys, err := r.fetchKeys(ctx)
	if err == nil {
		r.state.Store(&remoteState{keys: keys, fetched: r.c.Now(), cache: newCache(r.c.Cache)})
	}
	r.mu.Lock()
	if r.lastErr = err; err == nil {
		r.failures = 0
	} else {
		r.failures++
	}
	close(r.flight)
	r.flight = nil
	r.mu.Unlock()
	if err != nil && r.c.OnError != nil {
		r.c.OnError(fmt.Errorf("tokens: the keys of %s: %w", r.c.Issuer, err))
	}
}

// forbidden reports whether an address is one that nobody outside should be able
// to make us ask.
func forbidden(a netip.Addr) bool {
	a = a.Unmap()
	return !a.IsGlobalUnicast() || a.IsPrivate() || a.Is6() && !globalIPv6.Contains(a) || neverFetched(a) ||
		slices.ContainsFunc(reservedNetworks, func(p netip.Prefix) bool { return p.Contains(a) })
}

// neverFetched reports whether an address is one that no issuer has, its own host
// included: where clouds answer with the credentials of the machine.
func neverFetched(a netip.Addr) bool {
	return a.IsLinkLocalUnicast() || slices.Contains(metadataServices, a)
}

// metadataServices are those beside 169.254.0.0/16.
var metadataServices = []netip.Addr{
	netip.MustParseAddr("168.63.129.16"),   // Azure
	netip.MustParseAddr("100.100.100.200"), // Alibaba Cloud
	netip.MustParseAddr("192.0.0.192"),     // Oracle Cloud
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
	netip.MustParseAddr("fd20:ce::254"),    // Google Cloud
	netip.MustParseAddr("fd00:42::42"),     // Scaleway
}

// globalIPv6 is all that is assigned as global unicast (RFC 4291, section 2.4): outside
// of it are IPv4-compatible, -mapped and -translated addresses, NAT64, site-local ones.
var globalIPv6 = netip.MustParsePrefix("2000::/3")

// reservedNetworks are those that netip does not name (RFC 6890).
var reservedNetworks = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("192.88.99.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("2001::/23"), // Teredo and ORCHID are of it
	netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("2002::/16"), // 6to4
	netip.MustParsePrefix("3fff::/20"),
}

// issuerDocument is what we read of an issuer's metadata.
type issuerDocument struct {
	Issuer  string `json:"issuer"`
	JWKSURI string `json:"jwks_uri"`
}

func parseDocument(data []byte, issuer string) (jwksURL string, err error) {
	var d issuerDocument
	if err := json.Unmarshal(data, &d); err != nil {
		return "", errors.New("the metadata is no JSON object")
	}
	if d.Issuer != issuer { // RFC 8414, section 3.3
		return "", errors.New("the metadata is that of another issuer")
	}
	if err := checkFetchURL("jwks_uri", d.JWKSURI); err != nil {
		return "", err
	}
	return d.JWKSURI, nil
}
