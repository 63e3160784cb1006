package oauth2pw_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/tokens"
)

// TestSessionCache: off, at every request, or remembered for a bounded time.
//
// Conformance 73.
func TestSessionCache(t *testing.T) {
	t.Run("off", func(t *testing.T) {
		a := newSessionApp(t, func(c *oauth2pw.Config) { c.StatelessTokens = true })
		p := a.login()
		require.Equal(t, 200, a.revoke("token="+p.access).StatusCode)
		require.Equal(t, 200, a.status(p), "it lives until it expires")
		a.clock.Advance(15*time.Minute + time.Second)
		require.Equal(t, 401, a.status(p))
	})

	t.Run("at every request", func(t *testing.T) {
		a, s := newScriptedApp(t)
		p := a.login()
		s.take("SessionStore.Get")
		require.Equal(t, 200, a.status(p))
		require.Equal(t, 200, a.status(p))
		require.Equal(t, 2, s.take("SessionStore.Get"))
		a.endElsewhere(p)
		require.Equal(t, 401, a.status(p))
	})

	t.Run("remembered", func(t *testing.T) {
		a, s := newScriptedApp(t, func(c *oauth2pw.Config) { c.SessionCache = time.Minute })
		p, other := a.login(), a.login()
		s.take("SessionStore.Get")
		for range 3 {
			require.Equal(t, 200, a.status(p))
		}
		require.Equal(t, 1, s.take("SessionStore.Get"))
		a.clock.Advance(time.Minute - time.Microsecond)
		require.Equal(t, 200, a.status(p))
		require.Zero(t, s.take("SessionStore.Get"))
		a.endElsewhere(p) // elsewhere: noticed when the memory is old
		require.Equal(t, 200, a.status(p))
		a.clock.Advance(time.Microsecond)
		require.Equal(t, 401, a.status(p))
		s.take("SessionStore.Get")
		for range 3 { // an ended session is not remembered
			require.Equal(t, 401, a.status(p))
		}
		require.Equal(t, 3, s.take("SessionStore.Get"))
		require.Equal(t, 200, a.status(other))
		other = a.changed(other, "secret", "x")
		s.take("SessionStore.Get")
		for range 3 { // the session that was kept is read once, and remembered anew
			require.Equal(t, 200, a.status(other))
		}
		require.Equal(t, 1, s.take("SessionStore.Get"))
		require.Equal(t, 200, a.revoke("token="+other.access).StatusCode) // here: noticed at once
		require.Equal(t, 401, a.status(other))
	})

	t.Run("a slow read cannot write an end back", func(t *testing.T) {
		a, s := newScriptedApp(t, func(c *oauth2pw.Config) { c.SessionCache = time.Hour })
		p := a.login()
		var n int
		var err error
		s.after("SessionStore.Get", once(func() { n, err = a.auth.EndAllSessions(t.Context(), "u1", "logout") }))
		require.Equal(t, 200, a.status(p), "it was read before")
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.Equal(t, 401, a.status(p))
	})

	t.Run("an end that may have failed forgets everything", func(t *testing.T) {
		a, s := newScriptedApp(t, func(c *oauth2pw.Config) { c.SessionCache = time.Hour })
		p := a.login()
		require.Equal(t, 200, a.status(p))
		s.after("SessionStore.End", fails(errors.New("the answer was lost")))
		_, err := a.auth.EndAllSessions(t.Context(), "u1", "logout")
		require.Error(t, err)
		require.Equal(t, 401, a.status(p))
	})

	t.Run("bounded", func(t *testing.T) {
		a := newSessionApp(t, func(c *oauth2pw.Config) {
			c.SessionCache, c.LoadUser, c.Verifier = time.Hour, false, anySession{}
		})
		for i := range 1<<16 + 1000 {
			n := oauth2pw.Session{ID: fmt.Sprint(i), UserID: "u1", IdleExpiresAt: a.clock.Now().Add(time.Hour), ExpiresAt: a.clock.Now().Add(time.Hour)}
			require.NoError(t, a.sessions.Create(t.Context(), &n))
			_, err := a.auth.Verify(t.Context(), n.ID)
			require.NoError(t, err)
		}
		require.LessOrEqual(t, oauth2pw.KnownSessions(a.auth), 1<<16)
	})
}

