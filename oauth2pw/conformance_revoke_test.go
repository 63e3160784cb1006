package oauth2pw_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/tokens"
)

// TestConformanceRevocation: the revocation endpoint.
func TestConformanceRevocation(t *testing.T) {
	t.Run("75_transport", func(t *testing.T) {
		a := newSessionApp(t)
		for _, path := range []string{"/revoke", "/introspect"} {
			got := a.do("GET", path+"?token=x", "")
			got.isError(t, 405, "invalid_request")
			require.Equal(t, "POST", got.Header.Get("Allow"))
			a.do("POST", path, `{"token":"x"}`, "Content-Type: application/json").isError(t, 400, "invalid_request")
			a.serve(post("token=x", to(path), peer("192.0.2.1:1"))).isError(t, 400, "invalid_request") // plain HTTP
		}
	})

	t.Run("76_client", func(t *testing.T) {
		a := newSessionApp(t)
		p := a.login("client_id=backend&client_secret=backend-secret")
		got := a.revoke("token="+p.refresh, basic("backend", "wrong"))
		got.isError(t, 401, "invalid_client")
		require.Contains(t, got.Header.Get("WWW-Authenticate"), "Basic realm=")
		a.revoke("token="+p.refresh+"&client_id=backend").isError(t, 400, "invalid_client")
		a.revoke("token="+p.refresh+"&client_id=nobody").isError(t, 400, "invalid_client")
		require.Equal(t, 200, a.revoke("token=x", "Authorization: Bearer "+p.access).StatusCode, "ignored")
		require.Equal(t, 200, a.revoke("token="+p.refresh, basic("backend", "backend-secret")).StatusCode)
		p = a.login("client_id=webapp")
		require.Equal(t, 200, a.revoke("token="+p.access+"&client_id=webapp").StatusCode)
		a.lives(p, false, "client_id=webapp")
	})

	t.Run("77_78_84_either_token", func(t *testing.T) {
		for name, token := range map[string]func(p, spent pair) string{
			"refresh": func(p, _ pair) string { return p.refresh },
			"access":  func(p, _ pair) string { return p.access },
			"spent":   func(_, spent pair) string { return spent.refresh },
			"older":   func(_, spent pair) string { return spent.access },
		} {
			t.Run(name, func(t *testing.T) {
				a := newSessionApp(t)
				spent := a.login()
				p := a.refreshed(a.refreshed(spent.refresh).refresh)
				a.takeEvents()
				for range 2 {
					got := a.revoke("token=" + token(p, spent))
					require.Equal(t, 200, got.StatusCode, got.body)
					require.Equal(t, "{}", got.body)
					require.Equal(t, "no-store", got.Header.Get("Cache-Control"))
					require.Equal(t, "application/json", got.Header.Get("Content-Type"))
				}
				events := a.takeEvents()
				require.Len(t, events, 1)
				require.Equal(t, oauth2pw.EventSessionEnded, events[0].Kind)
				require.Equal(t, oauth2pw.ReasonRevoked, events[0].Reason)
				a.lives(p, false)
				a.get("/status", spent.access).isError(t, 401, "invalid_token")
			})
		}
	})

	t.Run("79_unknown", func(t *testing.T) {
		a := newSessionApp(t)
		p := a.login()
		for _, token := range []string{"x", "rt1." + strings.Repeat("B", 75), p.refresh[:78] + "x", p.access + "x", strings.Repeat("x", 20000), "é", "a b"} {
			got := a.revoke("token=" + strings.ReplaceAll(token, " ", "+"))
			require.Equal(t, 200, got.StatusCode, got.body)
			require.Equal(t, "{}", got.body)
		}
		a.clock.Advance(time.Hour) // the access token expires
		require.Equal(t, 200, a.revoke("token="+p.access).StatusCode)
		a.refreshed(p.refresh)
	})

	t.Run("80_88_missing", func(t *testing.T) {
		a := newSessionApp(t)
		for _, path := range []string{"/revoke", "/introspect"} {
			for _, form := range []string{"", "token=", "token=a&token=b", "token=a&token=a"} {
				a.do("POST", path, form, formType).isError(t, 400, "invalid_request")
			}
			a.do("POST", path+"?token=x", "token=x", formType).isError(t, 400, "invalid_request")
		}
	})

	t.Run("81_hint", func(t *testing.T) {
		a := newSessionApp(t)
		for _, hint := range []string{"access_token", "refresh_token", "unknown", ""} {
			p := a.login()
			require.Equal(t, true, a.introspect(p.access).json["active"])
			require.Equal(t, 200, a.revoke("token="+p.refresh+"&token_type_hint="+hint).StatusCode)
			a.lives(p, false)
			p = a.login()
			require.Equal(t, 200, a.revoke("token="+p.access+"&token_type_hint="+hint).StatusCode)
			a.lives(p, false)
		}
	})

	t.Run("82_another_client", func(t *testing.T) {
		a := newSessionApp(t)
		for owner, thief := range map[string]string{"": "client_id=webapp", "client_id=webapp": ""} {
			p := a.login(owner)
			for _, token := range []string{p.access, p.refresh} {
				a.revoke("token="+token+"&"+thief).isError(t, 400, "invalid_grant")
			}
			a.lives(p, true, owner)
			require.Equal(t, 200, a.revoke("token="+p.refresh+"&"+owner).StatusCode)
			require.Equal(t, 200, a.revoke("token="+p.refresh+"&"+thief).StatusCode, "it is over")
		}
	})

	t.Run("83_no_session", func(t *testing.T) {
		a := newApp(t)
		token := a.token("")
		a.revoke("token="+token).isError(t, 400, "unsupported_token_type")
		a.revoke("token="+token+"&client_id=webapp").isError(t, 400, "invalid_grant")
		require.Equal(t, 200, a.revoke("token=rt1."+strings.Repeat("B", 75)).StatusCode)
		require.Equal(t, 200, a.get("/status", token).StatusCode)
	})
}

