package oauth2pw_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// TestConformance139: see docs/conformance.md.
func TestConformance139(t *testing.T) {
	a := newSessionApp(t)
	ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) })
	recent := a.auth.RequireRecent(5 * time.Minute)(ok)
	route := a.auth.RequireBearer("me")(recent)
	call := func(h http.Handler, token string) answer { return serve(t, h, get("/", with(bearer(token)))) }
	stale := func(got answer) {
		t.Helper()
		got.isError(t, 401, "insufficient_user_authentication")
		require.Contains(t, got.Header.Get("WWW-Authenticate"), `error="insufficient_user_authentication"`)
		require.Contains(t, got.Header.Get("WWW-Authenticate"), `max_age="300"`)
	}
	a.clock.Advance(-a.clock.Now().Sub(a.clock.Now().Truncate(time.Second))) // a token says whole seconds
	mine := a.login()

	a.clock.Advance(5*time.Minute - time.Microsecond)
	require.Equal(t, 204, call(route, mine.access).StatusCode)
	a.clock.Advance(time.Microsecond)
	stale(call(route, mine.access))
	mine = a.refreshed(mine.refresh)
	stale(call(route, mine.access)) // a refresh is no proof

	r := get("/", with(bearer(mine.access)))
	var fresh *oauth2pw.Tokens
	a.auth.RequireBearer()(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var err error
		fresh, err = a.auth.Reauthenticate(r, "secret")
		require.NoError(t, err)
	})).ServeHTTP(nil, r)
	require.Equal(t, 204, call(route, string(fresh.AccessToken)).StatusCode)

	for name, token := range map[string]oauth2pw.Principal{
		"no auth_time": {Subject: "u1", Scope: "me"},
	} {
		stateless := newApp(t, func(c *oauth2pw.Config) { c.LoadUser = false })
		issued, _, err := stateless.ring.Issue(t.Context(), token)
		require.NoError(t, err)
		stale(call(stateless.auth.RequireBearer("me")(stateless.auth.RequireRecent(5*time.Minute)(ok)), issued))
		_ = name
	}
	foreign := newApp(t, func(c *oauth2pw.Config) { c.Verifier = anyIssuer{} })
	stale(call(foreign.auth.RequireBearer()(foreign.auth.RequireRecent(5*time.Minute)(ok)), "theirs"))

	// Outside of RequireBearer, of another one, and with a principal that nobody has verified.
	call(recent, mine.access).isError(t, 401, "unauthorized")
	other := newApp(t)
	call(other.auth.RequireBearer()(recent), other.token("")).isError(t, 401, "unauthorized")
	p := oauth2pw.Principal{Issuer: issuer, Subject: "u1", Scope: "me", AuthTime: a.clock.Now()}
	serve(t, recent, get("/", during(oauth2pw.WithPrincipal(t.Context(), p)))).isError(t, 401, "unauthorized")
	require.Panics(t, func() { a.auth.RequireRecent(time.Second - 1) })
	require.Panics(t, func() { a.auth.RequireRecent(time.Minute)(nil) })
}

// anyIssuer takes every token for one of another issuer, authenticated a moment ago.
type anyIssuer struct{}

func (anyIssuer) Verify(context.Context, string) (oauth2pw.Principal, error) {
	return oauth2pw.Principal{Issuer: "https://other.example.com", Subject: "u1", AuthTime: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, nil
}

// reauthenticate calls Reauthenticate behind the middleware.
func (a *sessionApp) reauthenticate(access, password string) (tokens *oauth2pw.Tokens, err error) {
	a.Helper()
	a.auth.RequireBearer()(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		tokens, err = a.auth.Reauthenticate(r, password)
	})).ServeHTTP(nil, get("/", with(bearer(access))))
	return tokens, err
}

