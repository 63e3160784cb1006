package tokens

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// VerifierConfig has the settings of a Verifier. Keys, Issuer and Audience are required.
type VerifierConfig struct {
	// Keys are the public keys of the Ring: the JWK set of Ring.JWKSHandler, or PEM, read by
	// ReadKeys or ParseKeys. Private keys and HMAC keys are refused, because both can sign: a
	// service that only verifies must not hold them.
	Keys []Key
	// Issuer is the Config.Issuer of the Ring.
	Issuer string
	// Audience is the Config.Audience of the Ring.
	Audience string
	// Cache is the largest number of verified tokens that the Verifier remembers. Tokens over
	// 4 KiB are never remembered: 4096 take less than 45 MiB. Zero: 4096; negative: none.
	Cache int
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Verifier verifies the tokens of a Ring in another process, with public keys only. A Verifier
// is as strict as the Ring, signs nothing and fetches nothing: after a change of the Ring's
// keys call SetKeys here too. A [Remote] fetches the keys instead.
type Verifier struct {
	c     VerifierConfig // without the keys
	rules *claimRules
	keys  atomic.Pointer[keySet]
}

// NewVerifier returns a Verifier. The error names the invalid setting.
func NewVerifier(c VerifierConfig) (*Verifier, error) {
	if err := checkNames("VerifierConfig", c.Issuer, c.Audience); err != nil {
		return nil, err
	}
	if c.Cache == 0 {
		c.Cache = defaultCache
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	keys := c.Keys
	c.Keys = nil
	v := &Verifier{c: c, rules: ownClaims(c.Issuer, c.Audience)}
	if err := v.SetKeys(keys...); err != nil {
		return nil, err
	}
	return v, nil
}

// SetKeys replaces the keys from the next request on, and may be called while serving. After
// an error, which names the invalid key, the Verifier is unchanged.
func (v *Verifier) SetKeys(keys ...Key) error {
	set, err := newKeySet("VerifierConfig", keys, v.c.Cache)
	if err != nil {
		return err
	}
	for i, key := range set.keys {
		switch {
		case key.jwk == nil:
			return fmt.Errorf("tokens: VerifierConfig.Keys[%d] is an HMAC key, which can sign: the ring needs another kind of key", i)
		case key.sign != nil:
			return fmt.Errorf("tokens: VerifierConfig.Keys[%d] is private: give its public half, as Ring.JWKSHandler publishes it", i)
		}
	}
	v.keys.Store(set)
	return nil
}

// Issuer returns the iss of the tokens.
func (v *Verifier) Issuer() string { return v.c.Issuer }

// Verify checks a token of the Ring. The error wraps oauth2pw.ErrInvalidToken and names the
// fault; the error is ErrExpired if the token has expired and has no other fault.
func (v *Verifier) Verify(_ context.Context, token string) (oauth2pw.Principal, error) {
	return v.keys.Load().verify(v.rules, token, v.c.Now())
}

// Check reports that a Verifier was not made by NewVerifier; see oauth2pw.Checker.
func (v *Verifier) Check() error {
	if v.keys.Load() == nil {
		return errors.New("tokens: a zero Verifier: it is made by NewVerifier")
	}
	return nil
}