// TestConformanceIntrospection: the introspection endpoint.
func TestConformanceIntrospection(t *testing.T) {
	t.Run("85_client", func(t *testing.T) {
		a := newSessionApp(t)
		p := a.login()
		for _, headers := range [][]string{{}, {basic("backend", "wrong")}, {"Authorization: Bearer " + p.access}} {
			got := a.introspect(p.access, append(headers, "X: x")...)
			got.isError(t, 401, "invalid_client")
			require.Contains(t, got.Header.Get("WWW-Authenticate"), "Basic realm=")
		}
		got := a.do("POST", "/introspect", "token="+p.access+"&client_id=once", formType) // public, though it may introspect
		got.isError(t, 401, "invalid_client")
		a.introspect(p.access, basic("mute", "mute-secret")).isError(t, 400, "unauthorized_client")
		require.Equal(t, true, a.introspect(p.access, basic("reports", "reports-secret")).json["active"])
	})

	t.Run("86_active", func(t *testing.T) {
		a := newSessionApp(t)
		p := a.login("scope=me+items", "client_id=backend&client_secret=backend-secret")
		got := a.introspect(p.access)
		require.Equal(t, 200, got.StatusCode)
		now := float64(a.clock.Now().Unix())
		require.Equal(t, map[string]any{
			"active": true, "scope": "me items", "client_id": "backend", "username": "johndoe", "token_type": "bearer",
			"exp": now + 900, "iat": now, "sub": "u1", "aud": audience, "iss": issuer,
			"jti": got.json["jti"], "sid": sessionID(t, p.access),
		}, got.json)
		require.NotEmpty(t, got.json["jti"])
		got = a.introspect(p.refresh)
		require.Equal(t, map[string]any{
			"active": true, "scope": "me items", "client_id": "backend", "username": "johndoe",
			"exp": now + 14*24*3600, "iat": now, "sub": "u1", "sid": sessionID(t, p.access),
		}, got.json)
		anonymous := a.introspect(a.login().access)
		require.NotContains(t, anonymous.json, "client_id")
		plain := newApp(t) // without sessions
		token := plain.token("")
		got = plain.introspect(token)
		require.Equal(t, true, got.json["active"])
		require.NotContains(t, got.json, "sid")
		got = plain.introspect(p.refresh)
		require.Equal(t, `{"active":false}`, got.body)
	})

	t.Run("87_90_inactive", func(t *testing.T) {
		a := newSessionApp(t)
		backend := []string{"client_id=backend&client_secret=backend-secret"}
		inactive := func(what, token string) {
			t.Helper()
			got := a.introspect(token)
			require.Equal(t, 200, got.StatusCode, what)
			require.Equal(t, `{"active":false}`, got.body, what)
			require.Equal(t, "no-store", got.Header.Get("Cache-Control"))
		}
		inactive("garbage", "x")
		inactive("garbage", "rt1."+strings.Repeat("B", 75))
		p := a.login(backend...)
		inactive("altered", p.access+"x")
		inactive("altered", p.refresh[:78]+"x")
		inactive("a refresh token of another client", a.login("client_id=webapp").refresh)
		inactive("a refresh token of no client", a.login().refresh)
		next := a.refreshed(p.refresh, backend...)
		inactive("spent", p.refresh)
		a.clock.Advance(time.Hour)
		inactive("spent", p.refresh)
		inactive("expired", next.access)
		next = a.refreshed(next.refresh, backend...) // looking at a spent token is no reuse
		require.Equal(t, 200, a.revoke("token="+next.access, basic("backend", "backend-secret")).StatusCode)
		inactive("revoked", next.access)
		inactive("revoked", next.refresh)

		p = a.login(backend...)
		b := a.again(func(c *oauth2pw.Config) { c.DisableRefresh = true })
		require.Equal(t, `{"active":false}`, b.introspect(p.refresh).body, "nothing can be had for it")
		require.Equal(t, true, a.introspect(p.refresh).json["active"])
		require.NoError(t, a.users.Update(context.Background(), "u1", func(u *oauth2pw.User) error { u.Disabled = true; return nil }))
		inactive("disabled", p.access)
		inactive("disabled", p.refresh)
		require.NoError(t, a.users.Update(context.Background(), "u1", func(u *oauth2pw.User) error { u.Disabled = false; return nil }))
		require.Equal(t, true, a.introspect(p.access).json["active"])
		other, err := tokens.ParseKeys([]byte(strings.Replace(testKey, "AAEC", "BBBB", 1)))
		require.NoError(t, err)
		ring, err := tokens.New(tokens.Config{Keys: other, Issuer: issuer, Audience: "other", Now: a.clock.Now})
		require.NoError(t, err)
		foreign, _, err := ring.Issue(t.Context(), oauth2pw.Principal{Subject: "u1"})
		require.NoError(t, err)
		inactive("another key and audience", foreign)
	})

	t.Run("91_claims_hook", func(t *testing.T) {
		a := newSessionApp(t, func(c *oauth2pw.Config) {
			key, err := tokens.ParseKeys([]byte(testKey))
			require.NoError(t, err)
			ring, err := tokens.New(tokens.Config{Keys: key, Issuer: issuer, Audience: audience, Now: c.Now,
				Claims: tokens.WithClaims(func(context.Context, oauth2pw.Principal) (map[string]any, error) {
					return map[string]any{"active": false, "username": "root"}, nil
				})})
			require.NoError(t, err)
			c.Issuer = ring
		})
		got := a.introspect(a.login().access)
		require.Equal(t, true, got.json["active"])
		require.Equal(t, "johndoe", got.json["username"])
	})
}

