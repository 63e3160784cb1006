package tokens

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// TestIssueAndVerify: what a token holds, and that it is read back.
//
// Conformance 98, 99.
func TestIssueAndVerify(t *testing.T) {
	for alg, jwk := range map[string]string{"HS256": hmacJWK, "EdDSA": rfc8037} {
		r, clock := newRing(t, jwk)
		auth := clock.now.Add(-time.Hour).Truncate(time.Second)
		token, issued, err := r.Issue(t.Context(), oauth2pw.Principal{
			Subject: "42", ClientID: "webapp", Scope: "me items", SessionID: "s1", AuthTime: auth, ExpiresAt: clock.now.Add(10 * time.Second),
		})
		require.NoError(t, err)
		got, err := r.Verify(t.Context(), token)
		require.NoError(t, err)
		require.True(t, got.ExpiresAt.Equal(clock.now.Truncate(time.Second).Add(10*time.Second)), "no later than asked")
		require.True(t, got.AuthTime.Equal(auth))
		for _, p := range []*oauth2pw.Principal{&got, &issued} {
			p.IssuedAt, p.ExpiresAt, p.AuthTime = p.IssuedAt.UTC(), p.ExpiresAt.UTC(), p.AuthTime.UTC()
		}
		require.Equal(t, issued, got)

		// RFC 9068, section 2.
		parts := strings.Split(token, ".")
		header, err := base64.RawURLEncoding.DecodeString(parts[0])
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":"at+jwt"}`, alg, r.state.Load().signer.kid), string(header))
		var payload map[string]any
		require.NoError(t, got.Claims(&payload))
		for _, name := range []string{"iss", "sub", "aud", "exp", "iat", "jti", "auth_time", "client_id", "scope", "sid"} {
			require.Contains(t, payload, name)
		}
		require.Len(t, payload, 10)
	}
	r, _ := newRing(t, rfc8037)
	require.Equal(t, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", r.state.Load().signer.kid)
	token, _, err := r.Issue(t.Context(), oauth2pw.Principal{Subject: "42"})
	require.NoError(t, err)
	p, err := r.Verify(t.Context(), token)
	require.NoError(t, err)
	require.NotContains(t, p.Payload, "client_id")
}

func TestExtraClaims(t *testing.T) {
	// The crafted name is that of GHSA-4cf7-xm37-g63h.
	r, _ := newRing(t, hmacJWK, func(c *Config) {
		c.Claims = WithClaims(func(_ context.Context, p oauth2pw.Principal) (map[string]any, error) {
			return map[string]any{"roles": []string{p.User.Username}, `x":0,"admin`: true}, nil
		})
	})
	token, _, err := r.Issue(t.Context(), oauth2pw.Principal{Subject: "42", User: &oauth2pw.User{Username: "writer"}})
	require.NoError(t, err)
	p, err := r.Verify(t.Context(), token)
	require.NoError(t, err)
	var got map[string]any
	require.NoError(t, p.Claims(&got))
	require.Equal(t, []any{"writer"}, got["roles"])
	require.NotContains(t, got, "admin")
	require.Equal(t, "42", got["sub"])

	for _, name := range []string{"sub", "SUB", "ſub", "exp", "iss", "aud", "scope", "client_id", "sid", "jti", "nbf", "cnf"} {
		r, _ := newRing(t, hmacJWK, func(c *Config) {
			c.Claims = WithClaims(func(context.Context, oauth2pw.Principal) (map[string]any, error) {
				return map[string]any{name: "1"}, nil
			})
		})
		_, _, err := r.Issue(t.Context(), oauth2pw.Principal{Subject: "42"})
		require.ErrorContains(t, err, "reserved", name)
	}
	for _, raw := range []string{`[]`, `null`, `{"a":1,"a":2}`, `{"a":1}{"sub":"1"}`, `{"a":`, `"x"`, ``} {
		r, _ := newRing(t, hmacJWK, func(c *Config) {
			c.Claims = func(context.Context, oauth2pw.Principal) (json.RawMessage, error) { return json.RawMessage(raw), nil }
		})
		_, _, err := r.Issue(t.Context(), oauth2pw.Principal{Subject: "42"})
		require.Error(t, err, raw)
	}
}

func TestSubjectsThatJSONWouldChange(t *testing.T) {
	r, _ := newRing(t, hmacJWK)
	for _, p := range []oauth2pw.Principal{{}, {Subject: "\xff"}, {Subject: "1", ClientID: "\xff"}, {Subject: "1", SessionID: "\xff"}} {
		_, _, err := r.Issue(t.Context(), p)
		require.Error(t, err)
	}
}
