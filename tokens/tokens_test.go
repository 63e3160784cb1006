package tokens

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
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
	key, err := ParseKey([]byte(jwk))
	require.NoError(t, err)
	clock := &testClock{time.Date(2026, 1, 2, 3, 4, 5, 999, time.UTC)}
	c := Config{Key: key, Issuer: "https://api.example.com", Audience: "api", Now: clock.Now}
	for _, edit := range edits {
		edit(&c)
	}
	r, err := New(c)
	require.NoError(t, err)
	return r, clock
}

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

		// RFC 9068, section 2; conformance 98 and 99.
		parts := strings.Split(token, ".")
		header, err := base64.RawURLEncoding.DecodeString(parts[0])
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":"at+jwt"}`, alg, r.key.kid), string(header))
		var payload map[string]any
		require.NoError(t, got.Claims(&payload))
		for _, name := range []string{"iss", "sub", "aud", "exp", "iat", "jti", "auth_time", "client_id", "scope", "sid"} {
			require.Contains(t, payload, name)
		}
		require.Len(t, payload, 10)
	}
	r, _ := newRing(t, rfc8037)
	require.Equal(t, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", r.key.kid)
	token, _, err := r.Issue(t.Context(), oauth2pw.Principal{Subject: "42"})
	require.NoError(t, err)
	p, err := r.Verify(t.Context(), token)
	require.NoError(t, err)
	require.NotContains(t, p.Payload, "client_id")
}

// TestRFC8037Vector: the signature of RFC 8037, appendix A.4.
func TestRFC8037Vector(t *testing.T) {
	key, err := ParseKey([]byte(rfc8037))
	require.NoError(t, err)
	signature, err := key.material.sign([]byte("eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"))
	require.NoError(t, err)
	require.Equal(t, "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg", encode(signature))
}

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

	// HMAC keyed with the public key (conformance 100).
	ed, _ := newRing(t, rfc8037)
	public, err := decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	require.NoError(t, err)
	for _, alg := range []string{"HS256", "EdDSA"} {
		signed := encode(fmt.Appendf(nil, `{"alg":%q,"kid":%q,"typ":"at+jwt"}`, alg, ed.key.kid)) + "." + body
		mac := hmac.New(sha256.New, public)
		mac.Write([]byte(signed))
		_, err = ed.Verify(t.Context(), signed+"."+encode(mac.Sum(nil)))
		require.ErrorIs(t, err, oauth2pw.ErrInvalidToken)
	}
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

// TestKeys: what is refused says why, and quotes nothing of the key.
func TestKeys(t *testing.T) {
	for says, jwk := range map[string]string{
		"needs 32":          `{"kty":"oct","k":"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0cw"}`, // conformance 101: 31 bytes
		"JWK set":           `{"keys":[` + rfc8037 + `]}`,
		"PEM":               "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n",
		"public":            `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`,
		`"use"`:             strings.Replace(rfc8037, `{`, `{"use":"enc",`, 1),
		`"alg"`:             strings.Replace(rfc8037, `{`, `{"alg":"ES256",`, 1),
		"other than HS256":  strings.Replace(hmacJWK, `{`, `{"alg":"HS512",`, 1),
		"not a JSON object": "c2VjcmV0",
		"no JWK":            `{"k":"c2VjcmV0"}`,
		"belong together":   strings.Replace(rfc8037, `"x":"11q`, `"x":"21q`, 1),
		"not supported":     `{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}`,
		`"kid"`:             strings.Replace(rfc8037, `{`, `{"kid":"`+strings.Repeat("x", 257)+`",`, 1),
	} {
		_, err := ParseKey([]byte(jwk))
		require.ErrorContains(t, err, says)
		require.NotContains(t, err.Error(), "c2VjcmV0")
	}
	key, err := ParseKey([]byte(hmacJWK))
	require.NoError(t, err)
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", key, key, key), "AAECAw")
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", key, key, key), "0 1 2 3")
	for names, c := range map[string]Config{
		"Config.Key":      {Issuer: "x", Audience: "x"},
		"Config.Issuer":   {Key: key, Audience: "x"},
		"Config.Audience": {Key: key, Issuer: "x"},
		"Config.TTL":      {Key: key, Issuer: "x", Audience: "x", TTL: time.Millisecond},
	} {
		_, err := New(c)
		require.ErrorContains(t, err, names)
	}
}

func TestOpenKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "signing.jwk")
	kids := make([]string, 20)
	var wg sync.WaitGroup
	for i := range kids {
		wg.Go(func() {
			key, err := OpenKey(file)
			if err == nil {
				kids[i] = key.material.kid
			}
		})
	}
	wg.Wait()
	for _, kid := range kids {
		require.NotEmpty(t, kid)
		require.Equal(t, kids[0], kid, "processes that start at once agree")
	}
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	files, err := os.ReadDir(filepath.Dir(file))
	require.NoError(t, err)
	require.Len(t, files, 1, "nothing is left over")

	require.NoError(t, os.WriteFile(file, []byte("garbage"), 0o600))
	_, err = OpenKey(file)
	require.Error(t, err, "a key that cannot be read is not replaced")
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "garbage", string(data))
	_, err = ReadKey(filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestNewKey(t *testing.T) {
	key, jwk, err := NewKey()
	require.NoError(t, err)
	again, err := ParseKey(jwk)
	require.NoError(t, err)
	require.Equal(t, key.material.kid, again.material.kid)
	require.Equal(t, "EdDSA", key.material.alg)
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
