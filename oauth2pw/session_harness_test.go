package oauth2pw_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
)

// secret returns a server secret for tests.
func secret(name string) oauth2pw.Secret {
	s := sha256.Sum256([]byte(name))
	return oauth2pw.Secret(s[:])
}

// withSessions turns on sessions, refresh tokens and the check of both at every
// request.
func withSessions(c *oauth2pw.Config) {
	c.Sessions = new(store.Sessions)
	c.Secrets = []oauth2pw.Secret{secret("first")}
}

// sessionApp is an app with sessions.
type sessionApp struct {
	*app
	sessions oauth2pw.SessionStore
	config   oauth2pw.Config
}

func newSessionApp(t *testing.T, edits ...func(*oauth2pw.Config)) *sessionApp {
	t.Helper()
	a := new(sessionApp)
	edits = append([]func(*oauth2pw.Config){withSessions}, edits...)
	a.app = newApp(t, append(edits, func(c *oauth2pw.Config) { a.sessions, a.config = c.Sessions, *c })...)
	return a
}

// again returns the app after a restart with another configuration: the stores are
// what is left of it.
func (a *sessionApp) again(edits ...func(*oauth2pw.Config)) *sessionApp {
	a.Helper()
	old := a.config
	b := newSessionApp(a.T, append([]func(*oauth2pw.Config){func(c *oauth2pw.Config) {
		onEvent := c.OnEvent
		*c = old
		c.OnEvent = onEvent
	}}, edits...)...)
	b.clock, b.users = a.clock, a.users
	return b
}

// pair is what a login or a refresh answered.
type pair struct{ access, refresh, scope string }

// pairOf reads an answer. A missing member is empty.
func pairOf(got answer) pair {
	text := func(name string) string { s, _ := got.json[name].(string); return s }
	return pair{text("access_token"), text("refresh_token"), text("scope")}
}

// login logs johndoe in. more are parameters of the form.
func (a *sessionApp) login(more ...string) pair {
	a.Helper()
	p := a.granted(a.post(strings.Join(append([]string{login}, more...), "&")))
	require.NotEmpty(a, p.access)
	return p
}

// granted requires that an answer is a success, and reads it.
func (a *sessionApp) granted(got answer) pair {
	a.Helper()
	require.NotNil(a, got.Response, "the request was not made")
	require.Equal(a, 200, got.StatusCode, got.body)
	return pairOf(got)
}

// refresh sends a refresh token.
func (a *sessionApp) refresh(token string, more ...string) answer {
	a.Helper()
	return a.post(strings.Join(append([]string{refreshForm(token)}, more...), "&"))
}

func refreshForm(token string) string {
	return "grant_type=refresh_token&refresh_token=" + url.QueryEscape(token)
}

// refreshed sends a refresh token that must be good.
func (a *sessionApp) refreshed(token string, more ...string) pair {
	a.Helper()
	return a.granted(a.refresh(token, more...))
}

// lives requires that the session of a pair lives, or does not: both tokens.
func (a *sessionApp) lives(p pair, want bool, more ...string) pair {
	a.Helper()
	status := 401
	if want {
		status = 200
	}
	require.Equal(a, status, a.get("/status", p.access).StatusCode)
	got := a.refresh(p.refresh, more...)
	if !want {
		got.isError(a.T, 400, "invalid_grant")
		return pair{}
	}
	return a.granted(got)
}

// live returns how many sessions of a user live.
func (a *sessionApp) live(userID string) int {
	a.Helper()
	list, err := a.sessions.List(a.Context(), userID, a.clock.Now())
	require.NoError(a, err)
	return len(list)
}

// session returns the one session of a user in the store.
func (a *sessionApp) session(userID string) *oauth2pw.Session {
	a.Helper()
	list, err := a.sessions.List(a.Context(), userID, a.clock.Now())
	require.NoError(a, err)
	require.Len(a, list, 1)
	return list[0]
}

// sessionOf returns the session of a pair.
func (a *sessionApp) sessionOf(p pair) *oauth2pw.Session {
	a.Helper()
	s, err := a.sessions.Get(a.Context(), sessionID(a.T, p.access))
	require.NoError(a, err)
	return s
}

// saw requires that an event of a kind and a reason, or a plug, has happened since events were
// last taken, and returns it.
func (a *sessionApp) saw(kind oauth2pw.EventKind, reason oauth2pw.EventReason) oauth2pw.Event {
	a.Helper()
	events := a.takeEvents()
	for _, e := range events {
		if e.Kind == kind && (e.Reason == reason || e.Reason == "" && e.Plug == string(reason)) {
			return e
		}
	}
	require.Failf(a, "no such event", "%s %s in %+v", kind, reason, events)
	return oauth2pw.Event{}
}

// changed changes johndoe's password, which must work, and returns the new tokens.
func (a *sessionApp) changed(p pair, old, new string) pair {
	a.Helper()
	return a.granted(a.change(p.access, old, new))
}

// tokenFor returns an access token of a session of any user, there or not.
func (a *sessionApp) tokenFor(userID string) string {
	a.Helper()
	now := a.clock.Now()
	n := oauth2pw.Session{
		ID: "session-of-" + userID, UserID: userID, Scope: "me", Generation: 1, CreatedAt: now, AuthenticatedAt: now, RefreshedAt: now,
		IdleExpiresAt: now.Add(time.Hour), ExpiresAt: now.Add(time.Hour),
	}
	if _, err := a.sessions.Get(a.Context(), n.ID); err != nil {
		require.NoError(a, a.sessions.Create(a.Context(), &n))
	}
	token, _, err := a.ring.Issue(a.Context(), oauth2pw.Principal{Subject: userID, SessionID: n.ID, Scope: "me", AuthTime: now})
	require.NoError(a, err)
	return token
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
