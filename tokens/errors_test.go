package tokens

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// requireExpired: ErrExpired says that expiry is the only fault.
func requireExpired(t testing.TB, v oauth2pw.TokenVerifier, token string, only bool) {
	t.Helper()
	p, err := v.Verify(t.Context(), token)
	require.ErrorIs(t, err, oauth2pw.ErrInvalidToken)
	require.Equal(t, oauth2pw.Principal{}, p)
	if only {
		require.ErrorIs(t, err, ErrExpired)
		require.EqualError(t, err, "tokens: the token has expired: invalid token")
	} else {
		require.NotErrorIs(t, err, ErrExpired)
	}
}

func flipped(token string) string {
	i := strings.LastIndexByte(token, '.') + 1
	flip := byte('A')
	if token[i] == flip {
		flip = 'B'
	}
	return token[:i] + string(flip) + token[i+1:]
}

func TestErrExpired(t *testing.T) {
	r, clock := newRing(t, hmacJWK)
	byIssuer, err := ByIssuer(r)
	require.NoError(t, err)
	remembered := sign(goodHeader, payload())
	_, err = r.Verify(t.Context(), remembered)
	require.NoError(t, err)
	clock.now = clock.now.Add(time.Hour)
	const last = `"jti":"x"`
	for _, v := range []oauth2pw.TokenVerifier{r, byIssuer} {
		requireExpired(t, v, remembered, true)
		requireExpired(t, v, sign(goodHeader, payload(last, last+`,"a":1`)), true)
		for name, token := range map[string]string{
			"issuer":    sign(goodHeader, payload("api.example.com", "other.example.com")),
			"audience":  sign(goodHeader, payload(`"aud":"api"`, `"aud":"other"`)),
			"subject":   sign(goodHeader, payload(`"sub":"42"`, `"sub":""`)),
			"typ":       sign(`{"alg":"HS256","kid":"test","typ":"JWT"}`, payload()),
			"signature": flipped(remembered),
			"bound":     sign(goodHeader, payload(last, last+`,"cnf":{}`)),
			"future":    sign(goodHeader, payload(`1767323045`, `1767327000`)),
			"malformed": sign(goodHeader, payload()+"x"),
		} {
			t.Run(name, func(t *testing.T) { requireExpired(t, v, token, false) })
		}
	}
}

// TestErrExpiredRemote: the claims of another issuer's token are read before its signature is
// checked, and an expired token causes no fetch.
func TestErrExpiredRemote(t *testing.T) {
	p := newProvider(t)
	token := p.token("k1")
	other := p.token("k1", `"sub":"their-42"`, `"sub":"their-43"`)
	p.key("k2", "ES256")
	unknown := p.token("k2")
	faults := map[string]string{
		"issuer":    p.token("k1", p.server.URL, "https://evil.example"),
		"audience":  p.token("k1", `"api"`, `"apis"`),
		"typ":       p.token("k1", `"typ":"at+jwt"`, `"typ":"JWT"`),
		"alg":       p.token("k1", "ES256", "none"),
		"bound":     p.token("k1", `"sub":`, `"cnf":{},"sub":`),
		"future":    p.token("k1", `"iat":`+fmt.Sprint(p.clock.now.Unix()), `"iat":`+fmt.Sprint(p.clock.now.Unix()+36000)),
		"not yet":   p.token("k1", `"sub":`, fmt.Sprintf(`"nbf":%d,"sub":`, p.clock.now.Unix()+36000)),
		"signature": flipped(token),
		"no key":    unknown,
	}
	p.clock.now = p.clock.now.Add(2 * time.Hour)
	requireExpired(t, p.remote, token, false) // there are no keys yet
	require.Zero(t, p.hits.Load(), "an expired token causes no fetch")

	p.clock.now = p.clock.now.Add(-2 * time.Hour)
	p.good(token)
	p.clock.now = p.clock.now.Add(time.Hour + time.Second)
	requireExpired(t, p.remote, token, true)
	requireExpired(t, p.remote, other, true)
	for name, token := range faults {
		t.Run(name, func(t *testing.T) { requireExpired(t, p.remote, token, false) })
	}
	p.clock.now = p.clock.now.Add(24 * time.Hour)
	requireExpired(t, p.remote, token, false) // the keys are too old
	require.Equal(t, int32(1), p.hits.Load())
}

// TestErrExpiredRemembered: a remembered token expires while the keys are fresh.
func TestErrExpiredRemembered(t *testing.T) {
	p := newProvider(t)
	token := p.token("k1", fmt.Sprint(p.clock.now.Unix()+3600), fmt.Sprint(p.clock.now.Unix()+60))
	p.good(token)
	p.clock.now = p.clock.now.Add(61 * time.Second)
	require.NotNil(t, p.remote.state.Load().cache.get(token))
	requireExpired(t, p.remote, token, true)
}

func TestErrExpiredLegacy(t *testing.T) {
	a := newLegacy(t, &testClock{time.Unix(1_700_000_000, 0)})
	const claims = `{"sub":"johndoe","exp":1700000060}`
	good := a.token(legacyHeader, claims)
	_, err := a.verifier.Verify(t.Context(), good)
	require.NoError(t, err)
	a.clock.now = a.clock.now.Add(61 * time.Second)
	requireExpired(t, a.verifier, good, true)
	requireExpired(t, a.verifier, flipped(good), false)
	requireExpired(t, a.verifier, a.token(`{"alg":"HS256","typ":"at+jwt"}`, claims), false)
	requireExpired(t, a.verifier, a.token(legacyHeader, `{"sub":"johndoe","exp":1700000060,"iat":1700000600}`), false)
	a.clock.now = a.clock.now.Add(time.Hour)
	requireExpired(t, a.verifier, good, false) // no old token is accepted any more
}

// TestShownValues: no value of a token is shown whole if it is long, and none with anything
// but printable ASCII.
func TestShownValues(t *testing.T) {
	require.EqualError(t, mismatch("audience", []string{"account"}, []string{"api"}), "has audience account, want api")
	require.EqualError(t, mismatch("typ", []string{""}, []string{"at+jwt", ""}), "has no typ, want at+jwt or none")
	require.EqualError(t, mismatch("audience", nil, []string{"api"}), "has no audience, want api")
	require.EqualError(t, mismatch("audience", []string{"a", "b", "c", "d", ""}, []string{"api"}), "has audience a b c d, want api")
	require.EqualError(t, mismatch("audience", []string{"a", "b", "c", "d", "e", "f"}, []string{"api"}), "has audience a b c d ..., want api")
	require.Equal(t, "a?b?c??d", printable("a b\nc\x00\x7fd"))
	require.Equal(t, "??", printable("é"))
	require.Equal(t, strings.Repeat("x", 64), printable(strings.Repeat("x", 64)))
	require.Equal(t, strings.Repeat("x", 64)+"...", printable(strings.Repeat("x", 65)))
}