// TestReauthenticate: every older token of the session is refused, the others stay live.
//
// Conformance 136.
func TestReauthenticate(t *testing.T) {
	a := newSessionApp(t)
	mine, other := a.login(), a.login()
	stolen := mine
	a.clock.Advance(time.Hour / 10)
	got, err := a.reauthenticate(mine.access, "secret")
	require.NoError(t, err)
	a.saw(oauth2pw.EventReauthenticated, "")
	now := pair{access: string(got.AccessToken), refresh: string(got.RefreshToken)}
	require.Equal(t, 401, a.get("/status", mine.access).StatusCode, "older than the proof")
	require.Equal(t, 200, a.get("/status", now.access).StatusCode)
	a.refresh(stolen.refresh).isError(t, 400, "invalid_grant") // within the grace period nothing else happens
	now = a.refreshed(now.refresh)
	a.lives(other, true)

	code := func(err error) (string, int) {
		e := (*oauth2pw.Error)(nil)
		require.ErrorAs(t, err, &e)
		return e.Code, e.Status
	}
	for i := range 10 {
		_, err = a.reauthenticate(now.access, "wrong"+string(rune('a'+i)))
		c, status := code(err)
		require.Equal(t, "invalid_grant", c)
		require.Equal(t, 403, status)
	}
	_, err = a.reauthenticate(now.access, "secret")
	c, _ := code(err)
	require.Equal(t, "slow_down", c)
	a.clock.Advance(15 * time.Minute)

	later := a.refreshed(now.refresh)
	a.refresh(stolen.refresh).isError(t, 400, "invalid_grant") // later it is reuse
	a.saw(oauth2pw.EventRefreshReuse, "same_place")
	a.lives(later, false)

	_, err = a.auth.Reauthenticate(get("/"), "secret")
	c, _ = code(err)
	require.Equal(t, "access_denied", c)
}

// TestReauthenticateByAuthenticate: where Config.Authenticate knows the passwords.
func TestReauthenticateByAuthenticate(t *testing.T) {
	a := newSessionApp(t, func(c *oauth2pw.Config) {
		users := c.Users
		c.Hasher = nil
		c.Authenticate = func(ctx context.Context, name, password string) (*oauth2pw.User, error) {
			if password != "secret" {
				return nil, oauth2pw.ErrNotFound
			}
			return users.UserByName(ctx, name)
		}
	})
	mine := a.login()
	_, err := a.reauthenticate(mine.access, "wrong")
	require.ErrorContains(t, err, "invalid_grant")
	_, err = a.reauthenticate(mine.access, "secret")
	require.NoError(t, err)
}

// TestConformance142: what OpenSession may choose.
func TestConformance142(t *testing.T) {
	var choose func(r *oauth2pw.TokenRequest, s *oauth2pw.Session) error
	a := newSessionApp(t, func(c *oauth2pw.Config) {
		c.OpenSession = func(_ context.Context, u *oauth2pw.User, r *oauth2pw.TokenRequest, s *oauth2pw.Session) error {
			return choose(r, s)
		}
	})
	day := 24 * time.Hour
	open := func(t *testing.T, c func(r *oauth2pw.TokenRequest, s *oauth2pw.Session) error) *oauth2pw.Session {
		choose = c
		p := a.login("remember=1")
		return a.sessionOf(p)
	}
	t.Run("142_as the Config says", func(t *testing.T) {
		s := open(t, func(r *oauth2pw.TokenRequest, s *oauth2pw.Session) error {
			require.Equal(t, "1", r.Param("remember"))
			require.Equal(t, 14*day, s.Idle)
			require.Equal(t, a.clock.Now().Add(90*day), s.ExpiresAt)
			return nil
		})
		require.Equal(t, a.clock.Now().Add(14*day), s.IdleExpiresAt)
		require.Equal(t, a.clock.Now().Add(90*day), s.ExpiresAt)
	})
	t.Run("142_shorter", func(t *testing.T) {
		choose = func(_ *oauth2pw.TokenRequest, s *oauth2pw.Session) error {
			s.Idle, s.ExpiresAt, s.Label = time.Hour, a.clock.Now().Add(3*time.Hour), "the phone\x00"
			return nil
		}
		p := a.login()
		s := a.sessionOf(p)
		require.Equal(t, a.clock.Now().Add(time.Hour), s.IdleExpiresAt)
		require.Equal(t, a.clock.Now().Add(3*time.Hour), s.ExpiresAt)
		require.Equal(t, "the phone", s.Label)
		end := s.ExpiresAt
		for range 3 { // no refresh moves ExpiresAt, and each moves the idle expiry by Idle
			a.clock.Advance(50 * time.Minute)
			p = a.refreshed(p.refresh)
			require.Equal(t, end, a.sessionOf(p).ExpiresAt)
			require.Equal(t, "the phone", a.sessionOf(p).Label)
		}
		require.Equal(t, end, a.sessionOf(p).IdleExpiresAt)
		a.clock.Advance(30 * time.Minute)
		a.lives(p, false)
	})
	t.Run("142_beyond the Config is cut to it", func(t *testing.T) {
		s := open(t, func(_ *oauth2pw.TokenRequest, s *oauth2pw.Session) error {
			s.Idle, s.ExpiresAt = 1000*day, a.clock.Now().Add(1000*day)
			return nil
		})
		require.Equal(t, a.clock.Now().Add(14*day), s.IdleExpiresAt)
		require.Equal(t, a.clock.Now().Add(90*day), s.ExpiresAt)
	})
	t.Run("142_nothing else is taken", func(t *testing.T) {
		s := open(t, func(_ *oauth2pw.TokenRequest, s *oauth2pw.Session) error {
			s.ID, s.UserID, s.ClientID, s.Scope, s.Generation, s.UserAgent = "x", "u3", "backend", "admin", 9, "x"
			s.IdleExpiresAt, s.AuthenticatedAt, s.CreatedAt = time.Time{}, time.Time{}, time.Time{}
			return nil
		})
		require.Equal(t, []any{"u1", "", "me", uint64(1)}, []any{s.UserID, s.ClientID, s.Scope, s.Generation})
		require.Equal(t, a.clock.Now(), s.CreatedAt)
		require.Equal(t, a.clock.Now(), s.AuthenticatedAt)
	})
	t.Run("142_an error opens nothing", func(t *testing.T) {
		before := a.live("u1")
		for _, test := range []struct {
			status int
			code   string
			choose func(r *oauth2pw.TokenRequest, s *oauth2pw.Session) error
		}{
			{503, "temporarily_unavailable", func(_ *oauth2pw.TokenRequest, s *oauth2pw.Session) error { s.ExpiresAt = a.clock.Now(); return nil }},
			{503, "temporarily_unavailable", func(_ *oauth2pw.TokenRequest, s *oauth2pw.Session) error { s.ExpiresAt = time.Time{}; return nil }},
			{503, "temporarily_unavailable", func(_ *oauth2pw.TokenRequest, s *oauth2pw.Session) error { s.Idle = time.Second - 1; return nil }},
			{503, "temporarily_unavailable", func(*oauth2pw.TokenRequest, *oauth2pw.Session) error { return context.Canceled }},
			{403, "access_denied", func(*oauth2pw.TokenRequest, *oauth2pw.Session) error { return &oauth2pw.Error{Code: "access_denied"} }},
			{500, "server_error", func(*oauth2pw.TokenRequest, *oauth2pw.Session) error { panic("x") }},
		} {
			choose = test.choose
			a.post(login).isError(t, test.status, test.code)
		}
		require.Equal(t, before, a.live("u1"))
	})
}

