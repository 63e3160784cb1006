package oauth2pw_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/tokens"
)

// TestConformanceBearer holds the lines about bearer tokens at the resource.
func TestConformanceBearer(t *testing.T) {
	a := newApp(t)
	me, both := a.token("me"), a.token("me items")
	otherKey, _, err := tokens.NewKey("")
	require.NoError(t, err)
	foreign, err := tokens.New(tokens.Config{Keys: []tokens.Key{otherKey}, Issuer: issuer, Audience: audience, Now: a.clock.Now})
	require.NoError(t, err)
	forged, _, err := foreign.Issue(t.Context(), oauth2pw.Principal{Subject: "u1", Scope: "me"})
	require.NoError(t, err)

	const missing = `Bearer realm="api"`
	for _, test := range []struct {
		name      string
		target    string
		headers   []string
		status    int
		code      string
		challenge string // what the challenge must contain; all of it if it is missing's
	}{
		{name: "61_header", target: "/me", headers: []string{"Authorization: Bearer " + me}, status: 200},
		{name: "61_lower_case", target: "/me", headers: []string{"Authorization: bearer " + me}, status: 200},
		{name: "61_upper_case", target: "/me", headers: []string{"Authorization: BEARER " + me}, status: 200},
		{name: "61_many_spaces", target: "/me", headers: []string{"Authorization: Bearer   " + me}, status: 200},
		{name: "61_tab", target: "/me", headers: []string{"Authorization: Bearer\t" + me}, status: 401, code: "unauthorized", challenge: missing},
		{name: "62_none", target: "/me", status: 401, code: "unauthorized", challenge: missing},
		{name: "62_empty", target: "/me", headers: []string{"Authorization: "}, status: 401, code: "unauthorized", challenge: missing},
		{name: "63_basic", target: "/me", headers: []string{basic("johndoe", "secret")}, status: 401, code: "unauthorized", challenge: missing},
		{name: "64_forged", target: "/me", headers: []string{"Authorization: Bearer " + forged}, status: 401, code: "invalid_token", challenge: `error="invalid_token"`},
		{name: "64_garbage", target: "/me", headers: []string{"Authorization: Bearer x"}, status: 401, code: "invalid_token", challenge: `error="invalid_token"`},
		{name: "65_scope", target: "/items", headers: []string{"Authorization: Bearer " + me}, status: 403, code: "insufficient_scope", challenge: `scope="me items"`},
		{name: "65_scope_nested", target: "/nested", headers: []string{"Authorization: Bearer " + me}, status: 403, code: "insufficient_scope", challenge: `scope="me items"`},
		{name: "65_enough", target: "/items", headers: []string{"Authorization: Bearer " + both}, status: 200},
		{name: "66_nothing", target: "/me", headers: []string{"Authorization: Bearer"}, status: 401, code: "unauthorized", challenge: missing},
		{name: "66_space", target: "/me", headers: []string{"Authorization: Bearer "}, status: 401, code: "unauthorized", challenge: missing},
		{name: "66_two_words", target: "/me", headers: []string{"Authorization: Bearer " + me + " b"}, status: 401, code: "invalid_token", challenge: `error="invalid_token"`},
		{name: "66_comma", target: "/me", headers: []string{"Authorization: Bearer " + me + ",b"}, status: 401, code: "invalid_token", challenge: `error="invalid_token"`},
		{name: "66_not_b64token", target: "/me", headers: []string{"Authorization: Bearer a\"b"}, status: 401, code: "invalid_token", challenge: `error="invalid_token"`},
		{name: "66_padding_only", target: "/me", headers: []string{"Authorization: Bearer =="}, status: 401, code: "invalid_token", challenge: `error="invalid_token"`},
		{name: "66_huge", target: "/me", headers: []string{"Authorization: Bearer " + strings.Repeat("a", 20<<10)}, status: 401, code: "invalid_token", challenge: `error="invalid_token"`},
		{name: "67_two_headers", target: "/me", headers: []string{"Authorization: Bearer " + me, "Authorization: Bearer " + me}, status: 400, code: "invalid_request", challenge: `error="invalid_request"`},
		{name: "67_header_and_query", target: "/me?access_token=" + me, headers: []string{"Authorization: Bearer " + me}, status: 200},
		{name: "68_query", target: "/me?access_token=" + me, status: 401, code: "unauthorized", challenge: missing},
		{name: "71_absent", target: "/optional", status: 200},
		{name: "71_other_scheme", target: "/optional", headers: []string{basic("a", "b")}, status: 200},
		{name: "71_nothing", target: "/optional", headers: []string{"Authorization: Bearer "}, status: 200},
		{name: "71_present", target: "/optional", headers: []string{"Authorization: Bearer " + me}, status: 200},
		{name: "71_bad", target: "/optional", headers: []string{"Authorization: Bearer x"}, status: 401, code: "invalid_token", challenge: `error="invalid_token"`},
		{name: "71_two_headers", target: "/optional", headers: []string{"Authorization: Bearer " + me, "Authorization: Bearer " + me}, status: 400, code: "invalid_request", challenge: `error="invalid_request"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := a.do("GET", test.target, "", test.headers...)
			if test.status == 200 {
				require.Equal(t, 200, got.StatusCode, got.body)
				require.Empty(t, got.Header.Get("WWW-Authenticate"))
				return
			}
			got.isError(t, test.status, test.code)
			challenges := got.Header.Values("WWW-Authenticate")
			require.Len(t, challenges, 1)
			if test.challenge == missing {
				require.Equal(t, missing, challenges[0])
			}
			// 69: each attribute once; 70: no token.
			require.Contains(t, challenges[0], test.challenge)
			for _, attribute := range []string{"realm=", " error=", "error_description=", "scope="} {
				require.LessOrEqual(t, strings.Count(challenges[0], attribute), 1)
			}
			require.NotContains(t, challenges[0]+got.body, me)
		})
	}

	t.Run("68_form", func(t *testing.T) {
		a.do("POST", "/me", "access_token="+me, formType).isError(t, 401, "unauthorized")
	})

	t.Run("69_realm_is_escaped", func(t *testing.T) {
		a := newApp(t, func(c *oauth2pw.Config) { c.Realm = `my "realm" \` })
		require.Equal(t, `Bearer realm="my \"realm\" \\"`, a.do("GET", "/me", "").Header.Get("WWW-Authenticate"))
	})

	t.Run("71_optional_is_anonymous", func(t *testing.T) {
		require.Contains(t, a.do("GET", "/optional", "").body, `"known":false`)
		require.Contains(t, a.get("/optional", me).body, `"known":true`)
	})

	t.Run("73_disabled_or_deleted", func(t *testing.T) {
		a := newApp(t)
		token := a.token("")
		require.Equal(t, 200, a.get("/status", token).StatusCode)
		require.NoError(t, a.users.Update(t.Context(), "u1", func(u *oauth2pw.User) error { u.Disabled = true; return nil }))
		a.get("/status", token).isError(t, 401, "invalid_token")
		require.NoError(t, a.users.Update(t.Context(), "u1", func(u *oauth2pw.User) error { u.Disabled = false; return nil }))
		require.Equal(t, 200, a.get("/status", token).StatusCode)
		require.NoError(t, a.users.Delete(t.Context(), "u1"))
		a.get("/status", token).isError(t, 401, "invalid_token")
	})

	t.Run("73_sessions_from", func(t *testing.T) {
		a := newApp(t)
		token := a.token("")
		a.clock.Advance(100 * time.Millisecond)
		_, err := a.users.UpdatePasswordHash(t.Context(), "u1", "new:secret", "new:secret", a.clock.Now())
		require.NoError(t, err)
		a.get("/status", token).isError(t, 401, "invalid_token")
		// A login within the same second as the change lives.
		require.Equal(t, 200, a.get("/status", a.token("")).StatusCode)
	})
}

// fixed is a verifier that accepts every token as the same principal, and counts.
type fixed struct {
	principal oauth2pw.Principal
	err       error
	calls     int
}

func (f *fixed) Verify(context.Context, string) (oauth2pw.Principal, error) {
	f.calls++
	return f.principal, f.err
}

func TestNestedMiddleware(t *testing.T) {
	subject := func(w http.ResponseWriter, r *http.Request) {
		p, _ := oauth2pw.PrincipalFrom(r.Context())
		_, _ = w.Write([]byte(p.Subject + " " + strings.Join(oauth2pw.RequiredScopes(r.Context()), ",")))
	}
	call := func(t *testing.T, h http.Handler, options ...option) answer {
		t.Helper()
		return serve(t, h, get("/", append(options, with(bearer("x")))...))
	}
	alice := func() *fixed { return &fixed{principal: oauth2pw.Principal{Subject: "alice", Scope: "a b c"}} }

	t.Run("the same verifier is asked once", func(t *testing.T) {
		v := alice()
		h := oauth2pw.RequireBearer(v, "a")(oauth2pw.RequireBearer(v, "b", "a")(oauth2pw.RequireBearer(v, "c")(http.HandlerFunc(subject))))
		require.Equal(t, "alice a,b,c", call(t, h).body)
		require.Equal(t, 1, v.calls)
	})

	t.Run("another verifier is asked too", func(t *testing.T) {
		outer, inner := alice(), &fixed{principal: oauth2pw.Principal{Subject: "bob", Scope: "b"}}
		h := oauth2pw.RequireBearer(outer, "a")(oauth2pw.RequireBearer(inner, "b")(http.HandlerFunc(subject)))
		require.Equal(t, "bob a,b", call(t, h).body)
		require.Equal(t, 1, inner.calls)

		inner.err = oauth2pw.ErrInvalidToken
		call(t, h).isError(t, 401, "invalid_token")
	})

	t.Run("WithPrincipal is not taken for verified", func(t *testing.T) {
		v := &fixed{err: oauth2pw.ErrInvalidToken}
		ctx := oauth2pw.WithPrincipal(t.Context(), oauth2pw.Principal{Subject: "mallory", Scope: "a"})
		call(t, oauth2pw.RequireBearer(v, "a")(http.HandlerFunc(subject)), during(ctx)).isError(t, 401, "invalid_token")

		v = alice()
		require.Equal(t, "alice a", call(t, oauth2pw.RequireBearer(v, "a")(http.HandlerFunc(subject)), during(ctx)).body)
		require.Equal(t, 1, v.calls)

		// Nor between two layers of the same verifier.
		v = alice()
		between := func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				next.ServeHTTP(w, r.WithContext(oauth2pw.WithPrincipal(r.Context(), oauth2pw.Principal{Subject: "mallory", Scope: "a b"})))
			})
		}
		h := oauth2pw.RequireBearer(v, "a")(between(oauth2pw.RequireBearer(v, "b")(http.HandlerFunc(subject))))
		require.Equal(t, "alice a,b", call(t, h).body)
		require.Equal(t, 2, v.calls)
	})

	t.Run("another token between two layers is verified", func(t *testing.T) {
		v := alice()
		between := func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.Header.Set("Authorization", "Bearer y")
				v.err = oauth2pw.ErrInvalidToken
				next.ServeHTTP(w, r)
			})
		}
		call(t, oauth2pw.RequireBearer(v)(between(oauth2pw.RequireBearer(v)(http.HandlerFunc(subject))))).isError(t, 401, "invalid_token")
	})

	t.Run("66_a verifier sees b64tokens of up to 16 KiB only", func(t *testing.T) {
		v := alice()
		h := oauth2pw.RequireBearer(v)(http.HandlerFunc(subject))
		for token, status := range map[string]int{
			"a b": 401, `a"`: 401, "=": 401, "a=b": 401, strings.Repeat("a", 16<<10+1): 401, strings.Repeat("a", 16<<10): 200,
		} {
			v.calls = 0
			require.Equal(t, status, serve(t, h, get("/", with(bearer(token)))).StatusCode)
			require.Equal(t, status == 200, v.calls == 1)
		}
	})

	t.Run("an anonymous outer layer does not open an inner one", func(t *testing.T) {
		v := alice()
		h := oauth2pw.OptionalBearer(v)(oauth2pw.RequireBearer(v)(http.HandlerFunc(subject)))
		serve(t, h, get("/")).isError(t, 401, "unauthorized")
	})

	t.Run("the test principal reaches a handler", func(t *testing.T) {
		ctx := oauth2pw.WithPrincipal(t.Context(), oauth2pw.Principal{Subject: "tester"})
		require.Equal(t, "tester ", serve(t, http.HandlerFunc(subject), get("/", during(ctx))).body)
	})

	t.Run("an uncomparable verifier is asked every time", func(t *testing.T) {
		calls := 0
		v := uncomparable{func() { calls++ }}
		h := oauth2pw.RequireBearer(v)(oauth2pw.RequireBearer(v)(http.HandlerFunc(subject)))
		require.Equal(t, 200, call(t, h).StatusCode)
		require.Equal(t, 2, calls)
	})

	t.Run("the handler says what it requires", func(t *testing.T) {
		a := newApp(t)
		h := a.auth.RequireBearer("me")(a.auth.RequireBearer("items")(http.HandlerFunc(subject)))
		require.Equal(t, []string{"me"}, h.(interface{ RequiredScopes() []string }).RequiredScopes())
	})
}

