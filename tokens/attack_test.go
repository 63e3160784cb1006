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
	"time"

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
			a := newAttack(t, alg)
			a.noneAndForeignKeys()
			a.otherHeaders()
			a.keyedWithThePublic()
			a.shapes()
			a.claims()
		})
	}
}

// attack has a good token, in parts, and the verifiers that accept it.
type attack struct {
	*testing.T
	alg                         string
	key                         *ringKey
	now                         time.Time
	verifiers                   []oauth2pw.TokenVerifier
	text                        string // of the header
	good, head, body, signature string
}

const noHeader = "not a header of this issuer"

func newAttack(t *testing.T, alg string) *attack {
	r, clock := newRing(t, string(newKeys()[alg]))
	a := &attack{T: t, alg: alg, key: r.state.Load().signer, now: clock.now, verifiers: []oauth2pw.TokenVerifier{r}}
	if a.key.jwk != nil {
		a.verifiers = append(a.verifiers, newVerifier(t, r))
	}
	var err error
	a.good, _, err = r.Issue(t.Context(), oauth2pw.Principal{Subject: "42", Scope: "me"})
	require.NoError(t, err)
	var rest string
	a.head, rest, _ = strings.Cut(a.good, ".")
	a.body, a.signature, _ = strings.Cut(rest, ".")
	a.text = fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":"at+jwt"}`, alg, a.key.kid)
	require.Equal(t, a.head, encode([]byte(a.text)))
	a.accepted(a.signed(a.head, a.body))
	return a
}

func (a *attack) signed(header, body string) string {
	s, err := a.key.sign([]byte(header + "." + body))
	require.NoError(a, err)
	return header + "." + body + "." + encode(s)
}

// header returns the encoded header with one edit.
func (a *attack) header(from, to string) string {
	return encode([]byte(strings.Replace(a.text, from, to, 1)))
}

func (a *attack) accepted(token string) {
	a.Helper()
	for _, v := range a.verifiers {
		_, err := v.Verify(a.Context(), token)
		require.NoError(a, err, "the base of the others is good")
	}
}

func (a *attack) refused(what, token string, says ...string) {
	a.Helper()
	for _, v := range a.verifiers {
		_, err := v.Verify(a.Context(), token)
		require.ErrorIs(a, err, oauth2pw.ErrInvalidToken, what)
		for _, s := range says {
			require.ErrorContains(a, err, s, what)
		}
		require.NotContains(a, err.Error(), a.body, "the error shows the token")
		requireShort(a, err)
	}
}

func (a *attack) noneAndForeignKeys() {
	for _, none := range []string{"none", "None", "NONE", "nOnE"} {
		a.refused(none, a.header(a.alg, none)+"."+a.body+".", noHeader, "has alg "+none+", want "+a.alg)
		a.refused(none, a.header(a.alg, none)+"."+a.body+"."+a.signature, noHeader)
	}
	for what, edit := range map[string]string{
		"jku":           `"jku":"https://evil.example/jwks",`,
		"jwk":           `"jwk":` + string(withDefaultJWK(a.key.jwk)) + `,`,
		"x5u":           `"x5u":"https://evil.example/cert",`,
		"x5c":           `"x5c":["MIIB"],`,
		"crit":          `"crit":["exp"],"exp":1,`,
		"b64":           `"b64":false,"crit":["b64"],`,
		"duplicate alg": `"alg":"none",`,
		"a space":       ` `,
	} {
		a.refused(what, a.signed(a.header("{", "{"+edit), a.body), noHeader)
	}
}

func (a *attack) otherHeaders() {
	for _, test := range []struct{ what, from, to, says string }{
		{"kid that walks", a.key.kid, "../../dev/null", "an unknown key id"},
		{"kid with SQL", a.key.kid, "' OR 1=1 --", "an unknown key id"},
		{"kid of another", a.key.kid, "other", "an unknown key id"},
		{"no kid", fmt.Sprintf(`"kid":%q,`, a.key.kid), "", "an unknown key id"},
		{"ID token", "at+jwt", "JWT", "has typ JWT, want at+jwt"},
		{"another spelling", "at+jwt", "application/at+jwt", "has typ application/at+jwt, want at+jwt"},
		{"no typ", `,"typ":"at+jwt"`, "", "has no typ, want at+jwt"},
		{"another algorithm", a.alg, "HS512", "has alg HS512, want " + a.alg},
		{"long", "at+jwt", strings.Repeat("J", 2000), noHeader + ": invalid token"}, // and not read
		{"not printable", "at+jwt", `J\n\"é\u0000` + strings.Repeat("x", 100), `has typ J?"???` + strings.Repeat("x", 58) + "..., want"},
	} {
		a.refused(test.what, a.signed(a.header(test.from, test.to), a.body), noHeader, test.says)
	}
}

// keyedWithThePublic: HMAC, keyed with what everybody knows of the key.
func (a *attack) keyedWithThePublic() {
	public := [][]byte{nil, []byte(a.key.kid), a.key.jwk}
	if a.key.jwk != nil {
		keys, err := parseJWK(a.key.jwk)
		require.NoError(a, err)
		der, err := x509.MarshalPKIXPublicKey(keys.raw())
		require.NoError(a, err)
		asPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
		public = append(public, der, asPEM, []byte(strings.TrimSpace(string(asPEM))))
	}
	for _, secret := range public {
		for _, h := range []string{a.head, a.header(a.alg, "HS256")} {
			mac := hmac.New(sha256.New, secret)
			mac.Write([]byte(h + "." + a.body))
			a.refused("keyed with what is public", h+"."+a.body+"."+encode(mac.Sum(nil)))
		}
	}
}

// shapes: other encodings, and other numbers of parts.
func (a *attack) shapes() {
	good, head, body, signature := a.good, a.head, a.body, a.signature
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
		a.refused(what, token)
	}
}

// claims: rightly signed, and not a token of the Ring.
func (a *attack) claims() {
	claims := func(edits ...string) string {
		base := fmt.Sprintf(`{"iss":"https://api.example.com","sub":"42","aud":"api","exp":%d,"iat":%d,"jti":"x"}`, a.now.Unix()+900, a.now.Unix())
		return encode([]byte(strings.NewReplacer(edits...).Replace(base)))
	}
	a.accepted(a.signed(a.head, claims()))
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
		a.refused(test.what, a.signed(a.head, claims(test.edit, test.to)), test.says)
	}
	flipped := encode([]byte(strings.Replace(string(mustDecode(a.T, a.body)), `"42"`, `"43"`, 1)))
	a.refused("flipped", a.head+"."+flipped+"."+a.signature, "wrong signature")
}

// requireShort: an error shows the values of a token cut, and as printable ASCII.
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
