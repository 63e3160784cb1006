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

// legacyHeader is the header that PyJWT writes for FastAPI's tutorial.
const legacyHeader = `{"alg":"HS256","typ":"JWT"}`

// oldApp makes tokens as FastAPI's tutorial does, and has the verifier for them.
type oldApp struct {
	*testing.T
	clock    *testClock
	config   LegacyConfig
	verifier IssuerVerifier
}

func newLegacy(t *testing.T, clock *testClock) *oldApp {
	a := &oldApp{T: t, clock: clock}
	a.config = LegacyConfig{
		Secret: "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7", // that of the tutorial
		Issuer: "https://api.example.com", Until: clock.now.Add(time.Hour), Now: clock.Now,
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
	var err error
	a.verifier, err = InsecureLegacyHS256(a.config)
	require.NoError(t, err)
	return a
}

func (a *oldApp) token(header, payload string) string {
	key := mustKeys(a.T, `{"kty":"oct","k":"`+encode([]byte(a.config.Secret))+`"}`)[0]
	signed := encode([]byte(header)) + "." + encode([]byte(payload))
	signature, err := key.material.sign([]byte(signed))
	require.NoError(a, err)
	return signed + "." + encode(signature)
}

func (a *oldApp) claims(more string) string {
	return fmt.Sprintf(`{"sub":"johndoe","exp":%d%s}`, a.clock.now.Unix()+600, more)
}

func TestLegacy(t *testing.T) {
	a := newLegacy(t, &testClock{time.Unix(1_700_000_000, 0)})
	for more, scope := range map[string]string{
		``: "", `,"scope":"me items"`: "me items", `,"scopes":["me","items"]`: "me items", `,"sid":7,"jti":null,"client_id":[]`: "",
	} {
		p, err := a.verifier.Verify(t.Context(), a.token(legacyHeader, a.claims(more)))
		require.NoError(t, err)
		require.Equal(t, "42", p.Subject)
		require.Equal(t, a.config.Issuer, p.Issuer)
		require.Equal(t, scope, p.Scope)
	}
	for _, test := range []struct{ says, token string }{
		{"has alg none, want HS256", a.token(`{"alg":"none","typ":"JWT"}`, a.claims(""))},
		{"has alg HS512, want HS256", a.token(`{"alg":"HS512","typ":"JWT"}`, a.claims(""))},
		{"has typ at+jwt, want JWT", a.token(`{"alg":"HS256","typ":"at+jwt"}`, a.claims(""))},
		{"has typ jwt, want JWT", a.token(`{"alg":"HS256","typ":"jwt"}`, a.claims(""))},
		{"kid", a.token(`{"alg":"HS256","kid":"x","typ":"JWT"}`, a.claims(""))},
		{"the claim aud", a.token(legacyHeader, a.claims(`,"aud":"api"`))},
		{"the claim iss", a.token(legacyHeader, a.claims(`,"iss":"`+a.config.Issuer+`"`))},
		{"the claim nbf", a.token(legacyHeader, a.claims(`,"nbf":1`))},
		{"bound to a key", a.token(legacyHeader, a.claims(`,"cnf":{}`))},
		{"time", a.token(legacyHeader, `{"sub":"johndoe"}`)},
		{"expired", a.token(legacyHeader, fmt.Sprintf(`{"sub":"johndoe","exp":%d}`, a.clock.now.Unix()-2))},
		{"no such user", a.token(legacyHeader, strings.Replace(a.claims(""), "johndoe", "nobody", 1))},
		{"no subject", a.token(legacyHeader, strings.Replace(a.claims(""), "johndoe", "", 1))},
		{"", a.token(legacyHeader, a.claims("")) + "x"},
		{"too long", strings.Repeat("x", maxToken+1)},
	} {
		_, err := a.verifier.Verify(t.Context(), test.token)
		require.ErrorIs(t, err, oauth2pw.ErrInvalidToken)
		require.ErrorContains(t, err, test.says)
		requireShort(t, err)
	}
	_, err := a.verifier.Verify(t.Context(), a.token(legacyHeader, strings.Replace(a.claims(""), "johndoe", "down", 1)))
	require.Error(t, err)
	require.NotErrorIs(t, err, oauth2pw.ErrInvalidToken)
	require.NotContains(t, fmt.Sprintf("%v %+v %s", a.verifier, a.verifier, []any{a.verifier}), string(a.config.Secret))
}

// TestLegacyUntil: from the date on, no old token is accepted.
func TestLegacyUntil(t *testing.T) {
	a := newLegacy(t, &testClock{time.Unix(1_700_000_000, 0)})
	token := a.token(legacyHeader, fmt.Sprintf(`{"sub":"johndoe","exp":%d}`, a.clock.now.Unix()+36000))
	a.clock.now = a.clock.now.Add(time.Hour - 1)
	_, err := a.verifier.Verify(t.Context(), token)
	require.NoError(t, err)
	a.clock.now = a.clock.now.Add(1)
	_, err = a.verifier.Verify(t.Context(), token)
	require.ErrorIs(t, err, oauth2pw.ErrInvalidToken)
	require.ErrorContains(t, err, "no longer")
}

func TestLegacyConfig(t *testing.T) {
	good := newLegacy(t, &testClock{time.Unix(1_700_000_000, 0)}).config
	for names, edit := range map[string]func(*LegacyConfig){
		"Secret":  func(c *LegacyConfig) { c.Secret = "short" },
		"Issuer":  func(c *LegacyConfig) { c.Issuer = "" },
		"Subject": func(c *LegacyConfig) { c.Subject = nil },
		"Until":   func(c *LegacyConfig) { c.Until = time.Time{} },
	} {
		c := good
		edit(&c)
		_, err := InsecureLegacyHS256(c)
		require.ErrorContains(t, err, names)
	}
}
