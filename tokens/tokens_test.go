package tokens

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

const hmacJWK = `{"kty":"oct","kid":"test","k":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}`

// rfc8037 is the key of RFC 8037, appendix A.1; its thumbprint is in A.3.
const rfc8037 = `{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`

type testClock struct{ now time.Time }

func (c *testClock) Now() time.Time { return c.now }

func newRing(t testing.TB, jwk string, edits ...func(*Config)) (*Ring, *testClock) {
	t.Helper()
	keys, err := ParseKeys([]byte(jwk))
	require.NoError(t, err)
	clock := &testClock{time.Date(2026, 1, 2, 3, 4, 5, 999, time.UTC)}
	c := Config{Keys: keys, Issuer: "https://api.example.com", Audience: "api", Now: clock.Now}
	for _, edit := range edits {
		edit(&c)
	}
	r, err := New(c)
	require.NoError(t, err)
	return r, clock
}

// TestTimes: the leeway at both ends of a token's life.
//
// Conformance 102.
func TestTimes(t *testing.T) {
	r, clock := newRing(t, hmacJWK)
	token, issued, err := r.Issue(t.Context(), oauth2pw.Principal{Subject: "42"})
	require.NoError(t, err)
	require.Equal(t, 15*time.Minute, issued.ExpiresAt.Sub(issued.IssuedAt))
	for _, test := range []struct {
		at   time.Time
		good bool
	}{
		{issued.ExpiresAt.Add(-1), true},
		{issued.ExpiresAt.Add(time.Second - 1), true}, // the second that iat was cut by
		{issued.ExpiresAt.Add(time.Second), false},
		{issued.ExpiresAt.Add(time.Second + 1), false},
		{issued.IssuedAt.Add(-30 * time.Second), true},
		{issued.IssuedAt.Add(-30*time.Second - 1), false},
	} {
		clock.now = test.at
		_, err := r.Verify(t.Context(), token)
		require.Equal(t, test.good, err == nil, "at %s: %v", test.at, err)
		require.Equal(t, !test.good, errors.Is(err, oauth2pw.ErrInvalidToken))
	}
}

// sign makes a token of any header and payload with the key of hmacJWK.
func sign(header, payload string) string {
	key := make([]byte, 32)
	for i := range key {
		key[i] = byte(i)
	}
	signed := encode([]byte(header)) + "." + encode([]byte(payload))
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(signed))
	return signed + "." + encode(mac.Sum(nil))
}

const goodHeader = `{"alg":"HS256","kid":"test","typ":"at+jwt"}`

func payload(edits ...string) string {
	p := `{"iss":"https://api.example.com","sub":"42","aud":"api","exp":1767324000,"iat":1767323045,"jti":"x"}`
	return strings.NewReplacer(edits...).Replace(p)
}

