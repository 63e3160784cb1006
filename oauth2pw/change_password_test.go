package oauth2pw_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// TestChangePassword: a refusal changes nothing.
func TestChangePassword(t *testing.T) {
	check := func(_ context.Context, u *oauth2pw.User, password string) error {
		switch password {
		case "weak":
			return &oauth2pw.Error{Code: "invalid_request", Description: "Too weak."}
		case "busy":
			return &oauth2pw.Error{Code: "slow_down"}
		case "down":
			return errors.New("the breach service is down")
		}
		return nil
	}
	for _, test := range []struct {
		name, user, old, new string
		status               int
		code, text           string
	}{
		{name: "wrong old password", user: "u1", old: "wrong", new: "weak", status: 403, code: "invalid_grant"},
		{name: "empty old password", user: "u1", old: "", new: "fine", status: 403, code: "invalid_grant"},
		{name: "long old password", user: "u1", old: strings.Repeat("x", 1025), new: "fine", status: 403, code: "invalid_grant"},
		{name: "unknown user", user: "nobody", old: "secret", new: "fine", status: 403, code: "invalid_grant"},
		{name: "disabled user", user: "u2", old: "secret2", new: "fine", status: 403, code: "invalid_grant"},
		{name: "user without a password", user: "u5", old: "x", new: "fine", status: 403, code: "invalid_grant"},
		{name: "empty new password", user: "u1", old: "secret", new: "", status: 422, code: "invalid_request"},
		{name: "long new password", user: "u1", old: "secret", new: strings.Repeat("x", 1025), status: 422, code: "invalid_request"},
		{name: "refused new password", user: "u1", old: "secret", new: "weak", status: 422, code: "invalid_request", text: "Too weak."},
		{name: "check that fails", user: "u1", old: "secret", new: "down", status: 503, code: "temporarily_unavailable"},
		{name: "check that answers for itself", user: "u1", old: "secret", new: "busy", status: 429, code: "slow_down"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newSessionApp(t, func(c *oauth2pw.Config) { c.CheckNewPassword, c.LoadUser = check, false })
			p, token := a.login(), a.tokenFor(test.user)
			a.hasher.take()
			a.takeEvents()
			got := a.change(token, test.old, test.new)
			require.Equal(t, 1, a.hasher.take(), "one verification, whatever is wrong")
			events := a.takeEvents()
			require.Len(t, events, 1)
			require.NotContains(t, fmt.Sprint(events), "secret")
			got.isError(t, test.status, test.code)
			require.Contains(t, got.body, test.text)
			a.lives(p, true)
			require.Equal(t, 200, a.get("/status", token).StatusCode)
		})
	}
}

