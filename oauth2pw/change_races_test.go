package oauth2pw_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// The races and the failures of a change of the password. A request or a failure comes between
// two of its calls of a store, at the worst place.

// TestRacesOfChangeAndRequests: other requests of the same user come while the password changes.
//
// Conformance 136, 146.
func TestRacesOfChangeAndRequests(t *testing.T) {
	t.Run("a refresh in another tab while the password changes", func(t *testing.T) {
		a, s := newScriptedApp(t)
		p := a.login()
		var next answer
		s.before("PasswordUpdater.UpdatePasswordHash", once(func() { next = a.refresh(p.refresh) }))
		now := a.changed(p, "secret", "new")
		a.refresh(a.granted(next).refresh).isError(t, 400, "invalid_grant") // refused, and nothing ends
		a.lives(now, true)
	})

	t.Run("a refresh in another tab after the new hash", func(t *testing.T) {
		a, s := newScriptedApp(t)
		p := a.login()
		var refused answer
		s.before("SessionStore.Advance", once(func() { refused = a.refresh(p.refresh) }))
		now := a.changed(p, "secret", "new")
		refused.isError(t, 400, "invalid_grant")
		a.saw(oauth2pw.EventRefreshFailed, "password_changed")
		a.lives(now, true)
	})

	t.Run("a log-out while the password changes", func(t *testing.T) {
		a, s := newScriptedApp(t)
		p, other := a.login(), a.login()
		var revoked answer
		s.before("SessionStore.Advance", once(func() { revoked = a.revoke("token=" + p.refresh) }))
		got := a.change(p.access, "secret", "new")
		got.isError(t, 503, "temporarily_unavailable")
		require.Equal(t, "The password has changed. Log in again.", got.json["error_description"])
		require.Equal(t, 200, revoked.StatusCode)
		a.saw(oauth2pw.EventPasswordChanged, "")
		a.lives(p, false)
		a.lives(other, false)
		require.Equal(t, 200, a.post("grant_type=password&username=johndoe&password=new").StatusCode)
	})

	t.Run("a hash that is upgraded while the password changes", func(t *testing.T) {
		a, s := newScriptedApp(t)
		token := a.tokenFor("u3")
		var upgrading answer
		s.before("PasswordUpdater.UpdatePasswordHash", once(func() { upgrading = a.post(right("old")) }))
		require.Equal(t, 200, a.change(token, "secret", "changed").StatusCode)
		a.granted(upgrading)
		require.Equal(t, 200, a.post("grant_type=password&username=old&password=changed").StatusCode)
	})

	t.Run("a client that hangs up after the new hash", func(t *testing.T) {
		a, s := newScriptedApp(t)
		p, other := a.login(), a.login()
		ctx, hangUp := context.WithCancel(t.Context())
		s.after("PasswordUpdater.UpdatePasswordHash", once(hangUp))
		now := a.granted(a.serve(post(changeForm("secret", "new"), to("/password"), with(bearer(p.access)), during(ctx))))
		require.Error(t, ctx.Err())
		a.lives(now, true)
		a.lives(other, false)
	})
}

