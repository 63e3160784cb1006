package oauth2pw_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// TestConformance: which forms the token endpoint takes.
func TestConformance(t *testing.T) {
	a := newApp(t)
	long := strings.Repeat("x", 1025)
	for _, test := range []struct {
		name    string // the number of the line, and the case
		target  string // beside /token
		body    string
		headers []string // instead of the form type
		status  int
		code    string
	}{
		{name: "2_charset", body: login, headers: []string{"Content-Type: Application/X-WWW-Form-URLEncoded ; charset=UTF-8; x"}, status: 200},
		{name: "3_json", body: `{"grant_type":"password","username":"johndoe","password":"secret"}`, headers: []string{"Content-Type: application/json"}, status: 400, code: "invalid_request"},
		{name: "3_text", body: login, headers: []string{"Content-Type: text/plain"}, status: 400, code: "invalid_request"},
		{name: "3_multipart", body: login, headers: []string{"Content-Type: multipart/form-data; boundary=x"}, status: 400, code: "invalid_request"},
		{name: "3_none", body: login, headers: []string{"X-None: x"}, status: 400, code: "invalid_request"},
		{name: "3_two_types", body: login, headers: []string{formType, "Content-Type: application/json"}, status: 400, code: "invalid_request"},
		{name: "4_query_only", target: "?" + login, status: 400, code: "invalid_request"},
		{name: "4_query_password", target: "?password=secret", body: login, status: 400, code: "invalid_request"},
		{name: "4_query_client_id", target: "?client_id=webapp", body: login, status: 400, code: "invalid_request"},
		{name: "4_query_client_secret", target: "?a=b&client_secret=", body: login, status: 400, code: "invalid_request"},
		{name: "4_query_refresh_token", target: "?refresh_token=x", body: login, status: 400, code: "invalid_request"},
		{name: "4_query_escaped", target: "?%70assword=secret", body: login, status: 400, code: "invalid_request"},
		{name: "4_query_semicolon", target: "?a=b;password=secret", body: login, status: 400, code: "invalid_request"},
		{name: "5_missing", body: "username=johndoe&password=secret", status: 400, code: "invalid_request"},
		{name: "5_no_body", status: 400, code: "invalid_request"},
		{name: "6_foo", body: "grant_type=foo&username=johndoe&password=secret", status: 400, code: "unsupported_grant_type"},
		{name: "6_upper_case", body: "grant_type=PASSWORD&username=johndoe&password=secret", status: 400, code: "unsupported_grant_type"},
		{name: "6_trailing_space", body: "grant_type=password+&username=johndoe&password=secret", status: 400, code: "unsupported_grant_type"},
		{name: "6_suffix", body: "grant_type=passwordx&username=johndoe&password=secret", status: 400, code: "unsupported_grant_type"},
		{name: "6_newline", body: "grant_type=password%0A&username=johndoe&password=secret", status: 400, code: "unsupported_grant_type"},
		{name: "7_no_username", body: "grant_type=password&password=secret", status: 400, code: "invalid_request"},
		{name: "7_no_password", body: "grant_type=password&username=johndoe", status: 400, code: "invalid_request"},
		{name: "8_empty_username", body: "grant_type=password&username=&password=secret", status: 400, code: "invalid_request"},
		{name: "8_empty_scope", body: login + "&scope=", status: 200},
		{name: "8_empty_client", body: login + "&client_id=&client_secret=", status: 200},
		{name: "8_empty_grant_type", body: "grant_type=&username=johndoe&password=secret", status: 400, code: "invalid_request"},
		{name: "9_grant_type", body: login + "&grant_type=password", status: 400, code: "invalid_request"},
		{name: "9_username", body: login + "&username=johndoe", status: 400, code: "invalid_request"},
		{name: "9_password", body: login + "&password=other", status: 400, code: "invalid_request"},
		{name: "9_scope", body: login + "&scope=me&scope=me", status: 400, code: "invalid_request"},
		{name: "9_client_id", body: login + "&client_id=webapp&client_id=webapp", status: 400, code: "invalid_request"},
		{name: "9_client_secret", body: login + "&client_secret=a&client_secret=a", status: 400, code: "invalid_request"},
		{name: "9_refresh_token", body: login + "&refresh_token=a&refresh_token=a", status: 400, code: "invalid_request"},
		{name: "9_token", body: login + "&token=a&token=a", status: 400, code: "invalid_request"},
		{name: "9_token_type_hint", body: login + "&token_type_hint=a&token_type_hint=b", status: 400, code: "invalid_request"},
		{name: "9_empty_repeat", body: login + "&username=", status: 400, code: "invalid_request"},
		{name: "9_escaped_name", body: login + "&%75sername=johndoe", status: 400, code: "invalid_request"},
		{name: "10_unknown", body: login + "&foo=bar", status: 200},
		{name: "10_unknown_repeated", body: login + "&foo=bar&foo=baz", status: 200},
		{name: "11_too_large", body: login + "&x=" + strings.Repeat("x", 64<<10), status: 413, code: "invalid_request"},
		{name: "11_just_fits", body: login + "&x=" + strings.Repeat("x", 64<<10-len(login)-3), status: 200},
		{name: "11_one_more", body: login + "&x=" + strings.Repeat("x", 64<<10-len(login)-2), status: 413, code: "invalid_request"},
		{name: "11_too_many", body: login + strings.Repeat("&x=1", 300), status: 400, code: "invalid_request"},
		{name: "12_bad_escape", body: "grant_type=password&username=johndoe&password=%zz", status: 400, code: "invalid_request"},
		{name: "12_cut_escape", body: "grant_type=password&username=johndoe&password=secret%2", status: 400, code: "invalid_request"},
		{name: "12_bad_escape_elsewhere", body: login + "&foo=%zz", status: 400, code: "invalid_request"},
		{name: "12_not_utf8", body: "grant_type=password&username=johndoe&password=%ff", status: 400, code: "invalid_request"},
		{name: "12_not_utf8_username", body: "grant_type=password&username=%c3%28&password=secret", status: 400, code: "invalid_request"},
		{name: "12_semicolon", body: "grant_type=password&username=johndoe;password=secret", status: 400, code: "invalid_request"},
		{name: "14_case", body: "grant_type=password&username=JohnDoe&password=secret", status: 400, code: "invalid_grant"},
		{name: "14_space", body: "grant_type=password&username=johndoe+&password=secret", status: 400, code: "invalid_grant"},
		{name: "15_query_kept", target: "?tenant=a", body: login, status: 200},
		{name: "26_nul_in_name", body: "grant_type=password&username=john%00doe&password=secret", status: 400, code: "invalid_grant"},
		{name: "26_no_password_set", body: "grant_type=password&username=nopassword&password=secret", status: 400, code: "invalid_grant"},
		{name: "26_unreadable_hash", body: "grant_type=password&username=broken&password=secret", status: 400, code: "invalid_grant"},
		{name: "119_long_password", body: "grant_type=password&username=johndoe&password=" + long, status: 400, code: "invalid_grant"},
	} {
		t.Run(test.name, func(t *testing.T) {
			headers := test.headers
			if headers == nil {
				headers = []string{formType}
			}
			got := a.do("POST", "/token"+test.target, test.body, headers...)
			if test.status == 200 {
				require.Equal(t, 200, got.StatusCode, got.body)
				return
			}
			got.isError(t, test.status, test.code)
		})
	}
}

