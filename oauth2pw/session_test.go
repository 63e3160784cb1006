package oauth2pw_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

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

// TestAuthorizationOfSessions: a user ends no session of another.
func TestAuthorizationOfSessions(t *testing.T) {
	a := newSessionApp(t)
	p := a.login()
	ended, err := a.auth.EndSession(t.Context(), "u3", sessionID(t, p.access), "x")
	require.NoError(t, err)
	require.False(t, ended)
	a.lives(p, true)
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
