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
// A verifier remembers verified tokens until they expire or its keys change.
// oauth2pw.Auth checks at each request, remembered or not, that the session has not ended.
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
	"errors"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

var (
	_ oauth2pw.TokenIssuer = (*Ring)(nil)
	_ IssuerVerifier       = (*Ring)(nil)
	_ IssuerVerifier       = (*Verifier)(nil)
	_ IssuerVerifier       = (*Remote)(nil)
	_ oauth2pw.Checker     = (*Ring)(nil)
	_ oauth2pw.Checker     = (*Verifier)(nil)
	_ oauth2pw.Checker     = (*Remote)(nil)
)

// maxToken is the length of the longest token that is looked at, in bytes.
const maxToken = 16 << 10

// leeway is how far the clocks of two processes may be apart: a token may have
// been issued so long in the future. Expiry has none.
const leeway = 30 * time.Second

// checkTimes compares the times that count at every use of a token, remembered or not. A
// Ring cuts iat and exp to the second, so the last second of a token counts whole: otherwise
// a one-second token would never be valid.
func checkTimes(p *oauth2pw.Principal, now time.Time) error {
	switch {
	case p.IssuedAt.After(now.Add(leeway)):
		return errFuture
	case !now.Before(p.ExpiresAt.Add(time.Second)):
		return ErrExpired // the last check of all: nothing else is wrong
	}
	return nil
}

var errFuture = errors.New("issued in the future")