// TestForgeries: tokens of another shape than the ring writes, most of them rightly signed.
//
// Conformance 98, 100, 102, 103, 104, 105, 107, 108, 109.
func TestForgeries(t *testing.T) {
	r, _ := newRing(t, hmacJWK)
	good := sign(goodHeader, payload())
	_, err := r.Verify(t.Context(), good)
	require.NoError(t, err, "the base of the others is good")
	head, rest, _ := strings.Cut(good, ".")
	body, signature, _ := strings.Cut(rest, ".")
	const last = "jti\":\"x\""
	for name, token := range map[string]string{
		"empty":             "",
		"dots":              "..",
		"two parts":         head + "." + body,
		"four parts":        good + ".x",
		"no signature":      head + "." + body + ".",
		"padding":           good + "=",
		"line end":          head + "." + body + ".\n" + signature,
		"trailing bits":     good[:len(good)-1] + string(good[len(good)-1]+1),
		"JSON":              `{"payload":"` + body + `","protected":"` + head + `","signature":"` + signature + `"}`,
		"alg none":          encode([]byte(`{"alg":"none","kid":"test","typ":"at+jwt"}`)) + "." + body + ".",
		"alg nOnE":          encode([]byte(`{"alg":"nOnE","kid":"test","typ":"at+jwt"}`)) + "." + body + ".",
		"other order":       sign(`{"typ":"at+jwt","alg":"HS256","kid":"test"}`, payload()),
		"typ JWT":           sign(`{"alg":"HS256","kid":"test","typ":"JWT"}`, payload()),
		"no typ":            sign(`{"alg":"HS256","kid":"test"}`, payload()),
		"other kid":         sign(`{"alg":"HS256","kid":"other","typ":"at+jwt"}`, payload()),
		"crit":              sign(`{"alg":"HS256","kid":"test","typ":"at+jwt","crit":["x"]}`, payload()),
		"jwk":               sign(`{"alg":"HS256","jwk":{},"kid":"test","typ":"at+jwt"}`, payload()),
		"wrong issuer":      sign(goodHeader, payload("api.example.com", "other.example.com")),
		"wrong audience":    sign(goodHeader, payload(`"aud":"api"`, `"aud":"other"`)),
		"audience list":     sign(goodHeader, payload(`"aud":"api"`, `"aud":["api"]`)),
		"no subject":        sign(goodHeader, payload(`"sub":"42",`, ``)),
		"subject number":    sign(goodHeader, payload(`"sub":"42"`, `"sub":42`)),
		"subject null":      sign(goodHeader, payload(`"sub":"42"`, `"sub":null`)),
		"duplicate subject": sign(goodHeader, payload(last, last+`,"sub":"1"`)),
		"duplicate escaped": sign(goodHeader, payload(last, last+`,"s\u0075b":"1"`)),
		"duplicate other":   sign(goodHeader, payload(last, last+`,"a":1,"a":2`)),
		"jti null":          sign(goodHeader, payload(`"jti":"x"`, `"jti":null`)),
		"no exp":            sign(goodHeader, payload(`"exp":1767324000,`, ``)),
		"exp string":        sign(goodHeader, payload(`1767324000`, `"1767324000"`)),
		"exp float":         sign(goodHeader, payload(`1767324000`, `1767324000.5`)),
		"exp negative":      sign(goodHeader, payload(`1767324000`, `-1`)),
		"exp huge":          sign(goodHeader, payload(`1767324000`, `1e300`)),
		"exp overflow":      sign(goodHeader, payload(`1767324000`, fmt.Sprint(uint64(math.MaxUint64)))),
		"exp year 10^10":    sign(goodHeader, payload(`1767324000`, fmt.Sprint(int64(math.MaxInt64)))),
		"exp past":          sign(goodHeader, payload(`1767324000`, `1767323000`)),
		"iat far future":    sign(goodHeader, payload(`1767323045`, `1767323900`)),
		"nbf":               sign(goodHeader, payload(last, last+`,"nbf":1767323045`)),
		"cnf":               sign(goodHeader, payload(last, last+`,"cnf":{"jkt":"x"}`)),
		"array":             sign(goodHeader, `[]`),
		"trailing data":     sign(goodHeader, payload()+" {}"),
		"not UTF-8":         sign(goodHeader, payload(`"sub":"42"`, "\"sub\":\"4\xff\"")),
		"deep":              sign(goodHeader, payload(last, last+`,"a":`+strings.Repeat("[", 10000))),
		"long":              sign(goodHeader, payload(last, last+`,"a":"`+strings.Repeat("x", 20<<10)+`"`)),
		"flipped payload":   head + "." + encode([]byte(payload(`"42"`, `"43"`))) + "." + signature,
	} {
		_, err := r.Verify(t.Context(), token)
		require.ErrorIs(t, err, oauth2pw.ErrInvalidToken, name)
	}

	// HMAC keyed with the public key.
	ed, _ := newRing(t, rfc8037)
	public, err := base64url.DecodeString("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	require.NoError(t, err)
	for _, alg := range []string{"HS256", "EdDSA"} {
		signed := encode(fmt.Appendf(nil, `{"alg":%q,"kid":%q,"typ":"at+jwt"}`, alg, ed.state.Load().signer.kid)) + "." + body
		mac := hmac.New(sha256.New, public)
		mac.Write([]byte(signed))
		_, err = ed.Verify(t.Context(), signed+"."+encode(mac.Sum(nil)))
		require.ErrorIs(t, err, oauth2pw.ErrInvalidToken)
	}
}

var algorithms = []string{"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

var newKeys = sync.OnceValue(func() map[string][]byte {
	keys := make(map[string][]byte)
	for _, alg := range algorithms {
		_, jwk, err := NewKey(alg)
		if err != nil {
			panic(err)
		}
		keys[alg] = jwk
	}
	return keys
})

// TestConformance111Algorithms: every algorithm, issued and verified, and every
// key under every other key's tokens.
func TestConformance111Algorithms(t *testing.T) {
	var rings []*Ring
	var issued []string
	for _, alg := range algorithms {
		r, _ := newRing(t, string(newKeys()[alg]))
		require.Equal(t, alg, r.state.Load().signer.alg)
		token, _, err := r.Issue(t.Context(), oauth2pw.Principal{Subject: alg})
		require.NoError(t, err)
		for range 2 { // from the cache too
			p, err := r.Verify(t.Context(), token)
			require.NoError(t, err, alg)
			require.Equal(t, alg, p.Subject)
		}
		rings, issued = append(rings, r), append(issued, token)
	}
	for i, r := range rings {
		for j, token := range issued {
			_, err := r.Verify(t.Context(), token)
			require.Equal(t, i == j, err == nil)
		}
	}
}

// TestRotation: a key is verified before it signs, signs, and is retired, while
// others log in and call; with the cache and without. (P10 of docs/benchmarks.md.)
//
// Conformance 107.
func TestRotation(t *testing.T) {
	for _, size := range []int{0, -1} {
		keys := make([]Key, 101)
		for i := range keys {
			var err error
			keys[i], _, err = NewKey("EdDSA")
			require.NoError(t, err)
		}
		r, err := New(Config{Keys: keys[:1], Issuer: "x", Audience: "x", Cache: size})
		require.NoError(t, err)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		var calls atomic.Int64
		for range 8 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					before := r.state.Load()
					token, _, err := r.Issue(t.Context(), oauth2pw.Principal{Subject: "1"})
					if err != nil {
						t.Error(err)
						return
					}
					for range 3 {
						_, err := r.Verify(t.Context(), token)
						after := r.state.Load()
						calls.Add(1)
						if header, _, _ := strings.Cut(token, "."); err != nil && before.keys.byHeader[header] != nil && after.keys.byHeader[header] != nil {
							t.Error("a valid token was refused:", err)
							return
						}
					}
				}
			})
		}
		for i := 1; i < len(keys); i++ {
			require.NoError(t, r.SetKeys(keys[i-1], keys[i]))
			old, _, err := r.Issue(t.Context(), oauth2pw.Principal{Subject: "1"})
			require.NoError(t, err)
			require.NoError(t, r.SetKeys(keys[i], keys[i-1]))
			_, err = r.Verify(t.Context(), old)
			require.NoError(t, err)
			require.NoError(t, r.SetKeys(keys[i]))
			_, err = r.Verify(t.Context(), old)
			require.ErrorIs(t, err, oauth2pw.ErrInvalidToken, "its key is retired")
		}
		close(stop)
		wg.Wait()
		require.NotZero(t, calls.Load())
		require.Error(t, r.SetKeys())
		token, _, err := r.Issue(t.Context(), oauth2pw.Principal{Subject: "1"})
		require.NoError(t, err, "a ring that refused keys is unchanged")
		_, err = r.Verify(t.Context(), token)
		require.NoError(t, err)
	}
}

