package tokens

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

var claimsNow = time.Unix(1_700_000_000, 0)

// kindsOfClaims are the rules of all verifiers, each with a payload that they accept.
func kindsOfClaims() map[string]struct {
	rules *claimRules
	good  map[string]string
} {
	good := func(edits map[string]string) map[string]string {
		m := map[string]string{
			"iss": `"https://x.example"`, "sub": `"42"`, "aud": `"api"`, "exp": `1700000900`, "iat": `1700000000`, "jti": `"x"`,
			"client_id": `"webapp"`, "sid": `"s1"`, "auth_time": `1600000000`, "scope": `"me items"`,
		}
		for name, value := range edits {
			if m[name] = value; value == "" {
				delete(m, name)
			}
		}
		return m
	}
	return map[string]struct {
		rules *claimRules
		good  map[string]string
	}{
		"own":     {ownClaims("https://x.example", "api"), good(nil)},
		"foreign": {foreignClaims(), good(map[string]string{"nbf": `1699999999.5`, "aud": `["other","api"]`})},
		"old":     {legacyClaims, good(map[string]string{"iss": "", "aud": ""})},
	}
}

func foreignClaims() *claimRules {
	return &claimRules{
		issuer: "https://x.example", audience: "api", scopeClaims: []string{"scope"},
		scope: func(theirs []string) string { return strings.Join(theirs, " ") },
	}
}

// object writes members as JSON, in the order of their names.
func object(members map[string]string, more ...string) string {
	var list []string
	for name, value := range members {
		list = append(list, fmt.Sprintf("%q:%s", name, value))
	}
	slices.Sort(list)
	return "{" + strings.Join(append(list, more...), ",") + "}"
}

// TestClaims: every verifier refuses the same wrong types, duplicates, depths and times. Where
// they differ, the table says so.
//
// Conformance 102, 104, 108, 109.
func TestClaims(t *testing.T) {
	deep := strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1)
	anyString := []string{`5`, `null`, `true`, `["x"]`, `{"x":"y"}`}
	anyTime := []string{`"1700000000"`, `null`, `true`, `[1700000000]`, `{}`, `-1`, `1e300`, `253402300800`}
	for kind, k := range kindsOfClaims() {
		t.Run(kind, func(t *testing.T) {
			p, err := k.rules.read(object(k.good), claimsNow)
			require.NoError(t, err)
			require.Equal(t, "42", p.Subject)
			require.Equal(t, "me items", p.Scope)
			require.Equal(t, int64(1_700_000_900), p.ExpiresAt.Unix())
			if kind == "old" {
				require.Empty(t, p.SessionID+p.ClientID+p.TokenID, "the old app's own")
				require.True(t, p.AuthTime.IsZero())
			} else {
				require.Equal(t, "s1 webapp x https://x.example api", strings.Join([]string{p.SessionID, p.ClientID, p.TokenID, p.Issuer, p.Audience}, " "))
				require.Equal(t, int64(1_600_000_000), p.AuthTime.Unix())
			}

			refused := func(payload string) {
				t.Helper()
				p, err := k.rules.read(payload, claimsNow)
				require.Error(t, err, payload)
				require.Equal(t, oauth2pw.Principal{}, p, payload)
			}
			with := func(name, value string) string {
				m := make(map[string]string)
				for n, v := range k.good {
					m[n] = v
				}
				if m[name] = value; value == "" {
					delete(m, name)
				}
				return object(m)
			}
			bad := map[string][]string{
				"iss": append(anyString, `""`, `"https://x.example/"`, `"https://X.example"`),
				"sub": append(anyString, `""`, ``),
				"aud": {`5`, `null`, `true`, `{"api":"api"}`, `""`, `"apis"`, `[]`, `[5]`, `[null]`, `["api",5]`, `["api",["api"]]`, `["other"]`, `[["api"]]`},
				"exp": append(anyTime, ``, `0`, `1699999999`),
				"iat": append(anyTime, `1700000031`),
				"nbf": append(anyTime, `1700000031`),
				"cnf": {`{"jkt":"x"}`, `{}`, `null`, `"x"`},
				"jti": anyString, "client_id": anyString, "sid": anyString, "auth_time": anyTime,
				"scope": {`5`, `null`, `true`, `{"me":1}`, `[5]`, `["me",null]`, `["me",["items"]]`},
			}
			own := map[string][]string{ // what a Ring never writes
				"iss": {``}, "aud": {``, `["api"]`}, "exp": {`1700000900.0`, `17e8`}, "iat": {``, `0`, `1.7e9`}, "auth_time": {`1.6e9`},
				"nbf": {`1700000000`, `0`}, "scope": {`["me"]`},
			}
			foreign := map[string][]string{"iss": {``}, "aud": {``}}
			old := map[string][]string{"iss": {`"https://x.example"`}, "aud": {`"api"`, `["api"]`}, "nbf": {`1700000000`}}
			for name, values := range map[string]map[string][]string{"own": own, "foreign": foreign, "old": old}[kind] {
				bad[name] = append(slices.Clone(bad[name]), values...)
			}
			for name, values := range bad {
				for _, value := range values {
					if kind == "old" && slices.Contains([]string{"jti", "client_id", "sid", "auth_time"}, name) {
						_, err := k.rules.read(with(name, value), claimsNow)
						require.NoError(t, err, "the old app's own: %s", value)
						continue
					}
					refused(with(name, value))
				}
				if value := k.good[name]; value != "" {
					refused(object(k.good, fmt.Sprintf("%q:%s", name, value))) // twice
					refused(object(k.good, fmt.Sprintf(`"\u%04x%s":%s`, name[0], name[1:], value)))
				}
			}
			var many []string
			for i := range maxMembers - len(k.good) {
				many = append(many, fmt.Sprintf(`"x%d":1`, i))
			}
			_, err = k.rules.read(object(k.good, many...), claimsNow)
			require.NoError(t, err)
			refused(object(k.good, append(many, `"y":1`)...))
			for _, more := range []string{`"x":` + deep, `"x":1,"x":1`, `"x":{"y":1,"y"}`, `"x":01`, `"x"`} {
				refused(object(k.good, more))
			}
			for _, payload := range []string{``, `null`, `[]`, `"x"`, object(k.good) + "{}", object(k.good) + "x", "\xff" + object(k.good)} {
				refused(payload)
			}
			_, err = k.rules.read(object(k.good, `"SUB":1`, `"x":{"sub":1,"sub":2}`), claimsNow)
			require.NoError(t, err, "other claims, and other spellings, are left alone")
		})
	}
}