// TestConformanceRequests: methods, sizes, and the password as it was sent.
func TestConformanceRequests(t *testing.T) {
	t.Run("1_methods", func(t *testing.T) {
		a := newApp(t)
		for _, method := range []string{"GET", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"} {
			got := a.do(method, "/token?"+login, login, formType)
			require.Equal(t, 405, got.StatusCode, method)
			require.Equal(t, "POST", got.Header.Get("Allow"))
			if method != "HEAD" {
				got.isError(t, 405, "invalid_request")
			}
		}
		require.Zero(t, a.hasher.take())
	})

	t.Run("11_before_any_hashing", func(t *testing.T) {
		a := newApp(t)
		a.post(login+"&x="+strings.Repeat("x", 64<<10)).isError(t, 413, "invalid_request")
		// Chunked: no Content-Length tells.
		r := post(login + "&x=" + strings.Repeat("x", 1<<20))
		r.ContentLength = -1
		a.serve(r).isError(t, 413, "invalid_request")
		require.Zero(t, a.hasher.take())
	})

	t.Run("13_password_as_received", func(t *testing.T) {
		a := newApp(t)
		for i, password := range []string{" secret ", "a+b c%20", "nul\x00nul", "🔑 pass", strings.Repeat("long", 256), "a;b&c=d", "\t\r\n"} {
			name := fmt.Sprint("user", i)
			require.NoError(t, a.users.Add(context.Background(), oauth2pw.User{ID: name, Username: name, PasswordHash: oauth2pw.Secret("new:" + password)}))
			form := url.Values{"grant_type": {"password"}, "username": {name}, "password": {password}}
			require.Equal(t, 200, a.post(form.Encode()).StatusCode, "%q", password)
			form.Set("password", strings.TrimSpace(password)+"x")
			a.post(form.Encode()).isError(t, 400, "invalid_grant")
		}
	})
}

