package oauth2pw_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// TestConformanceSessions: one login is one session, until it is ended.
func TestConformanceSessions(t *testing.T) {
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
}

// TestConformanceSessionEnds: a session ends by its age, and with its user.
func TestConformanceSessionEnds(t *testing.T) {
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

	t.Run("58_disabled_deleted", func(t *testing.T) {
		for reason, change := range map[oauth2pw.EventReason]func(a *sessionApp){
			"user_disabled": func(a *sessionApp) {
				require.NoError(t, a.users.Update(context.Background(), "u1", func(u *oauth2pw.User) error { u.Disabled = true; return nil }))
			},
			"user_deleted": func(a *sessionApp) { require.NoError(t, a.users.Delete(context.Background(), "u1")) },
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
			if reason == "user_disabled" { // the session stays ended
				require.NoError(t, a.users.Update(context.Background(), "u1", func(u *oauth2pw.User) error { u.Disabled = false; return nil }))
				a.lives(p, false)
			}
		}
	})
}

// TestConformancePasswordChange: after a change of the password no token from before works.
func TestConformancePasswordChange(t *testing.T) {
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
			mine := a.refreshed(a.login().refresh)
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
		}
	})

	t.Run("136_every_token_from_before", func(t *testing.T) {
		for _, refreshes := range []int{0, 1, 3} {
			a := newSessionApp(t)
			zero := a.login()
			mine := a.refreshed(zero.refresh)
			now := a.changed(mine, "secret", "new")
			for range refreshes {
				now = a.refreshed(now.refresh)
			}
			a.clock.Advance(25 * time.Second)
			a.refresh(zero.refresh).isError(t, 400, "invalid_grant")
			a.refresh(mine.refresh).isError(t, 400, "invalid_grant")
			now = a.refreshed(now.refresh)
			a.clock.Advance(10 * time.Second)
			a.refresh(mine.refresh).isError(t, 400, "invalid_grant") // later it is reuse
			a.refresh(now.refresh).isError(t, 400, "invalid_grant")
		}
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
}

// TestMaxSessions: with a login beyond the limit the sessions that were never refreshed end
// first, the oldest of them, so that a script that logs in every few minutes logs no
// sleeping phone out; then the ones that have been idle longest.
func TestMaxSessions(t *testing.T) {
	t.Run("the one idle longest ends", func(t *testing.T) {
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
		require.NoError(t, a.users.Update(context.Background(), "u1", func(u *oauth2pw.User) error { u.SessionsValidFrom = now.Add(-10 * time.Minute); return nil }))
		a.login()
		require.Zero(t, a.sessionOf(live).EndedAt)
	})
}