// TestChangePasswordToken: whose token may change a password.
func TestChangePasswordToken(t *testing.T) {
	t.Run("whose token it is", func(t *testing.T) {
		a := newSessionApp(t, func(c *oauth2pw.Config) { c.StatelessTokens, c.LoadUser = true, false })
		p, ended := a.login(), a.login()
		require.Equal(t, 200, a.revoke("token="+ended.refresh).StatusCode)
		bare, _, err := a.ring.Issue(t.Context(), oauth2pw.Principal{Subject: "u1", AuthTime: a.clock.Now()})
		require.NoError(t, err)
		others, _, err := a.ring.Issue(t.Context(), oauth2pw.Principal{Subject: "u3", SessionID: sessionID(t, p.access), AuthTime: a.clock.Now()})
		require.NoError(t, err)
		gone, _, err := a.ring.Issue(t.Context(), oauth2pw.Principal{Subject: "u1", SessionID: "x", AuthTime: a.clock.Now()})
		require.NoError(t, err)
		early, _, err := a.ring.Issue(t.Context(), oauth2pw.Principal{Subject: "u1", SessionID: sessionID(t, p.access), AuthTime: a.clock.Now().Add(-time.Minute)})
		require.NoError(t, err)
		for token, reason := range map[string]oauth2pw.EventReason{ended.access: "session_over", bare: "no_session", others: "session_over", gone: "session_over", early: "session_over"} {
			a.takeEvents()
			a.change(token, "secret", "fine").isError(t, 403, "access_denied")
			a.saw(oauth2pw.EventPasswordRefused, reason)
		}
		// Without the middleware, or with a principal that nobody has verified.
		r := post("")
		_, err = a.auth.ChangePassword(r, "secret", "fine")
		require.ErrorContains(t, err, "access_denied")
		r = r.WithContext(oauth2pw.WithPrincipal(r.Context(), oauth2pw.Principal{Issuer: issuer, Subject: "u1", SessionID: sessionID(t, p.access), AuthTime: a.clock.Now()}))
		_, err = a.auth.ChangePassword(r, "secret", "fine")
		require.ErrorContains(t, err, "access_denied")
		a.lives(p, true)
		require.Equal(t, 200, a.post(login).StatusCode, "and nothing has changed")
	})

	t.Run("a dead session is not revived", func(t *testing.T) {
		a := newSessionApp(t, func(c *oauth2pw.Config) { c.LoadUser = false })
		p := a.login()
		_, err := a.users.UpdatePasswordHash(t.Context(), "u1", "new:secret", "new:x", a.clock.Now().Add(time.Millisecond))
		require.NoError(t, err)
		a.clock.Advance(time.Second)
		a.change(p.access, "x", "y").isError(t, 403, "access_denied")
	})
}

// TestChangePasswordConfig: the change under other settings.
func TestChangePasswordConfig(t *testing.T) {
	t.Run("without sessions", func(t *testing.T) {
		a := newApp(t)
		token := a.token("me items")
		a.clock.Advance(10 * time.Second)
		got := a.change(token, "secret", "new")
		require.Equal(t, 200, got.StatusCode, got.body)
		now := pairOf(got)
		require.Empty(t, now.refresh)
		require.Equal(t, 200, a.get("/items", now.access).StatusCode)
		require.Equal(t, 401, a.get("/items", token).StatusCode)
		_, err := a.auth.EndAllSessions(t.Context(), "u1", "x")
		require.ErrorContains(t, err, "Config.Sessions")
		require.ErrorContains(t, a.auth.SweepSessions(t.Context(), 0), "Config.Sessions")
	})

	t.Run("a client that may not refresh", func(t *testing.T) {
		a := newSessionApp(t)
		p := a.login("client_id=once")
		require.Empty(t, p.refresh)
		got := a.change(p.access, "secret", "new")
		require.Equal(t, 200, got.StatusCode, got.body)
		now := pairOf(got)
		require.Empty(t, now.refresh)
		require.Equal(t, 200, a.get("/status", now.access).StatusCode)
		require.Equal(t, 401, a.get("/status", p.access).StatusCode)
		a.clock.Advance(15*time.Minute - 500*time.Millisecond) // its session ends with its first access token
		a.change(now.access, "new", "newer").isError(t, 403, "access_denied")
	})

	t.Run("what it needs", func(t *testing.T) {
		a := newSessionApp(t, func(c *oauth2pw.Config) { c.Users = struct{ oauth2pw.UserStore }{c.Users} })
		_, err := a.auth.ChangePassword(post(""), "secret", "x")
		e := (*oauth2pw.Error)(nil)
		require.ErrorAs(t, err, &e)
		require.Equal(t, "server_error", e.Code)
		require.ErrorContains(t, errors.Unwrap(err), "PasswordUpdater")
		require.ErrorContains(t, a.saw(oauth2pw.EventUnavailable, "").Err, "PasswordUpdater")
	})

	t.Run("a plug that panics", func(t *testing.T) {
		a := newSessionApp(t, func(c *oauth2pw.Config) {
			c.CheckNewPassword = func(context.Context, *oauth2pw.User, string) error { panic("secret") }
		})
		p := a.login()
		a.takeEvents()
		a.change(p.access, "secret", "x").isError(t, 500, "server_error")
		require.Equal(t, oauth2pw.EventPanic, a.event().Kind)
	})
}