// TestNewPlace: a login tells whether its place is new to the user.
func TestNewPlace(t *testing.T) {
	a := newSessionApp(t)
	logIn := func(address, agent string) oauth2pw.EventReason {
		a.takeEvents()
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(address), with("User-Agent: "+agent))).StatusCode)
		for _, e := range a.takeEvents() {
			if e.Kind == oauth2pw.EventLogin {
				require.Equal(t, agent, e.UserAgent)
				return e.Reason
			}
		}
		t.Fatal("no login")
		return ""
	}
	require.Equal(t, oauth2pw.EventReason(""), logIn(home, "phone"), "the first login has nothing to compare with")
	require.Equal(t, oauth2pw.EventReason(""), logIn(home, "phone"))
	require.Equal(t, oauth2pw.ReasonNewUserAgent, logIn(home, "laptop"))
	require.Equal(t, oauth2pw.ReasonNewAddress, logIn(away, "laptop"))
	require.Equal(t, oauth2pw.ReasonNewPlace, logIn("203.0.113.77", "script"))
	_, err := a.auth.EndAllSessions(t.Context(), "u1", "test")
	require.NoError(t, err)
	require.Equal(t, oauth2pw.EventReason(""), logIn("203.0.113.99", "other"), "no live session is left")
}

// TestSessions: the live ones, the newest login first, without those from before a change.
func TestSessions(t *testing.T) {
	a := newSessionApp(t)
	first := a.login()
	a.clock.Advance(time.Minute)
	second := a.login()
	list, err := a.auth.Sessions(t.Context(), "u1")
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.Equal(t, sessionID(t, second.access), list[0].ID)
	require.Equal(t, sessionID(t, first.access), list[1].ID)
	a.clock.Advance(time.Minute)
	_, err = a.users.UpdatePasswordHash(t.Context(), "u1", "new:secret", "new:x", a.clock.Now()) // and nobody ends them
	require.NoError(t, err)
	list, err = a.auth.Sessions(t.Context(), "u1")
	require.NoError(t, err)
	require.Empty(t, list)
	list, err = a.auth.Sessions(t.Context(), "nobody")
	require.NoError(t, err)
	require.Empty(t, list)
	_, err = a.auth.Sessions(t.Context(), "")
	require.Error(t, err)
	_, err = newApp(t).auth.Sessions(t.Context(), "u1")
	require.ErrorContains(t, err, "Config.Sessions")
}
