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

// TestIssueRefuses: no token is signed that a verifier would refuse, and the error names the
// field.
func TestIssueRefuses(t *testing.T) {
	r, clock := newRing(t, hmacJWK)
	for _, test := range []struct {
		says string
		p    oauth2pw.Principal
	}{
		{"Subject is empty", oauth2pw.Principal{}},
		{"Subject is not UTF-8", oauth2pw.Principal{Subject: "\xff"}},
		{"SessionID", oauth2pw.Principal{Subject: "1", SessionID: "\xff"}},
		{"ClientID", oauth2pw.Principal{Subject: "1", ClientID: "\xff"}},
		{"ClientID", oauth2pw.Principal{Subject: "1", ClientID: "café"}},
		{"ClientID", oauth2pw.Principal{Subject: "1", ClientID: "a\x00b"}},
		{"Scope", oauth2pw.Principal{Subject: "1", Scope: "me  items"}},
		{"Scope", oauth2pw.Principal{Subject: "1", Scope: " me"}},
		{"Scope", oauth2pw.Principal{Subject: "1", Scope: "me "}},
		{"Scope", oauth2pw.Principal{Subject: "1", Scope: " "}},
		{"Scope", oauth2pw.Principal{Subject: "1", Scope: "me\titems"}},
		{"Scope", oauth2pw.Principal{Subject: "1", Scope: "me\n"}},
		{"Scope", oauth2pw.Principal{Subject: "1", Scope: `"me"`}},
		{"Scope", oauth2pw.Principal{Subject: "1", Scope: `me\items`}},
		{"Scope", oauth2pw.Principal{Subject: "1", Scope: "é"}},
		{"Scope", oauth2pw.Principal{Subject: "1", Scope: "me\x7f"}},
		{"ExpiresAt is past", oauth2pw.Principal{Subject: "1", ExpiresAt: clock.now.Add(-time.Second)}},
		{"1970", oauth2pw.Principal{Subject: "1", ExpiresAt: time.Unix(-1, 0)}},
		{"AuthTime", oauth2pw.Principal{Subject: "1", AuthTime: time.Unix(-1, 0)}},
		{"AuthTime", oauth2pw.Principal{Subject: "1", AuthTime: time.Unix(0, 0)}},
		{"AuthTime", oauth2pw.Principal{Subject: "1", AuthTime: time.Unix(maxTime+1, 0)}},
		{"16 KiB", oauth2pw.Principal{Subject: strings.Repeat("x", maxToken)}},
	} {
		token, p, err := r.Issue(t.Context(), test.p)
		require.ErrorContains(t, err, test.says, "%+v", test.p)
		require.Empty(t, token)
		require.Equal(t, oauth2pw.Principal{}, p)
	}
	for _, now := range []time.Time{time.Unix(-1, 0), time.Unix(0, 0), time.Unix(maxTime, 0)} {
		clock.now = now
		_, _, err := r.Issue(t.Context(), oauth2pw.Principal{Subject: "1"})
		require.ErrorContains(t, err, "1970", now)
	}
}

// TestIssuedIsVerified: what Issue returns is what Verify finds, to the last field.
func TestIssuedIsVerified(t *testing.T) {
	r, clock := newRing(t, hmacJWK)
	for _, p := range []oauth2pw.Principal{
		{Subject: "1", ClientID: "a b~!", Scope: "me !#[]~", SessionID: "é<&>\u2028"},
		{Subject: "1", ExpiresAt: clock.now}, // the rest of this second
		{Subject: "1", AuthTime: time.Unix(1, 999)},
		{Subject: "1", AuthTime: time.Unix(maxTime, 0)},
		{Subject: "1", ExpiresAt: clock.now.Add(100 * time.Hour)},
	} {
		token, issued, err := r.Issue(t.Context(), p)
		require.NoError(t, err)
		got, err := r.Verify(t.Context(), token)
		require.NoError(t, err)
		require.Equal(t, inUTC(issued), inUTC(got))
	}
}

func inUTC(p oauth2pw.Principal) oauth2pw.Principal {
	p.IssuedAt, p.ExpiresAt, p.AuthTime = p.IssuedAt.UTC(), p.ExpiresAt.UTC(), p.AuthTime.UTC()
	return p
}

// TestNumberOfClaims: a token has no more members than a verifier takes.
func TestNumberOfClaims(t *testing.T) {
	n := 0
	r, clock := newRing(t, hmacJWK, func(c *Config) {
		c.Claims = WithClaims(func(context.Context, oauth2pw.Principal) (map[string]int, error) {
			extra := make(map[string]int)
			for i := range n {
				extra[fmt.Sprint("x", i)] = i
			}
			return extra, nil
		})
	})
	full := oauth2pw.Principal{Subject: "1", ClientID: "c", Scope: "me", SessionID: "s", AuthTime: clock.now}
	n = maxExtraClaims
	token, _, err := r.Issue(t.Context(), full)
	require.NoError(t, err)
	_, err = r.Verify(t.Context(), token)
	require.NoError(t, err)
	n++
	_, _, err = r.Issue(t.Context(), full)
	require.ErrorContains(t, err, "246 claims")
}

// FuzzIssue: what Issue signs, Verify accepts, and reads as Issue said.
func FuzzIssue(f *testing.F) {
	f.Add("42", "webapp", "me items", "s1", int64(1_700_000_000), int64(60), `{"a":[1]}`)
	f.Add("\u2028", "", "", "", int64(0), int64(0), `{"\u0061":{}}`)
	f.Add("x", "x", "a  b", "x", int64(-1), int64(-1), `{"sub":1}`)
	f.Fuzz(func(t *testing.T, subject, client, scope, session string, auth, ttl int64, extra string) {
		r, clock := newRing(t, hmacJWK, func(c *Config) {
			c.Claims = func(context.Context, oauth2pw.Principal) (json.RawMessage, error) { return json.RawMessage(extra), nil }
		})
		p := oauth2pw.Principal{Subject: subject, ClientID: client, Scope: scope, SessionID: session}
		if auth != 0 {
			p.AuthTime = time.Unix(auth, 0)
		}
		if ttl != 0 {
			p.ExpiresAt = clock.now.Add(time.Duration(ttl))
		}
		token, issued, err := r.Issue(t.Context(), p)
		if err != nil {
			return
		}
		got, err := r.Verify(t.Context(), token)
		if err != nil || inUTC(got) != inUTC(issued) {
			t.Fatalf("%+v is read as %+v: %v", issued, got, err)
		}
		if got.Subject != subject || got.ClientID != client || got.Scope != scope || got.SessionID != session {
			t.Fatalf("%+v is not what was asked", got)
		}
		if strings.Join(strings.Fields(scope), " ") != scope {
			t.Fatalf("the scope %q is signed", scope)
		}
	})
}
