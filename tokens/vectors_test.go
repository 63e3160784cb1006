package tokens

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// verifyCompact checks a JWS in compact serialization the way that tokens are
// checked, but for what makes it one of ours: the typ and the claims.
func verifyCompact(key *keyMaterial, token string) (payload string, ok bool) {
	dot := strings.IndexByte(token, '.')
	h, err := readHeader(token[:max(dot, 0)])
	if err != nil || h.alg != key.alg || h.hasKid && h.kid != key.kid {
		return "", false
	}
	payload, err = open(key, token, dot)
	return payload, err == nil
}

func readJSON(t *testing.T, file string, v any) {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, v))
}

// TestConformance110Wycheproof: every invalid signature is refused, every valid one
// accepted, by a key that we would use.
func TestConformance110Wycheproof(t *testing.T) {
	var file struct {
		TestGroups []struct {
			Comment         string
			Public, Private json.RawMessage
			Tests           []struct {
				ID      int `json:"tcId"`
				Comment string
				JWS     json.RawMessage
				Result  string
			}
		}
	}
	readJSON(t, "testdata/wycheproof/json_web_signature_test.json", &file)
	// Where we are stricter than the vectors: what they call valid is refused.
	strict := map[int]string{
		346: "the key says PS256, the token PS384", 350: "the same",
		347: "the key says ES521, which is no algorithm", 351: "the same",
		372: "a character that is not base64url", 373: "the same",
	}
	// The bytes of 357, which is valid: their padding got lost on the way.
	sameAsValid := map[int]bool{367: true, 370: true}
	valid, invalid, withoutKey := 0, 0, 0
	for _, group := range file.TestGroups {
		jwk := group.Public
		if jwk == nil {
			jwk = group.Private
		}
		key, keyErr := parseJWK(jwk)
		for _, test := range group.Tests {
			var token string
			if json.Unmarshal(test.JWS, &token) != nil {
				token = string(test.JWS) // JSON serialization
			}
			if sameAsValid[test.ID] {
				continue
			}
			stricter := strict[test.ID]
			if keyErr != nil {
				require.True(t, test.Result == "invalid" || stricter != "", "%s %d: %s: %v", group.Comment, test.ID, test.Comment, keyErr)
				withoutKey++
				continue
			}
			_, ok := verifyCompact(key, token)
			require.Equal(t, test.Result == "valid" && stricter == "", ok, "%s %d: %s", group.Comment, test.ID, test.Comment)
			if ok {
				valid++
			} else {
				invalid++
			}
		}
	}
	t.Logf("%d valid, %d invalid, %d under keys that are refused", valid, invalid, withoutKey)
	require.NotZero(t, valid)
}

// TestCookbook: RFC 7520, sections 4.1 to 4.4, and RFC 8037, appendix A.4.
func TestCookbook(t *testing.T) {
	files, err := filepath.Glob("testdata/jose-cookbook/*.json")
	require.NoError(t, err)
	require.Len(t, files, 5)
	for _, file := range files {
		var vector struct {
			Reproducible bool
			Input        struct {
				Payload, Alg string
				Key          json.RawMessage
			}
			Signing struct {
				Input     string `json:"sig-input"`
				Signature string `json:"sig"`
			}
			Output struct{ Compact string }
		}
		readJSON(t, file, &vector)
		key, err := parseJWK(vector.Input.Key)
		require.NoError(t, err, file)
		if key.alg != vector.Input.Alg {
			key, err = materialOf(key.raw(), vector.Input.Alg, key.kid)
			require.NoError(t, err, file)
		}
		payload, ok := verifyCompact(key, vector.Output.Compact)
		require.True(t, ok, file)
		require.Equal(t, vector.Input.Payload, payload)
		signature, err := key.sign([]byte(vector.Signing.Input))
		require.NoError(t, err)
		if vector.Reproducible {
			require.Equal(t, vector.Signing.Signature, encode(signature), file)
		}
	}
}

// TestRFC7515 holds the vectors of appendix A.1 (HS256) and A.3 (ES256).
func TestRFC7515(t *testing.T) {
	const payload = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
	for jwk, token := range map[string]string{
		`{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}`:                                                                       "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9." + payload + ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
		`{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}`: "eyJhbGciOiJFUzI1NiJ9." + payload + ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
	} {
		key, err := parseJWK([]byte(jwk))
		require.NoError(t, err)
		_, ok := verifyCompact(key, token)
		require.True(t, ok, key.alg)
	}
}