// FuzzClaims: what any of the rules accept, encoding/json reads the same; what the rules for
// the own tokens accept, those for another issuer's tokens accept and read the same.
func FuzzClaims(f *testing.F) {
	for _, k := range kindsOfClaims() {
		f.Add(object(k.good))
		f.Add(object(k.good, `"nbf":1`))
	}
	f.Add(`{"iss":"https:\/\/x.example","sub":"\u0034","aud":["api"],"exp":1.7000009e9,"scope":["me","items  me"]}`)
	f.Fuzz(func(t *testing.T, payload string) {
		var accepted [3]*oauth2pw.Principal
		for i, rules := range []*claimRules{ownClaims("https://x.example", "api"), foreignClaims(), legacyClaims} {
			p, err := rules.read(payload, claimsNow)
			if err != nil {
				continue
			}
			accepted[i] = &p
			var oracle map[string]any
			if err := json.Unmarshal([]byte(payload), &oracle); err != nil {
				t.Fatalf("%q: %v", payload, err)
			}
			if _, bound := oracle["cnf"]; bound || oracle["sub"] != p.Subject || p.Subject == "" {
				t.Fatalf("%q: %+v", payload, p)
			}
			if exp, ok := oracle["exp"].(float64); !ok || int64(exp) != p.ExpiresAt.Unix() || claimsNow.After(p.ExpiresAt.Add(time.Second)) {
				t.Fatalf("%q: %+v", payload, p)
			}
			if iss, _ := oracle["iss"].(string); iss != rules.issuer || p.Issuer != iss || p.Audience != rules.audience {
				t.Fatalf("%q: %+v", payload, p)
			}
			switch aud := oracle["aud"].(type) {
			case string:
				if aud != rules.audience {
					t.Fatalf("%q: %+v", payload, p)
				}
			case []any:
				if rules.exact || !slices.Contains(aud, any(rules.audience)) {
					t.Fatalf("%q: %+v", payload, p)
				}
			case nil:
				if rules.audience != "" {
					t.Fatalf("%q: %+v", payload, p)
				}
			}
		}
		own, foreign, old := accepted[0], accepted[1], accepted[2]
		if own != nil {
			own.Scope = strings.Join(strings.Fields(own.Scope), " ")
			if foreign == nil || *own != *foreign {
				t.Fatalf("%q: %+v, and not %+v", payload, own, foreign)
			}
		}
		if old != nil && (own != nil || foreign != nil) {
			t.Fatalf("%q is a token of two kinds", payload)
		}
	})
}
