package oauth2pw_test

import (
	"context"
	"encoding/base64"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
)

// TestConformanceRefresh: a genuine refresh token gets new tokens, for its own client only.
func TestConformanceRefresh(t *testing.T) {
	t.Run("22_no_refresh_token", func(t *testing.T) {
		a := newSessionApp(t)
		p := a.login("client_id=once")
		require.Empty(t, p.refresh)
		require.Equal(t, 200, a.get("/status", p.access).StatusCode)
		// Its session ends with the access token, and can be ended before.
		s := a.session("u1")
		require.Equal(t, a.clock.Now().Truncate(time.Second).Add(15*time.Minute), s.ExpiresAt, "that of the access token")
		require.Equal(t, s.ExpiresAt, s.IdleExpiresAt)
		require.Equal(t, 200, a.revoke("token="+p.access+"&client_id=once").StatusCode)
		require.Equal(t, 401, a.get("/status", p.access).StatusCode)
		a.refresh("x", "client_id=once").isError(t, 400, "unauthorized_client")

		a = newSessionApp(t, func(c *oauth2pw.Config) { c.DisableRefresh, c.Secrets = true, nil })
		p = a.login()
		require.Empty(t, p.refresh)
		require.Equal(t, 200, a.get("/status", p.access).StatusCode)
		a.refresh("x").isError(t, 400, "unsupported_grant_type")
		plain := newApp(t)
		require.NotContains(t, plain.post(login).json, "refresh_token")
		plain.post("grant_type=refresh_token&refresh_token=x").isError(t, 400, "unsupported_grant_type")
	})

	t.Run("49_happy_path", func(t *testing.T) {
		a := newSessionApp(t)
		first := a.login("scope=me+items")
		require.Regexp(t, `^rt1\.[A-Za-z0-9_-]{75}$`, first.refresh)
		second := a.refreshed(first.refresh)
		require.NotEqual(t, first.refresh, second.refresh)
		require.NotEqual(t, first.access, second.access)
		require.Equal(t, "me items", second.scope)
		for _, access := range []string{first.access, second.access} {
			require.Equal(t, 200, a.get("/items", access).StatusCode)
		}
		s := a.session("u1")
		require.Equal(t, uint64(2), s.Generation)
		e := a.saw(oauth2pw.EventRefresh, "")
		require.Equal(t, "u1", e.UserID)
		require.Equal(t, s.ID, e.SessionID)
	})

	t.Run("50_missing_or_bad", func(t *testing.T) {
		a := newSessionApp(t)
		for _, form := range []string{"", "&refresh_token="} {
			a.post("grant_type=refresh_token"+form).isError(t, 400, "invalid_request")
		}
		p := a.login()
		raw, err := base64.RawURLEncoding.DecodeString(p.refresh[4:])
		require.NoError(t, err)
		altered := func(i int) string {
			c := append([]byte{}, raw...)
			c[i] ^= 1
			return "rt1." + base64.RawURLEncoding.EncodeToString(c)
		}
		last := p.refresh[len(p.refresh)-1:]
		bad := map[string]oauth2pw.EventReason{
			"rt1.": "malformed", "rt2." + p.refresh[4:]: "malformed", p.refresh[4:]: "malformed",
			p.refresh + "A": "malformed", p.refresh[:40]: "malformed", "RT1." + p.refresh[4:]: "malformed",
			p.refresh + "=": "malformed", p.refresh[:len(p.refresh)-1] + "\n" + last: "malformed", " " + p.refresh: "malformed",
			strings.Repeat("x", 10000): "malformed", "rt1." + strings.Repeat("!", 75): "malformed",
			"rt1." + strings.Repeat("A", 75): "malformed", "rt1." + strings.Repeat("_", 74) + "8": "malformed", // generations 0 and 2^64-1
			altered(0): "unknown_session", altered(15): "unknown_session", altered(23): "malformed", altered(22): "forged", altered(24): "forged", altered(55): "forged",
		}
		body := ""
		a.takeEvents()
		for token, reason := range bad {
			got := a.refresh(token)
			got.isError(t, 400, "invalid_grant")
			if body == "" {
				body = got.body
			}
			require.Equal(t, body, got.body)
			a.saw(oauth2pw.EventRefreshFailed, reason)
		}
		require.Equal(t, 200, a.revoke("token="+p.refresh).StatusCode)
		got := a.refresh(p.refresh)
		got.isError(t, 400, "invalid_grant")
		require.Equal(t, body, got.body)
	})

	t.Run("51_another_client", func(t *testing.T) {
		a := newSessionApp(t)
		for owner, thieves := range map[string][]string{
			"":                  {"client_id=webapp", "client_id=backend&client_secret=backend-secret"},
			"&client_id=webapp": {"", "client_id=backend&client_secret=backend-secret"},
			"&client_id=backend&client_secret=backend-secret": {"", "client_id=webapp"},
		} {
			p := a.login(strings.TrimPrefix(owner, "&"))
			old := p
			p = a.refreshed(p.refresh, owner)
			a.clock.Advance(time.Hour)
			a.takeEvents()
			for _, thief := range thieves {
				a.refresh(p.refresh, thief).isError(t, 400, "invalid_grant")
				require.NotEmpty(t, a.saw(oauth2pw.EventRefreshFailed, "wrong_client").SessionID)
				a.refresh(old.refresh, thief).isError(t, 400, "invalid_grant") // a replaced token of another client ends nothing
			}
			a.refreshed(p.refresh, owner)
		}
		p := a.login("client_id=backend&client_secret=backend-secret")
		a.refresh(p.refresh, "client_id=backend").isError(t, 400, "invalid_client")
	})

	t.Run("53_each_at_its_place", func(t *testing.T) {
		a := newSessionApp(t)
		p := a.login()
		a.refresh(p.access).isError(t, 400, "invalid_grant")
		a.get("/status", p.refresh).isError(t, 401, "invalid_token")
		a.lives(p, true)
	})
}

