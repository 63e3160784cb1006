package tokens

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// members returns a JWK as a map.
func members(t testing.TB, alg string, public bool) map[string]any {
	t.Helper()
	key, private, err := NewKey(alg)
	require.NoError(t, err)
	text := private
	if public {
		text = key.material.jwk
	}
	var m map[string]any
	require.NoError(t, json.Unmarshal(text, &m))
	m["kid"] = "the-kid"
	return m
}

// tryJWK reads a JWK as every reader does, and gives whatever they take a token to verify.
// Nothing may panic.
func tryJWK(t testing.TB, jwk []byte) (ring, remote error) {
	t.Helper()
	now := func() time.Time { return time.Unix(1_700_000_000, 0) }
	encoded := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	claims := encoded(`{"iss":"https://issuer.example","sub":"1","aud":"api","exp":1700000100,"iat":1700000000}`)
	verifyAll := func(v oauth2pw.TokenVerifier, m *keyMaterial) {
		for _, signature := range []string{"", "AA", encoded(string(make([]byte, 64))), encoded(string(make([]byte, 256)))} {
			header := encoded(fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":"at+jwt"}`, m.alg, m.kid))
			_, err := v.Verify(t.Context(), header+"."+claims+"."+signature)
			require.Error(t, err)
		}
	}
	keys, ring := ParseKeys(jwk)
	for _, key := range keys {
		if r, err := New(Config{Keys: []Key{key}, Issuer: "https://issuer.example", Audience: "api", Now: now}); err == nil {
			verifyAll(r, key.material)
		}
		v, err := NewVerifier(VerifierConfig{Keys: []Key{key}, Issuer: "https://issuer.example", Audience: "api", Now: now})
		require.Equal(t, key.material.sign == nil, err == nil, "a Verifier has public keys alone")
		if err == nil {
			verifyAll(v, key.material)
		}
	}
	foreign, remote := parseForeignKeys([]byte(`{"keys":[` + string(jwk) + `]}`))
	for _, m := range foreign {
		r, err := NewRemote(RemoteConfig{Issuer: "https://issuer.example", Audience: "api", Algorithms: []string{m.alg}, Now: now, Cache: -1})
		require.NoError(t, err)
		r.state.Store(&remoteState{keys: foreign, fetched: now()})
		verifyAll(r, m)
		byIssuer, err := ByIssuer(r)
		require.NoError(t, err)
		_, err = byIssuer.Verify(t.Context(), encoded(fmt.Sprintf(`{"alg":%q,"typ":"at+jwt"}`, m.alg))+"."+claims+".AAAA")
		require.Error(t, err)
	}
	return ring, remote
}

// TestConformance147: every member of a JWK of every kind, absent, empty, short,
// long, and of another type: nothing panics, a length that is not the curve's is refused,
// and the error names the key.
func TestConformance147(t *testing.T) {
	for _, alg := range []string{"EdDSA", "ES256", "ES384", "ES512", "RS256", "HS256"} {
		for _, public := range []bool{false, true} {
			if alg == "HS256" && public {
				continue
			}
			good := members(t, alg, public)
			text, err := json.Marshal(good)
			require.NoError(t, err)
			ring, remote := tryJWK(t, text)
			require.NoError(t, ring, alg)
			require.Equal(t, public, remote == nil, alg)
			for _, name := range slices.Sorted(maps.Keys(good)) {
				value := fmt.Sprint(good[name])
				bytes, _ := base64.RawURLEncoding.DecodeString(value)
				b64 := base64.RawURLEncoding.EncodeToString
				variants := map[string]any{
					"empty": "", "null": nil, "number": 1, "bool": true, "array": []any{value}, "object": map[string]any{}, "other": "x",
					"padded": value + "=", "not base64": value + "*", "one byte": b64([]byte{1}), "longer": b64(append([]byte{1}, bytes...)),
					"zero in front": b64(append([]byte{0}, bytes...)), "zeros": b64(make([]byte, len(bytes))), "huge": b64(make([]byte, 5000)),
				}
				if len(bytes) > 1 {
					variants["shorter"], variants["shorter at the end"] = b64(bytes[1:]), b64(bytes[:len(bytes)-1])
				}
				for variant, v := range variants {
					m := maps.Clone(good)
					m[name] = v
					text, err := json.Marshal(m)
					require.NoError(t, err)
					ring, remote := tryJWK(t, text)
					what := fmt.Sprintf("%s, public %v: %s %s", alg, public, name, variant)
					curve := name == "x" || name == "y" || name == "d" && alg != "RS256"
					if curve && !(alg == "EdDSA" && public && variant == "zeros") { // which is a point
						require.Error(t, ring, what)
						require.Error(t, remote, what)
						require.ErrorContains(t, ring, "the-kid", what)
						if public {
							require.ErrorContains(t, remote, "the-kid", what)
						}
					}
				}
				m := maps.Clone(good)
				delete(m, name)
				text, err := json.Marshal(m)
				require.NoError(t, err)
				ring, _ := tryJWK(t, text)
				if name == "x" || name == "y" || name == "kty" || name == "crv" || name == "n" || name == "e" || name == "k" {
					require.Error(t, ring, "%s without %s", alg, name)
					require.ErrorContains(t, ring, "the-kid")
				}
			}
		}
	}
	// As it was found.
	ring, remote := tryJWK(t, []byte(`{"kty":"OKP","crv":"Ed25519","x":"AA","kid":"short"}`))
	require.ErrorContains(t, ring, `"short"`)
	require.ErrorContains(t, remote, `"short"`)
	ring, _ = tryJWK(t, []byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA","kid":"short"}]}`))
	require.ErrorContains(t, ring, "key 1 of the set")
}

// TestKeyMembersByExactName: no other spelling of a member hides one of the wrong length, nor
// does a second one.
func TestKeyMembersByExactName(t *testing.T) {
	b64 := base64.RawURLEncoding.EncodeToString
	good := members(t, "ES256", true)
	x, err := base64.RawURLEncoding.DecodeString(good["x"].(string))
	require.NoError(t, err)
	y, err := base64.RawURLEncoding.DecodeString(good["y"].(string))
	require.NoError(t, err)
	long := func(b []byte) string { return b64(append(make([]byte, 4), b...)) }
	for _, text := range []string{
		fmt.Sprintf(`{"kty":"EC","crv":"P-256","x":%q,"y":%q,"CRV":""}`, long(x), long(y)),
		fmt.Sprintf(`{"kty":"EC","crv":"P-256","x":%q,"y":%q,"KTY":"z"}`, long(x), long(y)),
		fmt.Sprintf(`{"kty":"EC","crv":"P-256","x":%q,"y":%q,"X":%q,"Y":%q}`, long(x), long(y), b64(x), b64(y)),
		fmt.Sprintf(`{"kty":"EC","crv":"P-256","x":%q,"x":%q,"y":%q}`, long(x), b64(x), b64(y)),
		fmt.Sprintf(`{"kty":"EC","crv":"P-256","x":%q,"x":%q,"y":%q}`, b64(x), b64(x), b64(y)),
	} {
		ring, remote := tryJWK(t, []byte(text))
		require.Error(t, ring, text)
		require.Error(t, remote, text)
	}
	key := fmt.Sprintf(`{"kty":"EC","crv":"P-256","x":%q,"y":%q}`, b64(x), b64(y))
	ring, remote := tryJWK(t, []byte(key))
	require.NoError(t, ring)
	require.NoError(t, remote)
	for _, set := range []string{`{"KEYS":[` + key + `]}`, `{"keys":[` + key + `],"keys":[]}`, `{"keys":{}}`, `{"keys":[1]}`, `{"keys":[null]}`} {
		_, err := ParseKeys([]byte(set))
		require.Error(t, err, set)
		_, err = parseForeignKeys([]byte(set))
		require.Error(t, err, set)
	}
}

// FuzzJWK: no key panics where it is read, nor does a token that it has to verify.
func FuzzJWK(f *testing.F) {
	for _, alg := range []string{"EdDSA", "ES256", "ES512", "RS256", "HS256"} {
		for _, public := range []bool{false, true} {
			if alg == "HS256" && public {
				continue
			}
			text, err := json.Marshal(members(f, alg, public))
			require.NoError(f, err)
			f.Add(text)
		}
	}
	f.Add([]byte(`{"kty":"OKP","crv":"Ed25519","x":"AA"}`))
	f.Add([]byte(`{"kty":"OKP","crv":"X25519","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`))
	f.Fuzz(func(t *testing.T, jwk []byte) {
		if len(jwk) <= 4096 { // an RSA key of 8,192 bits takes its time
			tryJWK(t, jwk)
		}
	})
}

// TestZeroVerifiers: what was not made by its constructor says so.
func TestZeroVerifiers(t *testing.T) {
	require.ErrorContains(t, new(Ring).Check(), "zero Ring")
	require.ErrorContains(t, new(Remote).Check(), "zero Remote")
	require.ErrorContains(t, new(Verifier).Check(), "zero Verifier")
}
