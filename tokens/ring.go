package tokens

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// Config has the settings of a Ring. Keys, Issuer and Audience are required.
type Config struct {
	// Keys verify, and the first key signs; see ParseKeys and OpenKeys. The other keys may be
	// public.
	Keys []Key
	// Issuer is the iss of the tokens: the URL of the service that issues them.
	Issuer string
	// Audience is the aud of the tokens: the name or URL of the service that accepts them.
	Audience string
	// TTL is the lifetime of a token, in whole seconds. Zero: 15 minutes.
	TTL time.Duration
	// Claims adds claims of the app's own; see WithClaims. Nil: no further claims.
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

// ringState is immutable: SetKeys replaces it whole.
type ringState struct {
	keys       *keySet
	signer     *ringKey
	publicKeys []byte // the JWK set
}

// Open returns a Ring with the keys of a file, which [OpenKeys] makes if it does not exist.
// Tokens are valid for 15 minutes.
func Open(file, issuer, audience string) (*Ring, error) {
	keys, err := OpenKeys(file)
	if err != nil {
		return nil, err
	}
	return New(Config{Keys: keys, Issuer: issuer, Audience: audience})
}

// New returns a Ring. The error names the invalid setting.
func New(c Config) (*Ring, error) {
	if err := checkNames("Config", c.Issuer, c.Audience); err != nil {
		return nil, err
	}
	if c.TTL < 0 || c.TTL%time.Second != 0 {
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
	if err := r.SetKeys(keys...); err != nil {
		return nil, err
	}
	return r, nil
}

// checkNames checks the issuer and the audience of a config.
func checkNames(config, issuer, audience string) error {
	switch {
	case issuer == "" || !plain(issuer):
		return fmt.Errorf("tokens: %s.Issuer is missing, or not UTF-8", config)
	case audience == "" || !plain(audience):
		return fmt.Errorf("tokens: %s.Audience is missing, or not UTF-8", config)
	}
	return nil
}

// SetKeys replaces the keys from the next request on: all keys verify, and the first key signs.
// SetKeys may be called while serving. After an error, which names the invalid key, the ring is
// unchanged.
func (r *Ring) SetKeys(keys ...Key) error {
	set, err := newKeySet("Config", keys, r.c.Cache)
	if err != nil {
		return err
	}
	signer := set.keys[0]
	if signer.sign == nil {
		return errors.New("tokens: Config.Keys[0] is public; signing needs the private key")
	}
	public, err := set.publicJWKs()
	if err != nil {
		return fmt.Errorf("tokens: %w", err)
	}
	r.state.Store(&ringState{set, signer, public})
	return nil
}

// Issuer returns the iss of the ring's tokens.
func (r *Ring) Issuer() string { return r.c.Issuer }

// Verify checks a token of this ring. The error wraps oauth2pw.ErrInvalidToken and names the
// fault; the error is ErrExpired if the token has expired and has no other fault.
func (r *Ring) Verify(_ context.Context, token string) (oauth2pw.Principal, error) {
	return r.state.Load().keys.verify(r.rules, token, r.c.Now())
}

// Check reports that a Ring was not made by New or Open; see oauth2pw.Checker.
func (r *Ring) Check() error {
	if r.state.Load() == nil {
		return errors.New("tokens: a zero Ring: it is made by New or Open")
	}
	return nil
}