// TestConformanceRefreshScope: a refresh gets the scope of the login, or less.
func TestConformanceRefreshScope(t *testing.T) {
	t.Run("52_scope", func(t *testing.T) {
		a := newSessionApp(t)
		p := a.login("scope=me+items")
		narrow := a.refreshed(p.refresh, "scope=items")
		require.Equal(t, "items", narrow.scope)
		a.get("/me", narrow.access).isError(t, 403, "insufficient_scope")
		for _, wide := range []string{"admin", "me+items+admin", "ME", "unknown"} {
			a.refresh(narrow.refresh, "scope="+wide).isError(t, 400, "invalid_scope")
		}
		a.refresh(narrow.refresh, "scope=%22").isError(t, 400, "invalid_scope")
		require.Equal(t, uint64(2), a.session("u1").Generation, "nothing was spent")
		require.Equal(t, "me items", a.refreshed(narrow.refresh).scope, "the original scope")

		p = a.login("scope=me")
		a.refresh(p.refresh, "scope=items").isError(t, 400, "invalid_scope") // the user may, the login did not
	})

	t.Run("52_scopes_taken_away", func(t *testing.T) {
		a := newSessionApp(t)
		p := a.login("scope=me+items")
		require.NoError(t, a.users.Update(context.Background(), "u1", func(u *oauth2pw.User) error { u.Scopes = []string{"me"}; return nil }))
		a.refresh(p.refresh, "scope=items").isError(t, 400, "invalid_scope")
		p = a.refreshed(p.refresh)
		require.Equal(t, "me", p.scope)
		require.NoError(t, a.users.Update(context.Background(), "u1", func(u *oauth2pw.User) error { u.Scopes = []string{"me", "items"}; return nil }))
		require.Equal(t, "me items", a.refreshed(p.refresh).scope)
	})

	t.Run("48_hook", func(t *testing.T) {
		grant := []string{"me", "items"}
		a := newSessionApp(t, func(c *oauth2pw.Config) {
			c.GrantScopes = func(context.Context, *oauth2pw.User, *oauth2pw.Client, []string) ([]string, error) { return grant, nil }
		})
		p := a.login("scope=me+items")
		grant = []string{"me", "items", "admin"}
		p = a.refreshed(p.refresh)
		require.Equal(t, "me items", p.scope, "a refresh adds nothing")
		a.refresh(p.refresh, "scope=admin").isError(t, 400, "invalid_scope")
		grant = []string{"items"}
		require.Equal(t, "items", a.refreshed(p.refresh).scope)

		grant = []string{"me", "items"}
		p = a.login("scope=me+items", "client_id=webapp")
		clients, err := store.NewClients(oauth2pw.Client{ID: "webapp", Grants: []string{"refresh_token"}, Scopes: []string{"me"}})
		require.NoError(t, err)
		a = a.again(func(c *oauth2pw.Config) { c.Clients = clients })
		require.Equal(t, "me", a.refreshed(p.refresh, "client_id=webapp").scope, "nor does it keep what the client has lost")
	})
}