type uncomparable struct{ called func() }

func (u uncomparable) Verify(context.Context, string) (oauth2pw.Principal, error) {
	u.called()
	return oauth2pw.Principal{}, nil
}

func TestPasswordBearer(t *testing.T) {
	check := func(_ context.Context, token string) (oauth2pw.Principal, error) {
		if token != "validtoken" {
			return oauth2pw.Principal{}, oauth2pw.ErrInvalidToken
		}
		return oauth2pw.Principal{Subject: "alice"}, nil
	}
	status := func(b oauth2pw.PasswordBearer, token string) int {
		r := get("/")
		if token != "" {
			r = get("/", with(bearer(token)))
		}
		return serve(t, b.Require(check)(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})), r).StatusCode
	}
	// A zero PasswordBearer enforces.
	require.Equal(t, 401, status(oauth2pw.PasswordBearer{}, ""))
	require.Equal(t, 401, status(oauth2pw.PasswordBearer{}, "other"))
	require.Equal(t, 200, status(oauth2pw.PasswordBearer{}, "validtoken"))
	require.Equal(t, 200, status(oauth2pw.PasswordBearer{Optional: true}, ""))
	require.Equal(t, 401, status(oauth2pw.PasswordBearer{Optional: true}, "other"))
	require.Panics(t, func() { oauth2pw.PasswordBearer{}.Require(nil) })
	require.Panics(t, func() { oauth2pw.PasswordBearer{Scopes: map[string]string{}}.Require(check, "me") })
}

// TestConformance70: no answer of the middleware holds the token, and no cache stores a
// refusal. The headers of an admitted request are the handler's own.
func TestConformance70(t *testing.T) {
	a := newApp(t)
	token := a.token("me")
	for target, headers := range map[string][]string{
		"/me":                       {"Authorization: Bearer " + token + "x"},
		"/items":                    {"Authorization: Bearer " + token},
		"/status":                   {"Authorization: Bearer " + token, "Authorization: Bearer " + token},
		"/me?access_token=" + token: nil,
	} {
		got := a.do("GET", target, "", headers...)
		require.GreaterOrEqual(t, got.StatusCode, 400, target)
		require.Equal(t, "no-store", got.Header.Get("Cache-Control"), target)
		require.NotContains(t, got.body+fmt.Sprint(got.Header), token, target)
	}
	got := a.get("/me", token)
	require.Equal(t, 200, got.StatusCode)
	require.Empty(t, got.Header.Values("Cache-Control"))
	require.NotContains(t, got.body+fmt.Sprint(got.Header), token)
}