// TestConformanceSuccess: a correct password gets tokens.
func TestConformanceSuccess(t *testing.T) {
	t.Run("16_17_18_19_23_success", func(t *testing.T) {
		a := newApp(t)
		got := a.post(login + "&scope=items+me+items")
		require.Equal(t, 200, got.StatusCode, got.body)
		require.Equal(t, "application/json", got.Header.Get("Content-Type"))
		require.Equal(t, "no-store", got.Header.Get("Cache-Control"))
		require.Equal(t, "no-cache", got.Header.Get("Pragma"))
		require.Empty(t, got.Header.Values("Set-Cookie"))
		require.Empty(t, got.Header.Get("Location"))
		require.Regexp(t, regexp.MustCompile(`^[A-Za-z0-9._~+/-]+=*$`), got.json["access_token"])
		require.Equal(t, "bearer", got.json["token_type"])
		require.Equal(t, 900.0, got.json["expires_in"])
		require.Equal(t, "items me", got.json["scope"])
		require.Len(t, got.json, 4)

		// expires_in is the real lifetime.
		token := got.json["access_token"].(string)
		a.clock.Advance(900*time.Second - 1)
		require.Equal(t, 200, a.get("/me", token).StatusCode)
		a.clock.Advance(time.Second + 1)
		a.get("/me", token).isError(t, 401, "invalid_token")

		require.Equal(t, "me", a.post(login).json["scope"], "the default scopes are named too")
	})

	t.Run("20_21_tokens_differ", func(t *testing.T) {
		a := newApp(t)
		seen := map[string]bool{}
		for range 100 {
			p, err := a.ring.Verify(t.Context(), a.token(""))
			require.NoError(t, err)
			raw, err := base64.RawURLEncoding.DecodeString(p.TokenID)
			require.NoError(t, err)
			require.GreaterOrEqual(t, len(raw), 20, "160 bits")
			require.False(t, seen[p.TokenID])
			seen[p.TokenID] = true
		}
	})
}

