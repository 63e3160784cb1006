package tokens

import (
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// newVerifier returns a Verifier of a Ring's tokens, by what the Ring publishes.
func newVerifier(t testing.TB, r *Ring) *Verifier {
	t.Helper()
	w := httptest.NewRecorder()
	r.JWKSHandler().ServeHTTP(w, httptest.NewRequest("GET", "/.well-known/jwks.json", nil))
	v, err := NewVerifier(VerifierConfig{
		Keys: mustKeys(t, w.Body.String()), Issuer: r.c.Issuer, Audience: r.c.Audience, Now: r.c.Now, Cache: r.c.Cache,
	})
	require.NoError(t, err)
	return v
}

// TestVerifier: it reads what the Ring reads, for every kind of key, and refuses the tokens of
// every other key. Its strictness is that of the Ring: TestAttackList.
func TestVerifier(t *testing.T) {
	var verifiers []*Verifier
	var issued []string
	for _, alg := range algorithms[3:] {
		r, _ := newRing(t, string(newKeys()[alg]))
		v := newVerifier(t, r)
		token, want, err := r.Issue(t.Context(), oauth2pw.Principal{Subject: alg, Scope: "me items", ClientID: "webapp", SessionID: "s1"})
		require.NoError(t, err)
		for range 2 { // remembered, too
			got, err := v.Verify(t.Context(), token)
			require.NoError(t, err, alg)
			require.Equal(t, inUTC(want), inUTC(got))
		}
		require.NotNil(t, v.keys.Load().cache.get(token))
		require.Equal(t, r.Issuer(), v.Issuer())
		verifiers, issued = append(verifiers, v), append(issued, token)
	}
	for i, v := range verifiers {
		for j, token := range issued {
			_, err := v.Verify(t.Context(), token)
			require.Equal(t, i == j, err == nil)
		}
	}
}

// TestVerifierCannotSign: no key of a Verifier can sign, and it is no TokenIssuer.
func TestVerifierCannotSign(t *testing.T) {
	r, _ := newRing(t, rfc8037)
	v := newVerifier(t, r)
	_, isIssuer := any(v).(oauth2pw.TokenIssuer)
	require.False(t, isIssuer)
	public := v.keys.Load().keys[0]
	require.Nil(t, public.sign)

	private := mustKeys(t, rfc8037)[0]
	secret := mustKeys(t, hmacJWK)[0]
	good := Key{public.keyMaterial}
	for says, c := range map[string]VerifierConfig{
		"VerifierConfig.Keys is empty":       {Issuer: "x", Audience: "x"},
		"VerifierConfig.Keys[0] is the zero": {Keys: []Key{{}}, Issuer: "x", Audience: "x"},
		"VerifierConfig.Keys[0] is private":  {Keys: []Key{private}, Issuer: "x", Audience: "x"},
		"VerifierConfig.Keys[0] is an HMAC":  {Keys: []Key{secret}, Issuer: "x", Audience: "x"},
		"VerifierConfig.Keys[1] is an HMAC":  {Keys: []Key{good, secret}, Issuer: "x", Audience: "x"},
		"VerifierConfig.Keys[1] has the kid": {Keys: []Key{good, good}, Issuer: "x", Audience: "x"},
		"VerifierConfig.Issuer":              {Keys: []Key{good}, Audience: "x"},
		"VerifierConfig.Audience":            {Keys: []Key{good}, Issuer: "x", Audience: "\xff"},
	} {
		v, err := NewVerifier(c)
		require.ErrorContains(t, err, says)
		require.Nil(t, v)
		require.NotContains(t, err.Error(), "AAECAw")
	}
	for _, alg := range algorithms { // private keys of every kind
		_, err := NewVerifier(VerifierConfig{Keys: mustKeys(t, string(newKeys()[alg])), Issuer: "x", Audience: "x"})
		require.Error(t, err, alg)
	}
	// Another algorithm for the public key gives it no private half.
	same, err := good.WithAlgorithm("EdDSA")
	require.NoError(t, err)
	require.Nil(t, same.material.sign)
}

// TestVerifierSetKeys: keys are swapped while serving, and what a dropped key has signed is
// refused from the next request on, remembered or not.
func TestVerifierSetKeys(t *testing.T) {
	r, _ := newRing(t, rfc8037)
	v := newVerifier(t, r)
	old, _, err := r.Issue(t.Context(), oauth2pw.Principal{Subject: "1"})
	require.NoError(t, err)
	_, err = v.Verify(t.Context(), old)
	require.NoError(t, err)

	other, _ := newRing(t, string(newKeys()["ES256"]))
	token, _, err := other.Issue(t.Context(), oauth2pw.Principal{Subject: "2"})
	require.NoError(t, err)
	next := Key{newVerifier(t, other).keys.Load().keys[0].keyMaterial}
	first := Key{v.keys.Load().keys[0].keyMaterial}
	require.Error(t, v.SetKeys())
	require.Error(t, v.SetKeys(next, mustKeys(t, hmacJWK)[0]))
	_, err = v.Verify(t.Context(), old)
	require.NoError(t, err, "refused keys change nothing")

	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := v.Verify(t.Context(), old); err != nil {
					t.Error("a good token is refused while keys are swapped:", err)
					return
				}
			}
		})
	}
	for range 100 {
		if err := v.SetKeys(next, first); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
	_, err = v.Verify(t.Context(), token)
	require.NoError(t, err)
	require.NoError(t, v.SetKeys(next))
	_, err = v.Verify(t.Context(), old)
	require.ErrorIs(t, err, oauth2pw.ErrInvalidToken)
	require.ErrorContains(t, err, "has alg EdDSA, want ES256")
}

// TestVerifierPEM: a public key from PEM has the kid of its private half.
func TestVerifierPEM(t *testing.T) {
	v, err := NewVerifier(VerifierConfig{
		Keys:   mustKeys(t, "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n"),
		Issuer: "https://api.example.com", Audience: "api", Now: (&testClock{}).Now,
	})
	require.NoError(t, err)
	r, clock := newRing(t, rfc8037)
	v.c.Now = clock.Now
	token, _, err := r.Issue(t.Context(), oauth2pw.Principal{Subject: "1"})
	require.NoError(t, err)
	_, err = v.Verify(t.Context(), token)
	require.NoError(t, err)
	for _, token := range []string{flipped(token), token + "x", "", ".", strings.Repeat("x", maxToken+1)} {
		_, err = v.Verify(t.Context(), token)
		require.ErrorIs(t, err, oauth2pw.ErrInvalidToken)
	}
}
