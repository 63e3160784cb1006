// Package tokens makes and verifies access tokens: JWTs in the profile of RFC 9068. The
// package also verifies the tokens of other issuers.
//
// # How to wire it
//
//	jwt, err := tokens.Open("signing.jwk", "https://api.example.com", "api")
//
// Open makes the key file if the file does not exist, and returns a [Ring], which is the
// Issuer and the Verifier of an oauth2pw.Config. [New] has all settings.
//
// Another service verifies the tokens of a Ring with a [Verifier], which has the public keys,
// or with a [Remote], which fetches them. A Remote also verifies the tokens of an identity
// provider. [ByIssuer] joins several verifiers.
//
// # Keys
//
// A key comes from a JWK, a JWK set or PEM. Each key has one algorithm: its "alg", or else the
// first of its kind in this list. The kid of a key is that of the JWK, or else the thumbprint
// (RFC 7638).
//
//   - oct, at least as long as the hash: HS256, HS384, HS512
//   - RSA, 2,048 to 8,192 bits: RS256, RS384, RS512, PS256, PS384, PS512
//   - EC on P-256, P-384, P-521: ES256, ES384, ES512
//   - Ed25519: EdDSA
//
// To rotate a key without a restart, call [Ring.SetKeys] in every process, three times:
//
//  1. The old key first, then the new one: every process verifies both.
//  2. The new key first, then the old one: the new key signs.
//  3. Only the new key, when the last token of the old key has expired.
//
// # Security
//
// A Ring and a Verifier check a token in this order:
//
//  1. The encoded header equals, byte for byte, a header that the Ring writes. This refuses
//     "none", algorithm confusion, embedded and remote keys, crit and unknown key ids before
//     anything is parsed.
//  2. The signature is correct.
//  3. The claims are valid. Duplicate members, wrong types and trailing data are refused.
//
// A verifier remembers verified tokens until they expire or its keys change. oauth2pw.Auth
// checks the session of a remembered token too; see oauth2pw.Config.SessionCache.
//
// # Concurrency
//
// All types of this package are safe for concurrent use. Ring and Verifier take no lock to
// verify, also while keys are swapped.
//
// # Compatibility
//
// The header {"alg":…,"kid":…,"typ":"at+jwt"} and its order are stable. The wording of errors
// may change.
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

// maxToken is the length of the longest token that is read, in bytes.
const maxToken = 16 << 10

// leeway is the largest difference between the clocks of two processes: iat and nbf may be
// this far in the future. Expiry has no leeway.
const leeway = 30 * time.Second

// checkTimes checks iat and exp, at every use of a token, remembered or not. A Ring cuts both
// to the second. A token is therefore valid until the end of its last second: otherwise a
// one-second token would never be valid.
func checkTimes(p *oauth2pw.Principal, now time.Time) error {
	switch {
	case p.IssuedAt.After(now.Add(leeway)):
		return errFuture
	case !now.Before(p.ExpiresAt.Add(time.Second)):
		return ErrExpired // the last of all checks: the token has no other fault
	}
	return nil
}

var errFuture = errors.New("issued in the future")
