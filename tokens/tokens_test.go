package tokens

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

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

// TestRFC8037Vector: the signature of RFC 8037, appendix A.4.
func TestRFC8037Vector(t *testing.T) {
	keys, err := ParseKeys([]byte(rfc8037))
	require.NoError(t, err)
	signature, err := keys[0].material.sign([]byte("eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"))
	require.NoError(t, err)
	require.Equal(t, "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg", encode(signature))
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
//
// Conformance 101.
func TestKeys(t *testing.T) {
	ec := `{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}`
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	weakPEM := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(weak)})
	for _, test := range []struct{ says, data string }{
		{"HS256 needs 32", `{"kty":"oct","k":"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0cw"}`}, // 31 bytes
		{"cannot have", strings.Replace(hmacJWK, `{`, `{"alg":"HS384",`, 1)},
		{"cannot have", strings.Replace(hmacJWK, `{`, `{"alg":"none",`, 1)},
		{"cannot have", strings.Replace(rfc8037, `{`, `{"alg":"ES256",`, 1)},
		{"cannot have", strings.Replace(ec, `{`, `{"alg":"ES384",`, 1)},
		{"weak", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"},
		{"1024 bits", string(weakPEM)},
		{"encrypted", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nc2VjcmV0\n-----END ENCRYPTED PRIVATE KEY-----\n"},
		{"no key", "-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----\n"},
		{"malformed", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0"},
		{"malformed", string(weakPEM[:len(weakPEM)-20])},
		{`"use"`, strings.Replace(rfc8037, `{`, `{"use":"enc",`, 1)},
		{"neither PEM nor", "c2VjcmV0"},
		{"no JWK", `{"k":"c2VjcmV0"}`},
		{"0 keys", `{"keys":[]}`},
		{"101 keys", `{"keys":[` + strings.Repeat("{},", 100) + `{}]}`},
		{"key 2 of the set", `{"keys":[` + rfc8037 + `,{"kty":"oct","k":"c2VjcmV0"}]}`},
		{"belong together", strings.Replace(rfc8037, `"x":"11q`, `"x":"21q`, 1)},
		{"no point", strings.Replace(ec, `"x":"f83`, `"x":"e83`, 1)},
		{"belong together", strings.Replace(ec, `"d":"jps`, `"d":"kps`, 1)},
		{`"kid"`, strings.Replace(rfc8037, `{`, `{"kid":"`+strings.Repeat("x", 257)+`",`, 1)},
	} {
		_, err := ParseKeys([]byte(test.data))
		require.Error(t, err, test.data)
		if !strings.Contains(test.says, "point") && !strings.Contains(test.says, "together") { // whichever is seen first
			require.ErrorContains(t, err, test.says)
		}
		require.NotContains(t, err.Error(), "c2VjcmV0")
	}
	keys, err := ParseKeys([]byte(hmacJWK))
	require.NoError(t, err)
	key := keys[0]
	shown := fmt.Sprintf("%v %+v %#v", key, key, key)
	shown += fmt.Sprintf("%s %d %x", []any{key, key, key}...)
	require.NotContains(t, shown, "AAECAw")
	require.NotContains(t, shown, "0 1 2 3")
	require.NotContains(t, shown, "00010203")
	public, err := ParseKeys([]byte(`{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`))
	require.NoError(t, err)
	for names, c := range map[string]Config{
		"Config.Keys is empty":       {Issuer: "x", Audience: "x"},
		"Config.Keys[0] is the zero": {Keys: []Key{{}}, Issuer: "x", Audience: "x"},
		"Config.Keys[0] is public":   {Keys: public, Issuer: "x", Audience: "x"},
		"Config.Keys[1] has the kid": {Keys: []Key{key, key}, Issuer: "x", Audience: "x"},
		"Config.Issuer":              {Keys: keys, Audience: "x"},
		"Config.Audience":            {Keys: keys, Issuer: "x"},
		"Config.TTL":                 {Keys: keys, Issuer: "x", Audience: "x", TTL: time.Millisecond},
	} {
		_, err := New(c)
		require.ErrorContains(t, err, names)
	}
	_, err = New(Config{Keys: append(keys, public...), Issuer: "x", Audience: "x"}) // verifies what another process signs
	require.NoError(t, err)
	_, err = Key{}.WithAlgorithm("HS256")
	require.Error(t, err)
	_, _, err = NewKey("none")
	require.Error(t, err)
}

func TestOpenKeys(t *testing.T) {
	file := filepath.Join(t.TempDir(), "signing.jwk")
	kids := make([]string, 20)
	var wg sync.WaitGroup
	for i := range kids {
		wg.Go(func() {
			keys, err := OpenKeys(file)
			if err == nil {
				kids[i] = keys[0].ID()
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
	_, err = OpenKeys(file)
	require.Error(t, err, "a key that cannot be read is not replaced")
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "garbage", string(data))
	_, err = ReadKeys(filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
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

// TestPEM: PKCS #1, PKCS #8, SEC 1 and public keys, as openssl writes them.
func TestPEM(t *testing.T) {
	block := func(kind string, der []byte, err error) []byte {
		require.NoError(t, err)
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	ecKey, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	pkcs8 := func(key any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		return block("PRIVATE KEY", der, err)
	}
	spki := func(key any) []byte {
		der, err := x509.MarshalPKIXPublicKey(key)
		return block("PUBLIC KEY", der, err)
	}
	sec1, err := x509.MarshalECPrivateKey(ecKey)
	for _, test := range []struct {
		alg             string
		private, public []byte
	}{
		{"RS256", block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey), nil), block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&rsaKey.PublicKey), nil)},
		{"RS256", pkcs8(rsaKey), spki(rsaKey.Public())},
		{"ES384", append([]byte("-----BEGIN EC PARAMETERS-----\nBgUrgQQAIg==\n-----END EC PARAMETERS-----\n"), block("EC PRIVATE KEY", sec1, err)...), spki(ecKey.Public())},
		{"ES384", pkcs8(ecKey), spki(ecKey.Public())},
		{"EdDSA", pkcs8(edKey), spki(edKey.Public())},
	} {
		private, err := ParseKeys(test.private)
		require.NoError(t, err)
		require.Equal(t, test.alg, private[0].material.alg)
		public, err := ParseKeys(append([]byte("\n"), test.public...))
		require.NoError(t, err)
		require.Equal(t, private[0].ID(), public[0].ID(), "the thumbprint is that of the public half")
		r, err := New(Config{Keys: private, Issuer: "x", Audience: "x"})
		require.NoError(t, err)
		token, _, err := r.Issue(t.Context(), oauth2pw.Principal{Subject: "1"})
		require.NoError(t, err)
		_, other, err := NewKey("ES256")
		require.NoError(t, err)
		signing, err := ParseKeys(other)
		require.NoError(t, err)
		v, err := New(Config{Keys: append(signing, public...), Issuer: "x", Audience: "x"})
		require.NoError(t, err)
		_, err = v.Verify(t.Context(), token)
		require.NoError(t, err)
	}
	both, err := ParseKeys(append(pkcs8(edKey), pkcs8(rsaKey)...))
	require.NoError(t, err)
	require.Len(t, both, 2)
	pss, err := both[1].WithAlgorithm("PS384")
	require.NoError(t, err)
	r, err := New(Config{Keys: []Key{pss}, Issuer: "x", Audience: "x"})
	require.NoError(t, err)
	token, _, err := r.Issue(t.Context(), oauth2pw.Principal{Subject: "1"})
	require.NoError(t, err)
	_, err = r.Verify(t.Context(), token)
	require.NoError(t, err)
	_, err = pss.WithAlgorithm("ES256")
	require.Error(t, err)
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
						if header, _, _ := strings.Cut(token, "."); err != nil && before.byHeader[header] != nil && after.byHeader[header] != nil {
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

// TestCache: bounded to the count it is given; expiry is compared at every hit.
func TestCache(t *testing.T) {
	for _, size := range []int{1, 3, 64} {
		r, clock := newRing(t, hmacJWK, func(c *Config) { c.Cache = size })
		var all []string
		for i := range 20 * size { // at 200 one of 64 places stayed empty in one run of 400
			token, _, err := r.Issue(t.Context(), oauth2pw.Principal{Subject: fmt.Sprint(i)})
			require.NoError(t, err)
			p, err := r.Verify(t.Context(), token)
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint(i), p.Subject)
			all = append(all, token)
		}
		remembered := 0
		for i := range r.state.Load().cache.places {
			if r.state.Load().cache.places[i].Load() != nil {
				remembered++
			}
		}
		require.Len(t, r.state.Load().cache.places, size)
		require.Equal(t, size, remembered)
		for i, token := range all {
			p, err := r.Verify(t.Context(), token)
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint(i), p.Subject)
		}
		clock.now = clock.now.Add(time.Hour)
		for _, token := range all {
			_, err := r.Verify(t.Context(), token)
			require.ErrorIs(t, err, oauth2pw.ErrInvalidToken)
		}
	}
}

func TestJWKSHandler(t *testing.T) {
	get := func(r *Ring, method, tag string) *httptest.ResponseRecorder {
		req := httptest.NewRequest(method, "/.well-known/jwks.json", nil)
		req.Header.Set("If-None-Match", tag)
		w := httptest.NewRecorder()
		r.JWKSHandler().ServeHTTP(w, req)
		return w
	}
	r, _ := newRing(t, hmacJWK)
	require.Equal(t, `{"keys":[]}`, get(r, "GET", "").Body.String())
	for _, alg := range algorithms[3:] {
		r, _ := newRing(t, string(newKeys()[alg]))
		w := get(r, "GET", "")
		require.Equal(t, 200, w.Code)
		require.Equal(t, "application/json", w.Header().Get("Content-Type"))
		require.Contains(t, w.Header().Get("Cache-Control"), "max-age")
		var set struct{ Keys []map[string]any }
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &set))
		require.Len(t, set.Keys, 1)
		for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "k"} {
			require.NotContains(t, set.Keys[0], private)
		}
		require.Equal(t, alg, set.Keys[0]["alg"])
		require.Equal(t, "sig", set.Keys[0]["use"])
		require.Equal(t, r.state.Load().signer.kid, set.Keys[0]["kid"])
		require.Equal(t, 304, get(r, "GET", w.Header().Get("ETag")).Code)
		public, err := ParseKeys(w.Body.Bytes())
		require.NoError(t, err)
		require.Nil(t, public[0].material.sign)
		require.NoError(t, r.SetKeys(mustKeys(t, hmacJWK)...))
		require.Equal(t, 200, get(r, "GET", w.Header().Get("ETag")).Code)
		post := get(r, "POST", "")
		require.Equal(t, 405, post.Code)
		require.Equal(t, "GET, HEAD", post.Header().Get("Allow"))
	}
}

func mustKeys(t testing.TB, data string) []Key {
	t.Helper()
	keys, err := ParseKeys([]byte(data))
	require.NoError(t, err)
	return keys
}

// FuzzJSON: what the scanner accepts, encoding/json accepts and reads the same;
// what encoding/json refuses, it refuses.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		`{}`, ` {"a" : 1 , "b":[{},[],"x",null,true,false,-0.5e+3]} `, `{"a":"\u0061\ud83d\ude00\n"}`, `{"a":1,"\u0061":2}`, `{"a":1,}`, `{,}`, `{"a"}`,
		`{"a":01}`, `{"a":1.}`, `{"a":.5}`, `{"a":-}`, `{"a":1e}`, `{"a":nul}`, `{"a":"\x"}`, "{\"a\":\"\n\"}", `{"a":1}x`, `[]`, ``, `{"a":[1,]}`, `{"a":{"b":1,}}`, `{"a":tru}`, `{"a":"`, `{"a":"\`, `{"a":[`, `{"exp":1e3}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		values := make(map[string]string)
		err := eachMember(text, func(name, value string) error {
			values[name] = value
			return nil
		})
		var oracle map[string]json.RawMessage
		oracleErr := json.Unmarshal([]byte(text), &oracle)
		if err != nil {
			if oracleErr == nil && errors.Is(err, errJSON) && utf8.ValidString(text) && oracle != nil {
				t.Fatalf("%q is refused, and is good", text)
			}
			return
		}
		if oracleErr != nil {
			t.Fatalf("%q is accepted: %v", text, oracleErr)
		}
		if len(oracle) != len(values) {
			t.Fatalf("%q: %d members, not %d", text, len(values), len(oracle))
		}
		for name, raw := range oracle {
			value, ok := values[name]
			if !ok || value != string(raw) {
				t.Fatalf("%q: %q is %q, not %q", text, name, value, raw)
			}
			var s string
			if got, err := jsonString(value); value[0] == '"' && (json.Unmarshal(raw, &s) != nil || err != nil || got != s) {
				t.Fatalf("%q: %q, not %q (%v)", value, got, s, err)
			}
			var n int64
			if got, err := jsonInt(value); err == nil && (json.Unmarshal(raw, &n) != nil || got != n) {
				t.Fatalf("%q: %d, not %d", value, got, n)
			}
			if list, err := jsonStrings(value); err == nil && value[0] == '[' {
				var want []string
				if json.Unmarshal(raw, &want) != nil || !slices.Equal(list, want) {
					t.Fatalf("%q: %q, not %q", value, list, want)
				}
			}
			if got, err := jsonTime(value); err == nil && (got < 0 || got > maxTime) {
				t.Fatalf("%q: %d", value, got)
			}
		}
	})
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
