package oauth2pw

import (
	"encoding/binary"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// FuzzForm: no body panics, and what is accepted is what url.ParseQuery reads.
func FuzzForm(f *testing.F) {
	for _, seed := range []string{
		"grant_type=password&username=johndoe&password=secret", "a=b&a=c", "=&=&", "%zz=1", "a=%ff", "a;b=c", "a+b=%2B&&", "scope=%20", "password", "\x00=\x00",
	} {
		f.Add(seed, "")
	}
	f.Add("grant_type=password", "password=x")
	f.Add("", "%70assword;a=b")
	f.Fuzz(func(t *testing.T, body, query string) {
		r := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader(body))
		r.URL.RawQuery = query
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		got, err := readForm(r, false)
		if err != nil {
			return
		}
		for _, name := range oauthParams {
			if u, err := url.ParseQuery(query); err == nil && u.Has(name) {
				t.Fatalf("%s stands in the query %q", name, query)
			}
		}
		want, err := url.ParseQuery(strings.ReplaceAll(body, ";", "%3B"))
		if err != nil {
			t.Fatalf("readForm took %q, url.ParseQuery says %v", body, err)
		}
		n := 0
		for name, values := range want {
			n += len(values)
			if slices.Contains(oauthParams, name) && len(values) != 1 {
				t.Fatalf("%s is repeated in %q", name, body)
			}
			if len(values) == 1 && got.get(name) != values[0] {
				t.Fatalf("%q: %s is %q, want %q", body, name, got.get(name), values[0])
			}
		}
		if n != len(got) {
			t.Fatalf("%q has %d parameters, want %d", body, len(got), n)
		}
	})
}

// FuzzAuthorization: no header panics, either way it is read.
func FuzzAuthorization(f *testing.F) {
	for _, seed := range []string{"", "Bearer", "Bearer ", "Bearer x", "bearer  x==", "Basic", "Basic Og==", "Basic YTpi", "Basic YSUzQTpi", "Basic !!", "B", " ", "Bearer\tx"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		token, err := bearerToken([]string{header})
		if err == nil && token != "" && (!isB64Token(token) || !strings.HasSuffix(header, token)) {
			t.Fatalf("%q: token %q", header, token)
		}
		if err != nil && token != "" {
			t.Fatalf("%q: a token %q and an error", header, token)
		}
		named, err := basicCredentials([]string{header})
		if err != nil && named != nil {
			t.Fatalf("%q: credentials and an error", header)
		}
		for _, c := range named {
			if c.id == "" && c.secret == "" {
				t.Fatalf("%q: empty credentials", header)
			}
		}
	})
}

// FuzzForwarded: no forwarding header panics, and an address that comes out is one.
func FuzzForwarded(f *testing.F) {
	f.Add(`for=1.2.3.4;proto=http, for="[2001:db8::1]:1"`)
	f.Add(`for="`)
	f.Add(`1.2.3.4, unknown`)
	f.Fuzz(func(t *testing.T, header string) {
		for _, v := range append(forwardedValues([]string{header}, "for"), listMembers([]string{header})...) {
			if a := parseHop(v); a.Zone() != "" || a.Is4In6() {
				t.Fatalf("%q: %s", v, a)
			}
		}
	})
}

// FuzzRefreshToken: no string panics, and each token has one spelling.
func FuzzRefreshToken(f *testing.F) {
	for _, seed := range []string{"", "rt1.", "rt1." + strings.Repeat("A", 75), "rt1." + strings.Repeat("B", 75), "rt1." + strings.Repeat("B", 73) + "A\n", "rt2." + strings.Repeat("B", 75)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		parsed, ok := parseRefreshToken(s)
		if !ok {
			return
		}
		id, err := base64url.DecodeString(parsed.sessionID)
		if err != nil {
			t.Fatal(err)
		}
		raw := append(binary.BigEndian.AppendUint64(id, parsed.generation), parsed.mac...)
		if again := refreshPrefix + base64url.EncodeToString(raw); again != s {
			t.Fatalf("%q is read as %q", s, again)
		}
	})
}

// FuzzUserAgent: what is kept is short, valid and without control characters.
func FuzzUserAgent(f *testing.F) {
	f.Add("Mozilla/5.0\x00\xff" + strings.Repeat("é", 200))
	f.Fuzz(func(t *testing.T, s string) {
		got := cleanUserAgent(s)
		if len(got) > maxUserAgent || !utf8.ValidString(got) || strings.ContainsFunc(got, unicode.IsControl) {
			t.Fatalf("%q becomes %q", s, got)
		}
	})
}
