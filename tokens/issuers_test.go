package tokens

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

func TestByIssuer(t *testing.T) {
	ours, clock := newRing(t, hmacJWK)
	theirs, _ := newRing(t, rfc8037, func(c *Config) { c.Issuer = "https://other.example" })
	old := newLegacy(t, clock)
	v, err := ByIssuer(ours, theirs, old.verifier)
	require.NoError(t, err)
	for _, r := range []*Ring{ours, theirs} {
		token, _, err := r.Issue(t.Context(), oauth2pw.Principal{Subject: "1"})
		require.NoError(t, err)
		p, err := v.Verify(t.Context(), token)
		require.NoError(t, err)
		require.Equal(t, r.Issuer(), p.Issuer)
	}
	p, err := v.Verify(t.Context(), old.token(legacyHeader, old.claims("")))
	require.NoError(t, err)
	require.Equal(t, ours.Issuer(), p.Issuer)

	// One issuer's key under the other's name.
	forger, err := New(Config{Keys: mustKeys(t, rfc8037), Issuer: ours.Issuer(), Audience: "api", Now: clock.Now})
	require.NoError(t, err)
	forged, _, err := forger.Issue(t.Context(), oauth2pw.Principal{Subject: "1"})
	require.NoError(t, err)
	for token, says := range map[string]string{
		forged: "", "": "", "..": "", "a.b.c": "", strings.Repeat("x.", 20000): "too long",
		"x." + encode([]byte(`{"iss":""}`)) + ".x":                     "empty issuer",
		"x." + encode([]byte(`{"iss":"https://evil.example"}`)) + ".x": "has issuer https://evil.example, want none or https://api.example.com or https://other.example",
	} {
		_, err = v.Verify(t.Context(), token)
		require.ErrorIs(t, err, oauth2pw.ErrInvalidToken)
		require.ErrorContains(t, err, says)
	}
	_, err = ByIssuer(ours, forger)
	require.ErrorContains(t, err, "two verifiers")
	_, err = ByIssuer()
	require.Error(t, err)
}

// TestByIssuerRefuses what verifies nothing.
func TestByIssuerRefuses(t *testing.T) {
	ring, _ := newRing(t, hmacJWK)
	for _, v := range []IssuerVerifier{nil, (*Ring)(nil), (*Remote)(nil), (*Verifier)(nil), new(Ring), new(Remote), new(Verifier)} {
		_, err := ByIssuer(ring, v)
		require.ErrorContains(t, err, "verifier 1", "%T", v)
		_, err = ByIssuer(v)
		require.ErrorContains(t, err, "verifier 0", "%T", v)
	}
}
