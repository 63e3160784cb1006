package oauth2pw_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/tokens"
)

// TestConformanceRefresh: refresh tokens, and the sessions that they keep.
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
				a.refresh(old.refresh, thief).isError(t, 400, "invalid_grant") // nor does a spent one end it
			}
			a.refreshed(p.refresh, owner)
		}
		p := a.login("client_id=backend&client_secret=backend-secret")
		a.refresh(p.refresh, "client_id=backend").isError(t, 400, "invalid_client")
	})

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
		require.NoError(t, a.users.Update("u1", func(u *oauth2pw.User) { u.Scopes = []string{"me"} }))
		a.refresh(p.refresh, "scope=items").isError(t, 400, "invalid_scope")
		p = a.refreshed(p.refresh)
		require.Equal(t, "me", p.scope)
		require.NoError(t, a.users.Update("u1", func(u *oauth2pw.User) { u.Scopes = []string{"me", "items"} }))
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

	t.Run("53_each_at_its_place", func(t *testing.T) {
		a := newSessionApp(t)
		p := a.login()
		a.refresh(p.access).isError(t, 400, "invalid_grant")
		a.get("/status", p.refresh).isError(t, 401, "invalid_token")
		a.lives(p, true)
	})

	t.Run("54_reuse", func(t *testing.T) {
		a := newSessionApp(t)
		first := a.login()
		second := a.refreshed(first.refresh)
		a.clock.Advance(30 * time.Second) // the grace period is over at its end
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

	t.Run("57_idle_and_age", func(t *testing.T) {
		set := func(c *oauth2pw.Config) { c.RefreshIdle, c.RefreshMax = time.Hour, 3*time.Hour }
		a := newSessionApp(t, set)
		p := a.login()
		a.clock.Advance(time.Hour - time.Microsecond)
		p = a.refreshed(p.refresh)
		a.clock.Advance(time.Hour)
		a.takeEvents()
		a.refresh(p.refresh).isError(t, 400, "invalid_grant")
		a.saw(oauth2pw.EventSessionEnded, "idle")

		a = newSessionApp(t, set) // sliding use does not outlive the absolute end
		p = a.login()
		for range 5 {
			a.clock.Advance(30 * time.Minute)
			p = a.refreshed(p.refresh)
		}
		a.clock.Advance(20 * time.Minute) // 10 are left
		got := a.refresh(p.refresh)
		require.Equal(t, 600.0, got.json["expires_in"], "nor does an access token")
		p = pairOf(got)
		a.clock.Advance(10*time.Minute - time.Second)
		got = a.refresh(p.refresh)
		require.Equal(t, 1.0, got.json["expires_in"])
		p = pairOf(got)
		require.Equal(t, 200, a.get("/status", p.access).StatusCode)
		a.clock.Advance(time.Microsecond) // too short for a token that says seconds
		a.refresh(p.refresh).isError(t, 400, "invalid_grant")
		a.clock.Advance(time.Second)
		a.takeEvents()
		a.get("/status", p.access).isError(t, 401, "invalid_token")
		a.refresh(p.refresh).isError(t, 400, "invalid_grant")
		a.saw(oauth2pw.EventSessionEnded, "age")

		a = newSessionApp(t, func(c *oauth2pw.Config) { c.RefreshIdle, c.RefreshMax = time.Hour, time.Hour })
		p = a.login()
		a.clock.Advance(time.Hour)
		a.takeEvents()
		a.refresh(p.refresh).isError(t, 400, "invalid_grant")
		a.saw(oauth2pw.EventSessionEnded, "age")
	})

	t.Run("58_password_change", func(t *testing.T) {
		a := newSessionApp(t)
		mine, other := a.login("scope=me+items"), a.login()
		before := a.sessionOf(mine)
		a.clock.Advance(1400 * time.Millisecond)
		a.takeEvents()
		got := a.change(mine.access, "secret", "new secret")
		require.Equal(t, 200, got.StatusCode, got.body)
		now := pairOf(got)
		require.Equal(t, "me items", now.scope)
		a.saw(oauth2pw.EventPasswordChanged, "")
		require.Equal(t, 401, a.get("/status", mine.access).StatusCode, "the access token from before")
		require.Equal(t, 200, a.get("/items", now.access).StatusCode)
		a.lives(other, false)
		after := a.sessionOf(now)
		require.Equal(t, before.ID, after.ID, "the same session")
		require.Equal(t, before.Generation+2, after.Generation)
		require.Equal(t, a.clock.Now(), after.RefreshedAt)
		require.Equal(t, time.Date(2026, 1, 2, 3, 4, 7, 0, time.UTC), after.AuthenticatedAt, "the first whole second after now")
		now = a.lives(now, true)
		a.lives(now, true)
		a.post(login).isError(t, 400, "invalid_grant")
		require.Equal(t, 200, a.post("grant_type=password&username=johndoe&password=new+secret").StatusCode)
	})

	t.Run("136_refresh_token_from_before", func(t *testing.T) {
		for age, ends := range map[time.Duration]bool{
			0: false, 30*time.Second - time.Microsecond: false, 30 * time.Second: true, 30*time.Second + time.Microsecond: true,
			-30 * time.Second: false, -31 * time.Second: false, // a clock was set back
		} {
			a := newSessionApp(t)
			zero := a.login()
			mine := a.refreshed(zero.refresh)
			now := a.changed(mine, "secret", "new")
			a.clock.Advance(age)
			a.takeEvents()
			a.refresh(mine.refresh).isError(t, 400, "invalid_grant")
			if ends {
				a.saw(oauth2pw.EventRefreshReuse, "same_place")
				a.refresh(now.refresh).isError(t, 400, "invalid_grant")
				continue
			}
			a.refreshed(now.refresh)
			for _, refreshes := range []int{0, 1, 3} { // and so is every other from before, after further refreshes too
				b := newSessionApp(t)
				zero = b.login()
				mine = b.refreshed(zero.refresh)
				now = b.changed(mine, "secret", "new")
				for range refreshes {
					now = b.refreshed(now.refresh)
				}
				b.clock.Advance(25 * time.Second)
				b.refresh(zero.refresh).isError(t, 400, "invalid_grant")
				b.refresh(mine.refresh).isError(t, 400, "invalid_grant")
				now = b.refreshed(now.refresh)
				b.clock.Advance(10 * time.Second)
				b.refresh(mine.refresh).isError(t, 400, "invalid_grant") // later it is reuse
				b.refresh(now.refresh).isError(t, 400, "invalid_grant")
			}
		}
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

	t.Run("136_after_the_next_refresh", func(t *testing.T) {
		a := newSessionApp(t)
		mine := a.login()
		now := a.changed(mine, "secret", "new")
		next := a.refreshed(now.refresh) // within the same second
		require.Equal(t, next.refresh, a.refreshed(now.refresh).refresh, "the grace period is as ever")
		a.refresh(mine.refresh).isError(t, 400, "invalid_grant")
		a.lives(next, true)
	})

	t.Run("136_changes_in_one_second", func(t *testing.T) {
		for mode, edit := range []func(*oauth2pw.Config){
			func(*oauth2pw.Config) {},
			func(c *oauth2pw.Config) { c.StatelessTokens = true }, // the user alone is read
			func(c *oauth2pw.Config) { c.LoadUser = false },       // the session alone is
		} {
			a := newSessionApp(t, edit)
			tokens := []pair{a.login()}
			for i := range 4 {
				a.clock.Advance(time.Millisecond)
				tokens = append(tokens, a.changed(tokens[i], []string{"secret", "a", "b", "c"}[i], []string{"a", "b", "c", "d"}[i]))
				for _, old := range tokens[:i+1] {
					require.Equal(t, 401, a.get("/status", old.access).StatusCode, "%d %d", mode, i)
				}
				require.Equal(t, 200, a.get("/status", tokens[i+1].access).StatusCode)
			}
			other := pairOf(a.post("grant_type=password&username=johndoe&password=d"))
			require.Equal(t, 200, a.get("/status", other.access).StatusCode, "a login in the same second")
			a.lives(other, true)
			last := a.changed(other, "d", "e")
			require.Equal(t, 401, a.get("/status", tokens[4].access).StatusCode)
			require.Equal(t, 401, a.get("/status", other.access).StatusCode)
			a.lives(last, true)
		}
	})

	t.Run("58_disabled_deleted", func(t *testing.T) {
		for reason, change := range map[oauth2pw.EventReason]func(a *sessionApp){
			"user_disabled": func(a *sessionApp) {
				require.NoError(t, a.users.Update("u1", func(u *oauth2pw.User) { u.Disabled = true }))
			},
			"user_deleted": func(a *sessionApp) { require.NoError(t, a.users.Delete("u1")) },
			"password_changed": func(a *sessionApp) {
				_, err := a.users.UpdatePasswordHash(t.Context(), "u1", "new:secret", "new:x", a.clock.Now().Add(time.Second))
				require.NoError(t, err)
			},
		} {
			a := newSessionApp(t)
			p := a.login()
			change(a)
			a.takeEvents()
			a.lives(p, false)
			if reason == "password_changed" { // whoever has changed it ends the sessions
				a.saw(oauth2pw.EventRefreshFailed, reason)
			} else {
				a.saw(oauth2pw.EventSessionEnded, reason)
			}
			if reason == "user_disabled" { // and is over for good
				require.NoError(t, a.users.Update("u1", func(u *oauth2pw.User) { u.Disabled = false }))
				a.lives(p, false)
			}
		}
	})

	t.Run("60_one_login_one_family", func(t *testing.T) {
		a := newSessionApp(t)
		one, two := a.login(), a.login()
		require.Equal(t, 200, a.revoke("token="+one.refresh).StatusCode)
		a.lives(one, false)
		two = a.lives(two, true)
		three := a.login()
		n, err := a.auth.EndOtherSessions(t.Context(), "u1", sessionID(t, three.access), "tidy")
		require.NoError(t, err)
		require.Equal(t, 1, n)
		a.saw(oauth2pw.EventSessionEnded, "tidy")
		a.lives(two, false)
		three = a.lives(three, true)
		four, five := a.login(), a.login()
		ended, err := a.auth.EndSession(t.Context(), "u1", sessionID(t, four.access), "one")
		require.NoError(t, err)
		require.True(t, ended)
		ended, err = a.auth.EndSession(t.Context(), "u1", sessionID(t, four.access), "one")
		require.NoError(t, err)
		require.False(t, ended, "once")
		ended, err = a.auth.EndSession(t.Context(), "u3", sessionID(t, five.access), "one")
		require.NoError(t, err)
		require.False(t, ended, "another user's")
		a.lives(four, false)
		n, err = a.auth.EndAllSessions(t.Context(), "u1", "all")
		require.NoError(t, err)
		require.Equal(t, 2, n)
		a.lives(three, false)
		a.lives(five, false)
	})

	t.Run("151_an_empty_id_ends_nothing", func(t *testing.T) {
		a := newSessionApp(t)
		p := a.login()
		_, err := a.auth.EndSession(t.Context(), "u1", "", "x")
		require.ErrorContains(t, err, "the id is empty")
		_, err = a.auth.EndOtherSessions(t.Context(), "u1", "", "x")
		require.ErrorContains(t, err, "keep is empty")
		_, err = a.auth.EndAllSessions(t.Context(), "", "x")
		require.ErrorContains(t, err, "userID is empty")
		_, err = a.auth.EndSession(t.Context(), "", sessionID(t, p.access), "x")
		require.ErrorContains(t, err, "userID is empty")
		bare, _, err := a.ring.Issue(t.Context(), oauth2pw.Principal{Subject: "u1", Scope: "me", AuthTime: a.clock.Now()})
		require.NoError(t, err)
		a.revoke("token="+bare).isError(t, 400, "unsupported_token_type")
		a.lives(p, true)
	})

	t.Run("sessions beyond the limit", func(t *testing.T) {
		a := newSessionApp(t, func(c *oauth2pw.Config) { c.MaxSessions = 3 })
		var logins []pair
		for i := range 3 {
			logins = append(logins, a.login())
			a.clock.Advance(time.Duration(i+1) * time.Second)
		}
		logins[0] = a.refreshed(logins[0].refresh) // so that the second is idle longest
		a.clock.Advance(time.Second)
		a.takeEvents()
		fourth := a.login()
		a.saw(oauth2pw.EventSessionEnded, "limit")
		a.lives(logins[1], false)
		for _, p := range []pair{logins[0], logins[2], fourth} {
			a.lives(p, true)
		}
	})
}

// TestMaxSessions: with a login beyond the limit the sessions that were never refreshed end
// first, the oldest of them, so that a script that logs in every few minutes logs no
// sleeping phone out; then the ones that have been idle longest.
func TestMaxSessions(t *testing.T) {
	t.Run("the one that was refreshed stays", func(t *testing.T) {
		a := newSessionApp(t, func(c *oauth2pw.Config) { c.MaxSessions = 2 })
		phone := a.login()
		phone = a.refreshed(phone.refresh)
		for range 50 {
			a.clock.Advance(20 * time.Minute)
			a.login()
		}
		a.lives(pair{access: a.refreshed(phone.refresh).access, refresh: a.refreshed(phone.refresh).refresh}, true)
	})
	t.Run("in this order", func(t *testing.T) {
		a := newSessionApp(t, func(c *oauth2pw.Config) { c.MaxSessions = 4 })
		login := func() pair { a.clock.Advance(time.Minute); return a.login() }
		first, second := login(), login()
		third, fourth := login(), login()
		a.clock.Advance(time.Minute)
		second = a.refreshed(second.refresh)
		a.clock.Advance(time.Minute)
		first = a.refreshed(first.refresh) // so that the second is idle longest
		for _, over := range []pair{third, fourth} {
			next := login()
			next = a.refreshed(next.refresh)
			_, err := a.sessions.Get(t.Context(), sessionID(t, over.access))
			require.NoError(t, err)
			require.NotZero(t, a.sessionOf(over).EndedAt)
			require.Equal(t, "limit", a.sessionOf(over).EndReason)
			require.Zero(t, a.sessionOf(next).EndedAt)
		}
		login()
		require.NotZero(t, a.sessionOf(second).EndedAt)
		require.Zero(t, a.sessionOf(first).EndedAt)
	})
	t.Run("what a change of the password has made dead is not counted", func(t *testing.T) {
		a := newSessionApp(t, func(c *oauth2pw.Config) { c.MaxSessions = 2 })
		live := a.login()
		a.clock.Advance(time.Minute)
		now := a.clock.Now()
		for i := range 3 { // the end of which a crash has prevented
			n := oauth2pw.Session{
				ID: fmt.Sprint("dead", i), UserID: "u1", Generation: 5, CreatedAt: now.Add(time.Second), AuthenticatedAt: now.Add(-time.Hour), RefreshedAt: now.Add(time.Second),
				IdleExpiresAt: now.Add(time.Hour), ExpiresAt: now.Add(time.Hour),
			}
			require.NoError(t, a.sessions.Create(t.Context(), &n))
		}
		require.NoError(t, a.users.Update("u1", func(u *oauth2pw.User) { u.SessionsValidFrom = now.Add(-10 * time.Minute) }))
		a.login()
		require.Zero(t, a.sessionOf(live).EndedAt)
	})
}

// sessionID returns the sid of an access token.
func sessionID(t *testing.T, access string) string {
	t.Helper()
	parts := strings.Split(access, ".")
	require.Len(t, parts, 3, "an access token")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	var claims struct {
		SessionID string `json:"sid"`
	}
	require.NoError(t, json.Unmarshal(payload, &claims))
	require.NotEmpty(t, claims.SessionID)
	return claims.SessionID
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
		require.NoError(t, a.users.Update("u1", func(u *oauth2pw.User) { u.Disabled = true }))
		inactive("disabled", p.access)
		inactive("disabled", p.refresh)
		require.NoError(t, a.users.Update("u1", func(u *oauth2pw.User) { u.Disabled = false }))
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

// TestConformanceMetadata: the metadata document.
func TestConformanceMetadata(t *testing.T) {
	urls := oauth2pw.Metadata{
		TokenEndpoint: issuer + "/token", RevocationEndpoint: issuer + "/revoke", IntrospectionEndpoint: issuer + "/introspect",
	}
	document := func(a *app, m oauth2pw.Metadata) answer {
		return serve(a.T, a.auth.MetadataHandler(m), get("/.well-known/oauth-authorization-server"))
	}

	t.Run("93_96_97_document", func(t *testing.T) {
		got := document(newSessionApp(t).app, urls)
		require.Equal(t, 200, got.StatusCode)
		require.Equal(t, "application/json", got.Header.Get("Content-Type"))
		methods := []any{"client_secret_basic", "client_secret_post", "none"}
		require.Equal(t, map[string]any{
			"issuer": issuer, "token_endpoint": issuer + "/token",
			"revocation_endpoint": issuer + "/revoke", "introspection_endpoint": issuer + "/introspect",
			"scopes_supported": []any{"admin", "items", "me"}, "response_types_supported": []any{},
			"grant_types_supported":                         []any{"password", "refresh_token"},
			"token_endpoint_auth_methods_supported":         methods,
			"revocation_endpoint_auth_methods_supported":    methods,
			"introspection_endpoint_auth_methods_supported": methods[:2],
		}, got.json)
		m := urls
		m.JWKSURI, m.RevocationEndpoint, m.IntrospectionEndpoint = issuer+"/jwks", "", ""
		got = document(newApp(t, func(c *oauth2pw.Config) { c.Clients = nil }), m)
		require.Equal(t, issuer+"/jwks", got.json["jwks_uri"])
		require.Equal(t, []any{"none"}, got.json["token_endpoint_auth_methods_supported"])
		require.NotContains(t, got.json, "revocation_endpoint")
		require.NotContains(t, got.json, "revocation_endpoint_auth_methods_supported")
		require.NotContains(t, got.json, "introspection_endpoint_auth_methods_supported")
		a := newApp(t)
		for method, status := range map[string]int{"POST": 405, "DELETE": 405, "HEAD": 200} {
			got := serve(t, a.auth.MetadataHandler(urls), httptest.NewRequest(method, "/", nil))
			require.Equal(t, status, got.StatusCode)
			if status == 405 {
				require.Equal(t, "GET, HEAD", got.Header.Get("Allow"))
			}
		}
	})

	t.Run("94_urls", func(t *testing.T) {
		a := newApp(t)
		for _, edit := range []func(*oauth2pw.Metadata){
			func(m *oauth2pw.Metadata) { m.Issuer = "https://other.example.com" },
			func(m *oauth2pw.Metadata) { m.TokenEndpoint = "" },
			func(m *oauth2pw.Metadata) { m.TokenEndpoint = "/token" },
			func(m *oauth2pw.Metadata) { m.TokenEndpoint = "http://api.example.com/token" },
			func(m *oauth2pw.Metadata) { m.RevocationEndpoint = issuer + "/revoke#x" },
			func(m *oauth2pw.Metadata) { m.JWKSURI = "ftp://x" },
			func(m *oauth2pw.Metadata) { m.JWKSURI = "https://user:pw@x/" },
		} {
			m := urls
			edit(&m)
			require.Panics(t, func() { a.auth.MetadataHandler(m) }, "%+v", m)
		}
		for _, test := range []struct {
			issuer string
			ok     bool
		}{
			{"https://x.example", true},
			{"https://x.example/t1", true},
			{"http://127.0.0.1:8000", true},
			{"http://localhost", true},
			{"http://[::1]:1", true},
			{"http://x.example", false},
			{"https://x.example?", false},
			{"https://x.example?a=b", false},
			{"https://x.example#a", false},
			{"x.example", false},
			{"me", false},
		} {
			a := newApp(t, func(c *oauth2pw.Config) {
				c.Issuer, c.Verifier, c.LoadUser = renamed{c.Issuer.(*tokens.Ring), test.issuer}, c.Issuer.(*tokens.Ring), false
			})
			if !test.ok {
				require.Panics(t, func() { document(a, urls) }, test.issuer)
				continue
			}
			require.Equal(t, test.issuer, document(a, urls).json["issuer"])
		}
	})

	t.Run("95_grants", func(t *testing.T) {
		for want, edit := range map[string]func(*oauth2pw.Config){
			"[password]":                   func(c *oauth2pw.Config) { c.DisableRefresh = true },
			"[refresh_token]":              func(c *oauth2pw.Config) { c.DisablePasswordGrant = true },
			"[]":                           func(c *oauth2pw.Config) { c.DisablePasswordGrant, c.DisableRefresh = true, true },
			"[password refresh_token otp]": func(c *oauth2pw.Config) { c.Grants = grantsNamed("otp") },
		} {
			a := newSessionApp(t, edit)
			require.Equal(t, want, fmt.Sprint(document(a.app, urls).json["grant_types_supported"]))
			if !strings.Contains(want, "password") {
				a.post(login).isError(t, 400, "unsupported_grant_type")
			}
		}
	})
}

// renamed is a ring under another name.
type renamed struct {
	*tokens.Ring
	name string
}

func (r renamed) Issuer() string { return r.name }
