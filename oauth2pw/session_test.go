package oauth2pw_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
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
	end := func(a *sessionApp, p pair) { // as another process would
		ids, err := a.sessions.End(a.Context(), oauth2pw.SessionFilter{UserID: "u1", ID: sessionID(a.T, p.access)}, "x", a.clock.Now())
		require.NoError(a, err)
		require.Len(a, ids, 1)
	}
	status := func(a *sessionApp, p pair) int { return a.get("/status", p.access).StatusCode }

	t.Run("off", func(t *testing.T) {
		a := newSessionApp(t, func(c *oauth2pw.Config) { c.StatelessTokens = true })
		p := a.login()
		require.Equal(t, 200, a.revoke("token="+p.access).StatusCode)
		require.Equal(t, 200, status(a, p), "it lives until it expires")
		a.clock.Advance(15*time.Minute + time.Second)
		require.Equal(t, 401, status(a, p))
	})

	t.Run("at every request", func(t *testing.T) {
		a, s := newScriptedApp(t)
		p := a.login()
		s.take("SessionStore.Get")
		require.Equal(t, 200, status(a, p))
		require.Equal(t, 200, status(a, p))
		require.Equal(t, 2, s.take("SessionStore.Get"))
		end(a, p)
		require.Equal(t, 401, status(a, p))
	})

	t.Run("remembered", func(t *testing.T) {
		a, s := newScriptedApp(t, func(c *oauth2pw.Config) { c.SessionCache = time.Minute })
		p, other := a.login(), a.login()
		s.take("SessionStore.Get")
		for range 3 {
			require.Equal(t, 200, status(a, p))
		}
		require.Equal(t, 1, s.take("SessionStore.Get"))
		a.clock.Advance(time.Minute - time.Microsecond)
		require.Equal(t, 200, status(a, p))
		require.Zero(t, s.take("SessionStore.Get"))
		end(a, p) // elsewhere: noticed when the memory is old
		require.Equal(t, 200, status(a, p))
		a.clock.Advance(time.Microsecond)
		require.Equal(t, 401, status(a, p))
		s.take("SessionStore.Get")
		for range 3 { // that it is over is not remembered
			require.Equal(t, 401, status(a, p))
		}
		require.Equal(t, 3, s.take("SessionStore.Get"))
		require.Equal(t, 200, status(a, other))
		other = a.changed(other, "secret", "x")
		s.take("SessionStore.Get")
		for range 3 { // the session that was kept is read once, and remembered anew
			require.Equal(t, 200, status(a, other))
		}
		require.Equal(t, 1, s.take("SessionStore.Get"))
		require.Equal(t, 200, a.revoke("token="+other.access).StatusCode) // here: noticed at once
		require.Equal(t, 401, status(a, other))
	})

	t.Run("remembered anew after a change", func(t *testing.T) {
		a := newSessionApp(t, func(c *oauth2pw.Config) { c.SessionCache, c.LoadUser = time.Hour, false })
		p := a.login()
		require.Equal(t, 200, status(a, p))
		now := a.changed(p, "secret", "x")
		require.Equal(t, 200, status(a, now))
		require.Equal(t, 401, status(a, p), "what is remembered is not for the token from before")
		require.Equal(t, 200, status(a, now))
	})

	t.Run("a clock that is set back keeps nothing longer", func(t *testing.T) {
		a := newSessionApp(t, func(c *oauth2pw.Config) { c.SessionCache, c.LoadUser = time.Minute, false })
		p := a.login()
		a.clock.Advance(10 * time.Second)
		require.Equal(t, 200, status(a, p))
		end(a, p)
		a.clock.Advance(-5 * time.Second)
		require.Equal(t, 401, status(a, p), "it was remembered in the future")
	})

	t.Run("a slow read cannot write an end back", func(t *testing.T) {
		a, s := newScriptedApp(t, func(c *oauth2pw.Config) { c.SessionCache = time.Hour })
		p := a.login()
		var n int
		var err error
		s.after("SessionStore.Get", once(func() { n, err = a.auth.EndAllSessions(t.Context(), "u1", "logout") }))
		require.Equal(t, 200, status(a, p), "it was read before")
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.Equal(t, 401, status(a, p))
	})

	t.Run("an end that may have failed forgets everything", func(t *testing.T) {
		a, s := newScriptedApp(t, func(c *oauth2pw.Config) { c.SessionCache = time.Hour })
		p := a.login()
		require.Equal(t, 200, status(a, p))
		s.after("SessionStore.End", fails(errors.New("the answer was lost")))
		_, err := a.auth.EndAllSessions(t.Context(), "u1", "logout")
		require.Error(t, err)
		require.Equal(t, 401, status(a, p))
	})

	t.Run("not beyond the end of the session", func(t *testing.T) {
		a := newSessionApp(t, func(c *oauth2pw.Config) { c.SessionCache, c.RefreshIdle = time.Hour, time.Minute })
		p := a.login()
		require.Equal(t, 200, status(a, p))
		a.clock.Advance(time.Minute)
		require.Equal(t, 401, status(a, p))
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

	t.Run("a token of another user's session", func(t *testing.T) {
		a := newSessionApp(t, func(c *oauth2pw.Config) { c.SessionCache = time.Hour })
		p := a.login()
		require.Equal(t, 200, status(a, p)) // from here on it is remembered
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

// TestChangePassword: what it refuses, and that a refusal changes nothing.
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

// TestLogin: tokens for a user whom the app has identified itself.
func TestLogin(t *testing.T) {
	a := newSessionApp(t)
	r := post("", to("/signup"), from("192.0.2.7"), with("User-Agent: browser\x00\x1b[31m\xff "+strings.Repeat("é", 300)))
	got, err := a.auth.Login(r, "u1", "", "items", "items")
	require.NoError(t, err)
	require.Equal(t, "items", got.Scope)
	require.Equal(t, 15*time.Minute, got.ExpiresIn)
	s := a.session("u1")
	require.Equal(t, s.ID, got.SessionID)
	require.Equal(t, "192.0.2.7", s.Address.String())
	require.LessOrEqual(t, len(s.UserAgent), 256)
	require.True(t, strings.HasPrefix(s.UserAgent, "browser[31m é"), "%q", s.UserAgent)
	e := a.saw(oauth2pw.EventLogin, "")
	require.Equal(t, "192.0.2.7", e.Address.String())
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", got, *got, got), string(got.RefreshToken))
	written := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { got.Write(w) }), r)
	require.Equal(t, "no-store", written.Header.Get("Cache-Control"))
	p := pairOf(written)
	require.Equal(t, map[string]any{"access_token": p.access, "token_type": "bearer", "expires_in": 900.0, "refresh_token": p.refresh, "scope": "items"}, written.json)
	a.lives(p, true)

	for _, test := range []struct {
		user, client string
		scopes       []string
		code         string
	}{
		{"nobody", "", nil, "invalid_grant"},
		{"u2", "", nil, "invalid_grant"},
		{"u1", "nobody", nil, "invalid_client"},
		{"u1", "", []string{"admin"}, "invalid_scope"},
		{"u1", "", []string{"a b"}, "invalid_scope"},
		{"u1", "narrow", []string{"items"}, "invalid_scope"},
	} {
		a.takeEvents()
		_, err := a.auth.Login(r, test.user, test.client, test.scopes...)
		var refused *oauth2pw.Error
		require.ErrorAs(t, err, &refused)
		require.Equal(t, test.code, refused.Code)
		require.Len(t, a.takeEvents(), 1)
	}
	got, err = a.auth.Login(r, "u1", "once")
	require.NoError(t, err)
	require.Empty(t, got.RefreshToken)
}

// TestSweepSessions: a day after they are over, in batches, until the context ends.
//
// Conformance 131.
func TestSweepSessions(t *testing.T) {
	a, s := newScriptedApp(t)
	now := a.clock.Now()
	for i := range 2500 {
		n := oauth2pw.Session{ID: fmt.Sprint(i), UserID: "u1", IdleExpiresAt: now, ExpiresAt: now}
		require.NoError(t, a.sessions.Create(t.Context(), &n))
	}
	p := a.login()
	count := func() int {
		_, err := a.sessions.Get(t.Context(), "0")
		if err != nil {
			return 0
		}
		return 1
	}
	a.clock.Advance(24 * time.Hour)
	require.NoError(t, a.auth.SweepSessions(t.Context(), 0))
	require.Equal(t, 1, count(), "a day is not over yet")
	a.clock.Advance(time.Microsecond)
	s.take("SessionStore.Sweep")
	require.NoError(t, a.auth.SweepSessions(t.Context(), 0))
	require.Equal(t, 3, s.take("SessionStore.Sweep"), "batches")
	require.Zero(t, count())
	a.refreshed(p.refresh)

	s.before("SessionStore.Sweep", fails(errors.New("down")))
	require.ErrorContains(t, a.auth.SweepSessions(t.Context(), 0), "down")
	s.end()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, a.auth.SweepSessions(ended, 0), context.Canceled)

	synctest.Test(t, func(t *testing.T) {
		s.take("SessionStore.Sweep")
		passes := 0
		s.before("SessionStore.Sweep", func(context.Context, string) error {
			if passes++; passes == 2 {
				return errors.New("down")
			}
			return nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.auth.SweepSessions(ctx, time.Hour) }()
		time.Sleep(150 * time.Minute)
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
		require.Equal(t, 3, s.take("SessionStore.Sweep"), "at once, and each hour, failures or not")
	})
	a.saw(oauth2pw.EventUnavailable, "SessionStore.Sweep")
}

// TestAuthorizationOfSessions: a user ends no session of another, whatever the id.
func TestAuthorizationOfSessions(t *testing.T) {
	a := newSessionApp(t)
	p := a.login()
	ended, err := a.auth.EndSession(t.Context(), "u3", sessionID(t, p.access), "x")
	require.NoError(t, err)
	require.False(t, ended)
	a.lives(p, true)
}

// TestThief: a thief has a copy of a refresh token, and uses it and its successors
// at times of his own, while the owner refreshes every ten minutes. The table says
// in which of the owner's periods each is found out; one who comes inside every
// grace period is not, as the comment of Config.RefreshGrace says.
func TestThief(t *testing.T) {
	const period, rounds = 10 * time.Minute, 50
	random := rand.New(rand.NewPCG(1, 2))
	atRandom := func() time.Duration {
		return 31*time.Second + time.Duration(random.Int64N(int64(period-62*time.Second)))
	}
	after := func(d time.Duration) func() time.Duration { return func() time.Duration { return d } }
	for _, test := range []struct {
		name  string
		spent bool                 // the copy is of the token that the owner uses first, not of its successor
		comes func() time.Duration // how long after each refresh of the owner
		grace time.Duration
		found int // the period; 0: never
	}{
		{"after the owner", true, after(time.Minute), 0, 1},
		{"after the owner, at half-period offset", true, after(period / 2), 0, 1},
		{"after the owner, at random times", true, atRandom, 0, 1},
		{"after the owner, at the end of each grace period", true, after(30 * time.Second), 0, 1},
		{"after the owner, at once, without grace", true, after(0), -1, 1},
		{"before the owner", false, after(time.Minute), 0, 2},
		{"before the owner, at half-period offset", false, after(period / 2), 0, 2},
		{"before the owner, at random times", false, atRandom, 0, 2},
		{"before the owner, at the end of each grace period", false, after(period - 30*time.Second), 0, 2},
		{"before the owner, just before, without grace", false, after(period - time.Second), -1, 2},
		{"inside every grace period, after the owner", true, after(29 * time.Second), 0, 0},
		{"inside every grace period, before the owner", false, after(period - 29*time.Second), 0, 0},
		{"inside every grace period, beside the owner", true, after(0), 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newSessionApp(t, func(c *oauth2pw.Config) { c.RefreshGrace = test.grace })
			owner := a.login()
			thief := owner
			over := func() bool {
				list, err := a.sessions.List(t.Context(), "u1", a.clock.Now())
				require.NoError(t, err)
				return len(list) == 0
			}
			found := 0
			for round := 1; round <= rounds && found == 0; round++ {
				if got := a.refresh(owner.refresh); got.StatusCode == 200 {
					owner = pairOf(got)
				}
				if round == 1 && !test.spent {
					thief = owner
				}
				if over() {
					found = round
				}
				wait := test.comes()
				a.clock.Advance(wait)
				if got := a.refresh(thief.refresh); got.StatusCode == 200 {
					thief = pairOf(got)
				}
				if found == 0 && over() {
					found = round
				}
				a.clock.Advance(period - wait)
			}
			t.Logf("%-50s found out in period %d of %d (0: never)", test.name, found, rounds)
			require.Equal(t, test.found, found)
		})
	}
	t.Run("before the owner ever comes", func(t *testing.T) {
		a := newSessionApp(t)
		owner := a.login()
		a.clock.Advance(time.Minute)
		thief := a.refreshed(a.refreshed(owner.refresh).refresh)
		a.clock.Advance(period)
		a.refresh(owner.refresh).isError(t, 400, "invalid_grant") // reuse: both are out
		a.lives(thief, false)
	})
	t.Run("beside the owner, both at once", func(t *testing.T) {
		a := newSessionApp(t)
		owner := a.login()
		thief := a.refreshed(owner.refresh)
		require.Equal(t, thief.refresh, a.refreshed(owner.refresh).refresh, "one chain, no fork")
		a.clock.Advance(period)
		next := a.refreshed(thief.refresh)
		a.clock.Advance(period)
		a.refresh(thief.refresh).isError(t, 400, "invalid_grant") // whoever is second is found out
		a.lives(next, false)
	})
}

// TestSessionsLeakNothing: no event and no printed value holds a token.
//
// Conformance 129, 130.
func TestSessionsLeakNothing(t *testing.T) {
	var shown strings.Builder
	a := newSessionApp(t, func(c *oauth2pw.Config) {
		c.OnEvent = func(_ context.Context, e oauth2pw.Event) { fmt.Fprintf(&shown, "%v %+v %#v\n", e, e, e) }
	})
	tokens := []string{}
	p := a.login()
	for range 3 {
		tokens = append(tokens, p.access, p.refresh)
		p = a.refreshed(p.refresh)
	}
	a.refresh(tokens[1], "client_id=webapp").isError(t, 400, "invalid_grant")
	require.Equal(t, false, a.introspect(p.refresh).json["active"])
	a.revoke("token="+p.refresh+"&client_id=webapp").isError(t, 400, "invalid_grant")
	a.refresh(tokens[1]).isError(t, 400, "invalid_grant") // reuse
	a.refresh(p.refresh).isError(t, 400, "invalid_grant")
	a.refresh(p.refresh[:70]+"AAAAAAAAA").isError(t, 400, "invalid_grant")
	a.change(a.login().access, "CANARY-old", "CANARY-new").isError(t, 403, "invalid_grant")
	c := a.config
	c.OnEvent, c.Now = nil, nil
	fmt.Fprintf(&shown, "%v %+v %#v %v %+v", c, c, c, a.auth, a.auth)
	text := shown.String()
	require.NotEmpty(t, text)
	for _, secret := range append(tokens, p.access, p.refresh, "CANARY", string(secret("first"))) {
		require.NotContains(t, text, secret)
		require.NotContains(t, text, fmt.Sprintf("%x", secret))
		require.NotContains(t, text, fmt.Sprintf("%d", []byte(secret)))
	}
}

// TestDroppedAnswer: the answer to a refresh is lost, and the process restarts.
func TestDroppedAnswer(t *testing.T) {
	a := newSessionApp(t)
	first := a.login()
	a.refreshed(first.refresh) // and the answer is lost
	b := a.again()             // the process restarts
	second := b.refreshed(first.refresh)
	require.Equal(t, second.refresh, b.refreshed(first.refresh).refresh)
	third := b.refreshed(second.refresh)
	c := b.again()
	c.refresh(first.refresh).isError(t, http.StatusBadRequest, "invalid_grant")
	c.lives(third, false)
}