func mustKeys(t testing.TB, data string) []Key {
	t.Helper()
	keys, err := ParseKeys([]byte(data))
	require.NoError(t, err)
	return keys
}

// FuzzToken: no token panics; what is accepted carries the key's signature and
// claims that encoding/json reads the same.
func FuzzToken(f *testing.F) {
	r, _ := newRing(f, hmacJWK)
	good := sign(goodHeader, payload())
	f.Add(good, payload())
	f.Add("", "")
	f.Add("a.b.c", `{"sub":1}`)
	f.Add(good+".", payload("42", `\u0034`))
	f.Fuzz(func(t *testing.T, token, claimsJSON string) {
		if _, err := r.Verify(context.Background(), token); err == nil && token != good {
			t.Fatalf("forged: %q", token)
		}
		// Any payload, rightly signed.
		p, err := r.Verify(context.Background(), sign(goodHeader, claimsJSON))
		if err != nil {
			if !errors.Is(err, oauth2pw.ErrInvalidToken) {
				t.Fatal(err)
			}
			return
		}
		var oracle map[string]any
		if err := json.Unmarshal([]byte(claimsJSON), &oracle); err != nil {
			t.Fatalf("%q: %v", claimsJSON, err)
		}
		if oracle["sub"] != p.Subject || oracle["iss"] != p.Issuer || oracle["aud"] != p.Audience {
			t.Fatalf("%q: %+v", claimsJSON, p)
		}
	})
}