// TestRacesOfTwoChanges: a change of the password begins within another one.
//
// Conformance 136, 146.
func TestRacesOfTwoChanges(t *testing.T) {
	// next logs in with the new password, and changes it again.
	next := func(a *sessionApp, password, newer string) answer {
		return a.change(pairOf(a.post("grant_type=password&username=johndoe&password="+password)).access, password, newer)
	}

	t.Run("a change that is overtaken by the next one ends nothing of it", func(t *testing.T) {
		a, s := newScriptedApp(t)
		p := a.login()
		var second answer
		s.before("SessionStore.Advance", once(func() { second = next(a, "new", "newest") }))
		a.change(p.access, "secret", "new").isError(t, 503, "temporarily_unavailable")
		a.lives(a.granted(second), true)
		a.lives(p, false)
	})

	t.Run("a change that is slow to end the others ends nothing of the next one", func(t *testing.T) {
		a, s := newScriptedApp(t)
		mine, other := a.login(), a.login()
		a.clock.Advance(time.Second)
		var second answer
		s.before("SessionStore.End", once(func() { second = next(a, "n1", "n2") }))
		require.Equal(t, 200, a.change(mine.access, "secret", "n1").StatusCode)
		a.lives(a.granted(second), true)
		a.lives(other, false)
		a.lives(mine, false)
	})

	t.Run("a slow change does not outlive the next one", func(t *testing.T) {
		a, s := newScriptedApp(t)
		mine := a.login()
		a.clock.Advance(time.Millisecond)
		var second answer
		s.before("SessionStore.End", fails(errors.New("down"))) // the end of the others, in both
		s.after("PasswordUpdater.UpdatePasswordHash", once(func() {
			a.clock.Advance(time.Millisecond)
			second = next(a, "n1", "n2")
			a.clock.Advance(1500 * time.Millisecond)
		}))
		got := a.granted(a.change(mine.access, "secret", "n1"))
		s.end()
		a.granted(second)
		require.Equal(t, 2, s.take("SessionStore.End"))
		require.Equal(t, 401, a.get("/status", got.access).StatusCode)
		a.refresh(got.refresh).isError(t, 400, "invalid_grant")
	})
}

// TestRacesOfChangeAndFailure: a plug fails after the new hash. The change holds, and no session
// from before lives.
//
// Conformance 136, 146.
func TestRacesOfChangeAndFailure(t *testing.T) {
	t.Run("a crash between the new hash and the end of the other sessions", func(t *testing.T) {
		a, s := newScriptedApp(t)
		mine, other := a.login(), a.login()
		s.before("SessionStore.End", fails(errors.New("crashed")))
		a.takeEvents()
		mine = a.changed(mine, "secret", "new")
		a.saw(oauth2pw.EventUnavailable, "SessionStore.End")
		require.Equal(t, 401, a.get("/status", other.access).StatusCode)
		s.end()
		require.Equal(t, 2, a.live("u1"), "the store does not know it yet")
		a.lives(other, false)
		a.lives(mine, true)
	})

	t.Run("sessions of a clock ahead, and nobody ends them", func(t *testing.T) {
		for _, stateless := range []bool{false, true} {
			a, s := newScriptedApp(t, func(c *oauth2pw.Config) { c.StatelessTokens = stateless })
			a.clock.Advance(980 * time.Millisecond)
			mine := a.login()
			a.clock.Advance(20 * time.Millisecond) // that of another process
			other := a.login()
			a.clock.Advance(-15 * time.Millisecond)
			s.before("SessionStore.End", fails(errors.New("crashed")))
			now := a.changed(mine, "secret", "new")
			s.end()
			require.Equal(t, 1, s.take("SessionStore.End"))
			a.clock.Advance(time.Minute)
			require.Equal(t, 401, a.get("/status", other.access).StatusCode)
			a.refresh(other.refresh).isError(t, 400, "invalid_grant")
			a.lives(now, true)
		}
	})

	t.Run("a plug that panics", func(t *testing.T) {
		a, s := newScriptedApp(t, func(c *oauth2pw.Config) { c.LoadUser = false })
		mine, other := a.login(), a.login()
		s.before("SessionStore.Advance", once(func() { panic("driver") }))
		got := a.change(mine.access, "secret", "new")
		got.isError(t, 503, "temporarily_unavailable")
		require.Equal(t, "The password has changed. Log in again.", got.json["error_description"])
		a.saw(oauth2pw.EventPasswordChanged, "")
		a.lives(mine, false)
		a.lives(other, false)
	})

	t.Run("a session that cannot be moved on ends", func(t *testing.T) {
		a, s := newScriptedApp(t, func(c *oauth2pw.Config) { c.LoadUser = false })
		p, other := a.login(), a.login()
		s.before("SessionStore.Advance", fails(errors.New("down")))
		a.change(p.access, "secret", "new").isError(t, 503, "temporarily_unavailable")
		s.end()
		require.Zero(t, a.live("u1"), "nobody has its tokens")
		a.lives(other, false)
		a.lives(p, false)
	})
}
