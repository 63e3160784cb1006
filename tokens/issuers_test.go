package tokens

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

func TestByIssuer(t *testing.T) {
	ours, clock := newRing(t, hmacJWK)
	theirs, _ := newRing(t, rfc8037, func(c *Config) { c.Issuer = "https://other.example" })
	const secret = "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7" // that of FastAPI's tutorial
	legacyConfig := LegacyConfig{
		Secret: secret, Issuer: ours.Issuer(), Until: clock.now.Add(time.Hour), Now: clock.Now,
		Subject: func(_ context.Context, sub string) (string, error) {
			switch sub {
			case "johndoe":
				return "42", nil
			case "down":
				return "", errors.New("the database is down")
			}
			return "", oauth2pw.ErrNotFound
		},
	}
	old, err := InsecureLegacyHS256(legacyConfig)
	require.NoError(t, err)
	v, err := ByIssuer(ours, theirs, old)
	require.NoError(t, err)
	for _, r := range []*Ring{ours, theirs} {
		token, _, err := r.Issue(t.Context(), oauth2pw.Principal{Subject: "1"})
		require.NoError(t, err)
		p, err := v.Verify(t.Context(), token)
		require.NoError(t, err)
		require.Equal(t, r.Issuer(), p.Issuer)
	}
	// One issuer's key under the other's name.
	keys := mustKeys(t, rfc8037)
	forger, err := New(Config{Keys: keys, Issuer: ours.Issuer(), Audience: "api", Now: clock.Now})
	require.NoError(t, err)
	forged, _, err := forger.Issue(t.Context(), oauth2pw.Principal{Subject: "1"})
	require.NoError(t, err)
	for _, token := range []string{forged, "", "..", "a.b.c", "x." + encode([]byte(`{"iss":""}`)) + ".x", "x." + encode([]byte(`{"iss":"https://evil.example"}`)) + ".x", strings.Repeat("x.", 20000)} {
		_, err = v.Verify(t.Context(), token)
		require.ErrorIs(t, err, oauth2pw.ErrInvalidToken)
	}
	_, err = ByIssuer(ours, forger)
	require.ErrorContains(t, err, "two verifiers")
	_, err = ByIssuer()
	require.Error(t, err)

	// What PyJWT makes for FastAPI's tutorial.
	key := mustKeys(t, `{"kty":"oct","k":"`+encode([]byte(secret))+`"}`)[0]
	legacyToken := func(header, payload string) string {
		signed := encode([]byte(header)) + "." + encode([]byte(payload))
		signature, err := key.material.sign([]byte(signed))
		require.NoError(t, err)
		return signed + "." + encode(signature)
	}
	const header = `{"alg":"HS256","typ":"JWT"}`
	claims := func(more string) string {
		return fmt.Sprintf(`{"sub":"johndoe","exp":%d%s}`, clock.now.Unix()+600, more)
	}
	for more, scope := range map[string]string{``: "", `,"scope":"me items"`: "me items", `,"scopes":["me","items"]`: "me items"} {
		p, err := v.Verify(t.Context(), legacyToken(header, claims(more)))
		require.NoError(t, err)
		require.Equal(t, "42", p.Subject)
		require.Equal(t, ours.Issuer(), p.Issuer)
		require.Equal(t, scope, p.Scope)
	}
	for _, token := range []string{
		legacyToken(`{"alg":"none","typ":"JWT"}`, claims("")),
		legacyToken(`{"alg":"HS512","typ":"JWT"}`, claims("")),
		legacyToken(`{"alg":"HS256","typ":"at+jwt"}`, claims("")),
		legacyToken(`{"alg":"HS256","kid":"x","typ":"JWT"}`, claims("")),
		legacyToken(header, claims(`,"aud":"api"`)),
		legacyToken(header, claims(`,"iss":"`+ours.Issuer()+`"`)),
		legacyToken(header, `{"sub":"johndoe"}`),
		legacyToken(header, fmt.Sprintf(`{"sub":"johndoe","exp":%d}`, clock.now.Unix()-2)),
		legacyToken(header, strings.Replace(claims(""), "johndoe", "nobody", 1)),
		legacyToken(header, strings.Replace(claims(""), "johndoe", "", 1)),
		legacyToken(header, claims("")) + "x",
	} {
		_, err := old.Verify(t.Context(), token)
		require.ErrorIs(t, err, oauth2pw.ErrInvalidToken)
	}
	_, err = old.Verify(t.Context(), legacyToken(header, strings.Replace(claims(""), "johndoe", "down", 1)))
	require.Error(t, err)
	require.NotErrorIs(t, err, oauth2pw.ErrInvalidToken)
	last := legacyToken(header, strings.Replace(claims(""), fmt.Sprint(clock.now.Unix()+600), fmt.Sprint(clock.now.Unix()+36000), 1))
	clock.now = clock.now.Add(time.Hour - 1)
	_, err = old.Verify(t.Context(), last)
	require.NoError(t, err)
	clock.now = clock.now.Add(1)
	_, err = old.Verify(t.Context(), last)
	require.ErrorContains(t, err, "no longer")
	require.NotContains(t, fmt.Sprintf("%v %+v %s", old, old, []any{old}), secret)

	for names, edit := range map[string]func(*LegacyConfig){
		"Secret":  func(c *LegacyConfig) { c.Secret = "short" },
		"Issuer":  func(c *LegacyConfig) { c.Issuer = "" },
		"Subject": func(c *LegacyConfig) { c.Subject = nil },
		"Until":   func(c *LegacyConfig) { c.Until = time.Time{} },
	} {
		c := legacyConfig
		edit(&c)
		_, err := InsecureLegacyHS256(c)
		require.ErrorContains(t, err, names)
	}
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