// TestConformanceIntrospectionRequest: token_type_hint and Accept change nothing.
func TestConformanceIntrospectionRequest(t *testing.T) {
	a := newSessionApp(t)
	p := a.login("client_id=backend&client_secret=backend-secret")
	backend := basic("backend", "backend-secret")
	t.Run("88_hint", func(t *testing.T) {
		for _, hint := range []string{"access_token", "refresh_token", "unknown", ""} {
			for _, token := range []string{p.access, p.refresh} {
				got := a.do("POST", "/introspect", "token="+token+"&token_type_hint="+hint, formType, backend)
				require.Equal(t, true, got.json["active"], got.body)
			}
		}
	})
	t.Run("89_json_that_no_cache_stores", func(t *testing.T) {
		for _, accept := range []string{"application/jwt", "application/token-introspection+jwt", "text/html"} {
			for token, active := range map[string]bool{p.access: true, "x": false} {
				got := a.introspect(token, backend, "Accept: "+accept)
				require.Equal(t, 200, got.StatusCode)
				require.Equal(t, active, got.json["active"])
				require.Equal(t, "application/json", got.Header.Get("Content-Type"))
				require.Equal(t, "no-store", got.Header.Get("Cache-Control"))
				require.Equal(t, "no-cache", got.Header.Get("Pragma"))
			}
		}
	})
}