// TestConformanceReuse: a replaced token gets the same successor again within the grace period,
// and is reuse later.
func TestConformanceReuse(t *testing.T) {
	t.Run("54_reuse", func(t *testing.T) {
		a := newSessionApp(t)
		first := a.login()
		second := a.refreshed(first.refresh)
		a.clock.Advance(30 * time.Second) // at its end the grace period has passed
		a.takeEvents()
		a.refresh(first.refresh).isError(t, 400, "invalid_grant")
		e := a.saw(oauth2pw.EventRefreshReuse, "same_place")
		require.Equal(t, "u1", e.UserID)
		a.lives(second, false)
		a.get("/status", first.access).isError(t, 401, "invalid_token")
		got, err := a.sessions.Get(t.Context(), e.SessionID)
		require.NoError(t, err)
		require.Equal(t, "reuse", got.EndReason)
	})

	t.Run("54_reuse_at_any_age", func(t *testing.T) {
		a := newSessionApp(t)
		first := a.login()
		last := first
		for range 100 {
			last = a.refreshed(last.refresh)
		}
		a.refresh(first.refresh).isError(t, 400, "invalid_grant")
		a.lives(last, false)
	})

	t.Run("54_after_a_login_by_a_clock_behind", func(t *testing.T) {
		a := newSessionApp(t)
		_, err := a.users.UpdatePasswordHash(t.Context(), "u1", "new:secret", "new:secret", a.clock.Now().Add(20*time.Second))
		require.NoError(t, err)
		first := a.login() // authenticated in its own future, which is no change of the password
		second := a.refreshed(first.refresh)
		third := a.refreshed(second.refresh)
		a.refresh(first.refresh).isError(t, 400, "invalid_grant")
		a.lives(third, false) // so that this is reuse
	})

	t.Run("55_grace", func(t *testing.T) {
		a := newSessionApp(t)
		first := a.login()
		second := a.refreshed(first.refresh)
		a.clock.Advance(30*time.Second - time.Microsecond)
		a.takeEvents()
		repeated := a.refreshed(first.refresh)
		require.Equal(t, second.refresh, repeated.refresh, "byte for byte")
		a.saw(oauth2pw.EventRefreshRepeat, "same_place")
		require.Equal(t, 200, a.get("/status", repeated.access).StatusCode)
		require.Equal(t, second.refresh, a.granted(a.post(refreshForm(first.refresh), "User-Agent: other")).refresh)
		a.saw(oauth2pw.EventRefreshRepeat, "other_user_agent")
		// A repeat passes the same checks as the first use.
		a.refresh(first.refresh, "client_id=webapp").isError(t, 400, "invalid_grant")
		a.refresh(first.refresh, "scope=items").isError(t, 400, "invalid_scope")
		// It moves nothing: the grace period counts from the first use.
		a.clock.Advance(time.Microsecond)
		a.refresh(first.refresh).isError(t, 400, "invalid_grant")
		a.lives(second, false)
	})

	t.Run("55_only_the_immediate_predecessor", func(t *testing.T) {
		a := newSessionApp(t)
		first := a.login()
		second := a.refreshed(first.refresh)
		third := a.refreshed(second.refresh)
		require.Equal(t, third.refresh, a.refreshed(second.refresh).refresh)
		a.refresh(first.refresh).isError(t, 400, "invalid_grant")
		a.lives(third, false)
	})

	t.Run("55_a_clock_set_back", func(t *testing.T) {
		// A replaced token that is older than the grace period allows, backwards.
		for age, want := range map[time.Duration]int{-30 * time.Second: 200, -30*time.Second - time.Microsecond: 400, -24 * time.Hour: 400} {
			a := newSessionApp(t)
			first := a.login()
			second := a.refreshed(first.refresh)
			a.clock.Advance(age)
			a.takeEvents()
			got := a.refresh(first.refresh)
			require.Equal(t, want, got.StatusCode)
			if want == 200 {
				require.Equal(t, second.refresh, pairOf(got).refresh)
			} else {
				a.saw(oauth2pw.EventRefreshFailed, "early")
			}
			a.refreshed(second.refresh) // nothing has ended
		}
	})

	t.Run("56_no_grace", func(t *testing.T) {
		a := newSessionApp(t, func(c *oauth2pw.Config) { c.RefreshGrace = -1 })
		first := a.login()
		second := a.refreshed(first.refresh)
		a.refresh(first.refresh).isError(t, 400, "invalid_grant")
		a.lives(second, false)

		first = a.login()
		second = a.refreshed(first.refresh)
		a.clock.Advance(-time.Second) // a clock that is behind opens no grace period
		a.refresh(first.refresh).isError(t, 400, "invalid_grant")
		a.lives(second, false)
	})
}

// TestConformance56Parallel: of parallel refreshes with one token all get the one
// successor; without a grace period one of them gets it, and the session ends.
// Package storetest has it for every store.
func TestConformance56Parallel(t *testing.T) {
	const callers = 50
	all := func(a *sessionApp, token string) (successors map[string]int, refused int) {
		successors = make(map[string]int)
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				got := a.serve(post("grant_type=refresh_token&refresh_token=" + token))
				mu.Lock()
				defer mu.Unlock()
				if got.StatusCode == 200 {
					successors[pairOf(got).refresh]++
				} else {
					refused++
				}
			})
		}
		wg.Wait()
		return successors, refused
	}
	a := newSessionApp(t)
	p := a.login()
	for range 20 {
		successors, refused := all(a, p.refresh)
		require.Len(t, successors, 1)
		require.Zero(t, refused)
		for p.refresh = range successors {
		}
	}
	require.Equal(t, uint64(21), a.session("u1").Generation)

	a = newSessionApp(t, func(c *oauth2pw.Config) { c.RefreshGrace = -1 })
	for range 20 {
		p := a.login()
		successors, refused := all(a, p.refresh)
		require.Len(t, successors, 1)
		require.Equal(t, callers-1, refused)
		for token, n := range successors {
			require.Equal(t, 1, n)
			a.refresh(token).isError(t, 400, "invalid_grant")
		}
	}
}