// TestConformanceErrors: every refusal is a JSON error; equal ones for unknown, disabled and wrong.
func TestConformanceErrors(t *testing.T) {
	t.Run("24_25_no_echo", func(t *testing.T) {
		a := newApp(t)
		for _, form := range []string{
			"grant_type=a%22b%0d%0aX", login + "&scope=%22%5c%0d%0aX", login + "&client_id=%22%0d%0aX&client_secret=%5c",
			"grant_type=password&username=%22%0d%0aX&password=%5c",
		} {
			got := a.post(form)
			require.GreaterOrEqual(t, got.StatusCode, 400)
			for _, member := range []string{"error", "error_description"} {
				require.Regexp(t, `^[\x20-\x21\x23-\x5b\x5d-\x7e]+$`, got.json[member])
			}
			require.NotContains(t, got.body+fmt.Sprint(got.Header), "X\"")
			require.Empty(t, got.Header.Get("X"))
		}
	})

	t.Run("26_27_unknown_disabled_wrong", func(t *testing.T) {
		a := newApp(t)
		const deny = `{"error":"invalid_grant","error_description":"The credentials are wrong."}`
		for name, form := range map[string]string{
			"unknown":         "username=nobody&password=secret",
			"wrong":           "username=johndoe&password=wrong",
			"disabled, right": "username=alice&password=secret2",
			"disabled, wrong": "username=alice&password=wrong",
			"unreadable":      "username=broken&password=x",
			"no password":     "username=nopassword&password=x",
			"too long":        "username=johndoe&password=" + strings.Repeat("x", 1025),
			"NUL":             "username=john%00doe&password=secret",
		} {
			a.hasher.take()
			got := a.post("grant_type=password&" + form)
			got.isError(t, 400, "invalid_grant")
			got.Header.Del("Date")
			require.Equal(t, deny, got.body, name)
			require.Equal(t, http.Header{
				"Content-Type": {"application/json"}, "Cache-Control": {"no-store"}, "Pragma": {"no-cache"},
				"Content-Length": {fmt.Sprint(len(deny))},
			}, got.Header, name)
			require.Equal(t, 1, a.hasher.take(), "verifications for %s", name)
		}
	})

	t.Run("27_the_dummy_is_verified", func(t *testing.T) {
		a := newApp(t)
		for _, form := range []string{"username=alice&password=secret2", "username=nobody&password=x", "username=nopassword&password=x"} {
			a.post("grant_type=password&"+form).isError(t, 400, "invalid_grant")
		}
		require.Equal(t, []string{"", "", ""}, a.hasher.verified)
	})

	t.Run("26_no_store_is_asked_for_a_NUL", func(t *testing.T) {
		// As PostgreSQL does, this store fails for one: an answer of 503 would
		// tell such names from others.
		a := newApp(t, func(c *oauth2pw.Config) { c.Users = noNUL{c.Users} })
		a.post("grant_type=password&username=john%00doe&password=secret").isError(t, 400, "invalid_grant")
		require.Equal(t, 1, a.hasher.take())
	})

	t.Run("28_order", func(t *testing.T) {
		a := newApp(t)
		a.post(login+"&client_id=nobody").isError(t, 400, "invalid_client")
		a.post(login, basic("backend", "wrong")).isError(t, 401, "invalid_client")
		a.post("grant_type=foo&client_id=nobody").isError(t, 400, "invalid_client")
		a.post("grant_type=password&client_id=webapp&scope=%22").isError(t, 400, "invalid_request")
		a.post("grant_type=password&username=johndoe&password=wrong&scope=%22").isError(t, 400, "invalid_scope")
		require.Zero(t, a.hasher.take(), "all of that before any password is looked at")
		a.post("grant_type=password&username=johndoe&password=wrong&scope=admin").isError(t, 400, "invalid_grant")
		a.post("grant_type=password&username=johndoe&password=wrong&scope=unknown").isError(t, 400, "invalid_grant")
		a.post(login+"&scope=unknown").isError(t, 400, "invalid_scope")
	})

	t.Run("29_unauthorized_client", func(t *testing.T) {
		a := newApp(t)
		a.post(login, basic("reports", "reports-secret")).isError(t, 400, "unauthorized_client")
		require.Zero(t, a.hasher.take())
	})
}

type noNUL struct{ oauth2pw.UserStore }

func (s noNUL) UserByName(ctx context.Context, name string) (*oauth2pw.User, error) {
	if strings.Contains(name, "\x00") {
		return nil, errors.New("invalid byte sequence for encoding UTF8: 0x00")
	}
	return s.UserStore.UserByName(ctx, name)
}

// TestConformanceScope holds the lines about scope.
func TestConformanceScope(t *testing.T) {
	a := newApp(t)
	for _, test := range []struct {
		name, scope, client string
		granted             string // "": refused
	}{
		{name: "44_quote", scope: "me%22"},
		{name: "44_backslash", scope: "me%5c"},
		{name: "44_control", scope: "me%01"},
		{name: "44_not_ascii", scope: "m%C3%A9"},
		{name: "44_tab", scope: "me%09items"},
		{name: "44_newline", scope: "me%0aitems"},
		{name: "44_double_space", scope: "me++items"},
		{name: "44_leading_space", scope: "+me"},
		{name: "44_trailing_space", scope: "me+"},
		{name: "44_only_space", scope: "+"},
		{name: "45_case", scope: "Me"},
		{name: "45_order", scope: "items+me", granted: "items me"},
		{name: "45_duplicates", scope: "me+items+me", granted: "me items"},
		{name: "46_unknown", scope: "me+unknown"},
		{name: "46_not_the_users", scope: "me+admin"},
		{name: "46_not_the_clients", scope: "me+items", client: "narrow"},
		{name: "46_the_clients", scope: "me", client: "narrow", granted: "me"},
		{name: "47_default", granted: "me"},
	} {
		t.Run(test.name, func(t *testing.T) {
			form := login + "&scope=" + test.scope
			if test.client != "" {
				form += "&client_id=" + test.client
			}
			got := a.post(form)
			if test.granted == "" {
				got.isError(t, 400, "invalid_scope")
				return
			}
			require.Equal(t, 200, got.StatusCode, got.body)
			require.Equal(t, test.granted, got.json["scope"])
			p, err := a.ring.Verify(t.Context(), got.json["access_token"].(string))
			require.NoError(t, err)
			require.Equal(t, test.granted, p.Scope)
		})
	}
}
