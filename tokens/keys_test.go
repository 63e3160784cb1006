package tokens

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

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
	_, err = materialOf(&rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2047), E: 1}, "", "")
	require.ErrorContains(t, err, "exponent 1")
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

// TestRFC8037Vector: the signature of RFC 8037, appendix A.4.
func TestRFC8037Vector(t *testing.T) {
	keys, err := ParseKeys([]byte(rfc8037))
	require.NoError(t, err)
	signature, err := keys[0].material.sign([]byte("eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"))
	require.NoError(t, err)
	require.Equal(t, "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg", encode(signature))
}
