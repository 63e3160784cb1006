package tokens

import (
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// TestAttackList: forged tokens for a Ring and a Verifier of each kind of key, and the error for
// each, which goes to the event hook.
//
// Conformance 98, 100, 102, 103, 104, 105, 107, 108, 109.
func TestAttackList(t *testing.T) {
	for _, alg := range []string{"RS256", "PS256", "ES256", "EdDSA", "HS256"} {
		t.Run(alg, func(t *testing.T) {
			r, clock := newRing(t, string(newKeys()[alg]))
			key := r.state.Load().signer
			good, _, err := r.Issue(t.Context(), oauth2pw.Principal{Subject: "42", Scope: "me"})
			require.NoError(t, err)
			head, rest, _ := strings.Cut(good, ".")
			body, signature, _ := strings.Cut(rest, ".")
			verifiers := []oauth2pw.TokenVerifier{r}
			if key.jwk != nil {
				verifiers = append(verifiers, newVerifier(t, r))
			}
			refused := func(what, token, says string) {
				t.Helper()
				for _, v := range verifiers {
					_, err := v.Verify(t.Context(), token)
					require.ErrorIs(t, err, oauth2pw.ErrInvalidToken, what)
					require.ErrorContains(t, err, says, what)
					require.NotContains(t, err.Error(), body, "the error shows the token")
					requireShort(t, err)
				}
			}
			accepted := func(token string) {
				t.Helper()
				for _, v := range verifiers {
					_, err := v.Verify(t.Context(), token)
					require.NoError(t, err, "the base of the others is good")
				}
			}
			header := func(text string) string { return encode([]byte(text)) }
			ours := fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":"at+jwt"}`, alg, key.kid)
			signed := func(header, body string) string {
				s, err := key.sign([]byte(header + "." + body))
				require.NoError(t, err)
				return header + "." + body + "." + encode(s)
			}
			require.Equal(t, head, header(ours))
			accepted(signed(head, body))

			const noHeader = "not a header of this issuer"
			for _, none := range []string{"none", "None", "NONE", "nOnE"} {
				refused(none, header(strings.Replace(ours, alg, none, 1))+"."+body+".", noHeader)
				refused(none, header(strings.Replace(ours, alg, none, 1))+"."+body+"."+signature, noHeader)
			}
			for what, edit := range map[string]string{
				"jku":           `"jku":"https://evil.example/jwks",`,
				"jwk":           `"jwk":` + string(withDefaultJWK(key.jwk)) + `,`,
				"x5u":           `"x5u":"https://evil.example/cert",`,
				"x5c":           `"x5c":["MIIB"],`,
				"crit":          `"crit":["exp"],"exp":1,`,
				"b64":           `"b64":false,"crit":["b64"],`,
				"duplicate alg": `"alg":"none",`,
				"a space":       ` `,
			} {
				refused(what, signed(header(strings.Replace(ours, "{", "{"+edit, 1)), body), noHeader)
			}
			for what, text := range map[string]string{
				"kid that walks: an unknown key id":                                strings.Replace(ours, key.kid, "../../dev/null", 1),
				"kid with SQL: an unknown key id":                                  strings.Replace(ours, key.kid, "' OR 1=1 --", 1),
				"kid of another: an unknown key id":                                strings.Replace(ours, key.kid, "other", 1),
				"no kid: an unknown key id":                                        strings.Replace(ours, fmt.Sprintf(`"kid":%q,`, key.kid), "", 1),
				"ID token: has typ JWT, want at+jwt":                               strings.Replace(ours, "at+jwt", "JWT", 1),
				"another spelling: has typ application/at+jwt, want at+jwt":        strings.Replace(ours, "at+jwt", "application/at+jwt", 1),
				"no typ: has no typ, want at+jwt":                                  strings.Replace(ours, `,"typ":"at+jwt"`, "", 1),
				"another algorithm: has alg HS512, want " + alg:                    strings.Replace(ours, alg, "HS512", 1),
				"long: not a header":                                               strings.Replace(ours, "at+jwt", strings.Repeat("J", 2000), 1),
				"not printable: has typ J?\"???" + strings.Repeat("x", 58) + "...": strings.Replace(ours, "at+jwt", `J\n\"é\u0000`+strings.Repeat("x", 100), 1),
			} {
				_, says, _ := strings.Cut(what, ": ")
				refused(what, signed(header(text), body), noHeader)
				refused(what, signed(header(text), body), says)
			}

			// HMAC, keyed with what everybody knows of the key.
			public := [][]byte{nil, []byte(key.kid), key.jwk}
			if key.jwk != nil {
				keys, err := parseJWK(key.jwk)
				require.NoError(t, err)
				der, err := x509.MarshalPKIXPublicKey(keys.raw())
				require.NoError(t, err)
				asPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
				public = append(public, der, asPEM, []byte(strings.TrimSpace(string(asPEM))))
			}
			for _, secret := range public {
				for _, h := range []string{head, header(strings.Replace(ours, alg, "HS256", 1))} {
					mac := hmac.New(sha256.New, secret)
					mac.Write([]byte(h + "." + body))
					refused("keyed with what is public", h+"."+body+"."+encode(mac.Sum(nil)), "")
				}
			}

			// Encodings and shapes.
			for what, token := range map[string]string{
				"nothing": "", "one part": head, "four parts": good + ".x", "five parts": good + "..", "six parts": "a.b.c.d.e.f",
				"two parts": head + "." + body, "no signature": head + "." + body + ".", "no payload": head + ".." + signature,
				"padding": good + "=", "a space before": " " + good, "a space behind": good + " ", "a tab": head + "." + body + ".\t" + signature,
				"a line end": head + "." + body + "." + signature + "\n", "a line end in the payload": head + "." + body[:8] + "\n" + body[8:] + "." + signature,
				"standard base64": head + "." + body + "." + strings.NewReplacer("-", "+", "_", "/").Replace(signature) + "+",
				"JSON":            `{"payload":"` + body + `","protected":"` + head + `","signature":"` + signature + `"}`,
				"1 MiB":           head + "." + strings.Repeat("x", 1<<20) + "." + signature,
				"a refresh token": "rt1." + strings.Repeat("A", 75),
				"swapped":         body + "." + head + "." + signature,
			} {
				refused(what, token, "")
			}

			// Rightly signed, and not one of ours.
			claims := func(edits ...string) string {
				base := fmt.Sprintf(`{"iss":"https://api.example.com","sub":"42","aud":"api","exp":%d,"iat":%d,"jti":"x"}`, clock.now.Unix()+900, clock.now.Unix())
				return encode([]byte(strings.NewReplacer(edits...).Replace(base)))
			}
			accepted(signed(head, claims()))
			for _, test := range []struct{ what, edit, to, says string }{
				{"issuer", "api.example.com", "other.example.com", "has issuer https://other.example.com, want https://api.example.com"},
				{"audience", `"api"`, `"account"`, "has audience account, want api"},
				{"no issuer", `"iss":"https://api.example.com",`, "", "has no issuer, want https://api.example.com"},
				{"duplicate", `"jti"`, `"sub":"1","jti"`, "duplicate"},
				{"escaped duplicate", `"jti"`, `"\u0073ub":"1","jti"`, "duplicate"},
				{"bound to a key", `"jti"`, `"cnf":{"jkt":"x"},"jti"`, "cnf"},
				{"no subject", `"42"`, `""`, "no subject"},
				{"nested subject", `"42"`, `{"sub":"42"}`, "wrong type"},
				{"expiry", `"exp":`, `"exp":-`, "out of range"},
				{"expiry as text", `"exp":`, `"exp":"1","x":`, "wrong type"},
				{"expiry as float", `"exp":`, `"exp":1e300,"x":`, "wrong type"},
				{"nested deeply", `"jti"`, `"a":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `,"jti"`, "nested"},
				{"trailing data", `"x"}`, `"x"}{}`, "no JSON object"},
			} {
				refused(test.what, signed(head, claims(test.edit, test.to)), test.says)
			}
			refused("flipped", head+"."+encode([]byte(strings.Replace(string(mustDecode(t, body)), `"42"`, `"43"`, 1)))+"."+signature, "wrong signature")
		})
	}
}

// requireShort: what a token says is shown cut, and as printable ASCII.
func requireShort(t testing.TB, err error) {
	t.Helper()
	require.Less(t, len(err.Error()), 512)
	require.NotRegexp(t, `[^ -~]`, err.Error())
}

func withDefaultJWK(jwk json.RawMessage) json.RawMessage {
	if jwk == nil {
		return json.RawMessage(`{"kty":"oct","k":"AAAA"}`)
	}
	return jwk
}

func mustDecode(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64url.DecodeString(s)
	require.NoError(t, err)
	return b
}

// TestConformance106Signatures: ES256 is r and s of 32 bytes each, in range.
func TestConformance106Signatures(t *testing.T) {
	r, _ := newRing(t, string(newKeys()["ES256"]))
	good, _, err := r.Issue(t.Context(), oauth2pw.Principal{Subject: "42"})
	require.NoError(t, err)
	i := strings.LastIndexByte(good, '.')
	raw := mustDecode(t, good[i+1:])
	require.Len(t, raw, 64)
	x, y := new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])
	n := r.state.Load().signer.raw().(*ecdsa.PrivateKey).Params().N
	der, err := asn1.Marshal(struct{ R, S *big.Int }{x, y})
	require.NoError(t, err)
	pair := func(a, b *big.Int) []byte {
		out := make([]byte, 64)
		a.FillBytes(out[:32])
		b.FillBytes(out[32:])
		return out
	}
	zero := new(big.Int)
	for what, signature := range map[string][]byte{
		"DER": der, "r zero": pair(zero, y), "s zero": pair(x, zero), "both zero": pair(zero, zero),
		"r is n": pair(n, y), "s is n": pair(x, n), "both n": pair(n, n),
		"short": raw[:63], "long": append(append([]byte{}, raw...), 0), "empty": {}, "96 bytes": append(append([]byte{}, raw...), raw[:32]...),
	} {
		_, err := r.Verify(t.Context(), good[:i+1]+encode(signature))
		require.ErrorIs(t, err, oauth2pw.ErrInvalidToken, what)
	}
}
