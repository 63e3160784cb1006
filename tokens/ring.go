package tokens

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

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
	// Cache is the largest number of verified tokens that the ring remembers. Tokens over
	// 4 KiB are never remembered: 4096 take less than 45 MiB. Zero: 4096; negative: none.
	Cache int
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Ring signs tokens and verifies its own.
type Ring struct {
	c     Config // without the keys
	rules *claimRules
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
	r := &Ring{c: c, rules: ownClaims(c.Issuer, c.Audience)}
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
		}{m.alg, m.kid, ownType})
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

// Issuer returns the iss of the ring's tokens.
func (r *Ring) Issuer() string { return r.c.Issuer }

// Verify checks a token of this ring. The error wraps oauth2pw.ErrInvalidToken and names the
// fault; it is ErrExpired if the expiry is the only one.
func (r *Ring) Verify(_ context.Context, token string) (oauth2pw.Principal, error) {
	p, err := r.verify(token)
	if err != nil {
		return oauth2pw.Principal{}, refused(err)
	}
	return p, nil
}

func (r *Ring) verify(token string) (oauth2pw.Principal, error) {
	if len(token) > maxToken {
		return oauth2pw.Principal{}, errors.New("too long")
	}
	state, now := r.state.Load(), r.c.Now()
	if p := state.cache.get(token); p != nil {
		return *p, checkTimes(p, now)
	}

	dot := strings.IndexByte(token, '.')
	key := state.byHeader[token[:max(dot, 0)]]
	if key == nil {
		return oauth2pw.Principal{}, state.explain(token[:max(dot, 0)])
	}
	payload, err := open(key.keyMaterial, token, dot)
	if err != nil {
		return oauth2pw.Principal{}, err
	}
	p, err := r.rules.read(payload, now)
	if err != nil {
		return oauth2pw.Principal{}, err
	}
	state.cache.put(token, p, now)
	return p, nil
}

// explain names, for the operator, the fault of an encoded header that is none of the keys'.
// It decides nothing: the token is already refused.
func (s *ringState) explain(encoded string) error {
	const text = "not a header of this issuer"
	if len(encoded) > maxExplained {
		return errors.New(text)
	}
	h, err := readHeader(encoded)
	var algorithms []string
	for _, key := range s.byHeader {
		algorithms = append(algorithms, key.alg)
	}
	slices.Sort(algorithms)
	switch {
	case err != nil:
	case h.typ != ownType:
		err = mismatch("typ", []string{h.typ}, []string{ownType})
	case !slices.Contains(algorithms, h.alg):
		err = mismatch("alg", []string{h.alg}, slices.Compact(algorithms))
	case !slices.ContainsFunc(slices.Collect(maps.Values(s.byHeader)), func(k *ringKey) bool { return k.kid == h.kid }):
		err = errUnknownKey
	default:
		return errors.New(text)
	}
	return fmt.Errorf("%s: %w", text, err)
}

// maxExplained is the length of the longest encoded header that is read to explain it.
const maxExplained = 1 << 10

// Check reports that a Ring was not made by New or Open; see oauth2pw.Checker.
func (r *Ring) Check() error {
	if r.state.Load() == nil {
		return errors.New("tokens: a zero Ring: it is made by New or Open")
	}
	return nil
}