// TestSessionCacheRefuses: a remembered session opens nothing to another token, and is forgotten
// in time.
//
// Conformance 73.
func TestSessionCacheRefuses(t *testing.T) {
	t.Run("remembered anew after a change", func(t *testing.T) {
		a := newSessionApp(t, func(c *oauth2pw.Config) { c.SessionCache, c.LoadUser = time.Hour, false })
		p := a.login()
		require.Equal(t, 200, a.status(p))
		now := a.changed(p, "secret", "x")
		require.Equal(t, 200, a.status(now))
		require.Equal(t, 401, a.status(p), "what is remembered is not for the token from before")
		require.Equal(t, 200, a.status(now))
	})

	t.Run("a clock that is set back keeps nothing longer", func(t *testing.T) {
		a := newSessionApp(t, func(c *oauth2pw.Config) { c.SessionCache, c.LoadUser = time.Minute, false })
		p := a.login()
		a.clock.Advance(10 * time.Second)
		require.Equal(t, 200, a.status(p))
		a.endElsewhere(p)
		a.clock.Advance(-5 * time.Second)
		require.Equal(t, 401, a.status(p), "it was remembered in the future")
	})

	t.Run("not beyond the end of the session", func(t *testing.T) {
		a := newSessionApp(t, func(c *oauth2pw.Config) { c.SessionCache, c.RefreshIdle = time.Hour, time.Minute })
		p := a.login()
		require.Equal(t, 200, a.status(p))
		a.clock.Advance(time.Minute)
		require.Equal(t, 401, a.status(p))
	})

	t.Run("a token of another user's session", func(t *testing.T) {
		a := newSessionApp(t, func(c *oauth2pw.Config) { c.SessionCache = time.Hour })
		p := a.login()
		require.Equal(t, 200, a.status(p)) // from here on it is remembered
		forged, _, err := a.ring.Issue(t.Context(), oauth2pw.Principal{Subject: "u3", SessionID: sessionID(t, p.access), AuthTime: a.clock.Now()})
		require.NoError(t, err)
		a.get("/status", forged).isError(t, 401, "invalid_token")
		forged, _, err = a.ring.Issue(t.Context(), oauth2pw.Principal{Subject: "u1", ClientID: "webapp", SessionID: sessionID(t, p.access), AuthTime: a.clock.Now()})
		require.NoError(t, err)
		a.get("/status", forged).isError(t, 401, "invalid_token")
	})

	t.Run("a session that the store has lost", func(t *testing.T) {
		a := newSessionApp(t)
		p := a.login()
		a.clock.Advance(-1000 * time.Hour)
		b := a.again(func(c *oauth2pw.Config) { c.Sessions = new(store.Sessions) })
		b.get("/status", p.access).isError(t, 401, "invalid_token")
	})
}

// endElsewhere ends the session of a token of johndoe as another process would.
func (a *sessionApp) endElsewhere(p pair) {
	a.Helper()
	ids, err := a.sessions.End(a.Context(), oauth2pw.SessionFilter{UserID: "u1", ID: sessionID(a.T, p.access)}, "x", a.clock.Now())
	require.NoError(a, err)
	require.Len(a, ids, 1)
}

// status is that of a request with an access token.
func (a *sessionApp) status(p pair) int {
	a.Helper()
	return a.get("/status", p.access).StatusCode
}

// anySession takes a session ID for a token.
type anySession struct{}

func (anySession) Verify(_ context.Context, token string) (oauth2pw.Principal, error) {
	return oauth2pw.Principal{Issuer: issuer, Subject: "u1", SessionID: token}, nil
}

// TestForeignTokens: the sid and the sub of another issuer's token are not looked
// up, and its token is not ours to revoke or to show.
func TestForeignTokens(t *testing.T) {
	key, _, err := tokens.NewKey("")
	require.NoError(t, err)
	var both *either
	a := newSessionApp(t, func(c *oauth2pw.Config) {
		ring, err := tokens.New(tokens.Config{Keys: []tokens.Key{key}, Issuer: "https://other.example", Audience: audience, Now: c.Now})
		require.NoError(t, err)
		both = &either{c.Issuer.(*tokens.Ring), ring}
		c.Verifier = both
	})
	p := a.login()
	foreign, _, err := both.theirs.Issue(t.Context(), oauth2pw.Principal{Subject: "u1", Scope: "me", SessionID: sessionID(t, p.access), AuthTime: a.clock.Now()})
	require.NoError(t, err)
	require.Equal(t, 200, a.get("/me", foreign).StatusCode)
	require.Equal(t, `{"active":false}`, a.introspect(foreign).body)
	require.Equal(t, 200, a.revoke("token="+foreign).StatusCode)
	p = a.lives(p, true)
	require.Equal(t, 200, a.revoke("token="+p.refresh).StatusCode)
	require.Equal(t, 200, a.get("/me", foreign).StatusCode)
}

type either struct{ ours, theirs *tokens.Ring }

func (e *either) Verify(ctx context.Context, token string) (oauth2pw.Principal, error) {
	p, err := e.ours.Verify(ctx, token)
	if err != nil {
		return e.theirs.Verify(ctx, token)
	}
	return p, nil
}
