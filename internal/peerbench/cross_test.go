package peerbench

import (
	"encoding/json"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/tokens"
)

// TestAcross: tokens and keys go both ways between this library, golang-jwt and
// go-jose, for every algorithm.
func TestAcross(t *testing.T) {
	for _, alg := range []string{"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"} {
		t.Run(alg, func(t *testing.T) {
			k := newKey(t, alg) // go-jose has read our JWK
			ring := newRing(t, k, -1)
			ours := token(t, ring)

			// Ours, read by them.
			parsed, err := jwt.Parse(ours, func(*jwt.Token) (any, error) { return k.public, nil }, jwt.WithValidMethods([]string{alg}), jwt.WithIssuer(issuer), jwt.WithAudience(audience))
			require.NoError(t, err)
			require.Equal(t, k.ours.ID(), parsed.Header["kid"])
			object, err := jose.ParseSignedCompact(ours, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
			require.NoError(t, err)
			payload, err := object.Verify(k.public)
			require.NoError(t, err)

			// Theirs, read by us: the same claims, signed again.
			theirs := jwt.NewWithClaims(jwt.GetSigningMethod(alg), parsed.Claims)
			theirs.Header["kid"], theirs.Header["typ"] = k.ours.ID(), "at+jwt"
			signed, err := theirs.SignedString(k.private)
			require.NoError(t, err)
			_, err = ring.Verify(t.Context(), signed)
			require.NoError(t, err, "golang-jwt")
			signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: k.private},
				(&jose.SignerOptions{}).WithType("at+jwt").WithHeader("kid", k.ours.ID()))
			require.NoError(t, err)
			object, err = signer.Sign(payload)
			require.NoError(t, err)
			signed, err = object.CompactSerialize()
			require.NoError(t, err)
			p, err := ring.Verify(t.Context(), signed)
			require.NoError(t, err, "go-jose")
			require.Equal(t, "42", p.Subject)

			// A private JWK of theirs, and a public set of ours.
			data, err := json.Marshal(jose.JSONWebKey{Key: k.private, KeyID: "theirs", Algorithm: alg, Use: "sig"})
			require.NoError(t, err)
			keys, err := tokens.ParseKeys(data)
			require.NoError(t, err)
			require.Equal(t, "theirs", keys[0].ID())
			require.NoError(t, ring.SetKeys(keys...))
			again, _, err := ring.Issue(t.Context(), oauth2pw.Principal{Subject: "42"})
			require.NoError(t, err)
			w := httptest.NewRecorder()
			ring.JWKSHandler().ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
			var set jose.JSONWebKeySet
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &set))
			if alg[:2] == "HS" {
				require.Empty(t, set.Keys)
				return
			}
			require.Len(t, set.Key("theirs"), 1)
			require.True(t, set.Keys[0].IsPublic())
			object, err = jose.ParseSignedCompact(again, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
			require.NoError(t, err)
			_, err = object.Verify(set.Keys[0].Key)
			require.NoError(t, err)
			_, err = ring.Verify(t.Context(), ours)
			require.ErrorIs(t, err, oauth2pw.ErrInvalidToken, "the key is retired")
			require.WithinDuration(t, time.Now().Add(15*time.Minute), p.ExpiresAt, time.Minute)
		})
	}
}
