package oauth2pw_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// TestConformance43: the store holds the digest of a client's secret, and the digest is no
// secret itself.
func TestConformance43(t *testing.T) {
	a := newApp(t)
	sum := sha256.Sum256([]byte("backend-secret"))
	for _, secret := range []string{
		string(sum[:]), hex.EncodeToString(sum[:]), base64.StdEncoding.EncodeToString(sum[:]),
		"backend-secre", "backend-secret ", "Backend-secret", "backend-secret\x00",
	} {
		a.post(login, basic("backend", secret)).isError(t, 401, "invalid_client")
	}
	require.Equal(t, 200, a.post(login, basic("backend", "backend-secret")).StatusCode)
}

// TestConformance70: no answer of the middleware holds the token, and no cache stores a
// refusal. The headers of an admitted request are the handler's own.
func TestConformance70(t *testing.T) {
	a := newApp(t)
	token := a.token("me")
	for target, headers := range map[string][]string{
		"/me":                       {"Authorization: Bearer " + token + "x"},
		"/items":                    {"Authorization: Bearer " + token},
		"/status":                   {"Authorization: Bearer " + token, "Authorization: Bearer " + token},
		"/me?access_token=" + token: nil,
	} {
		got := a.do("GET", target, "", headers...)
		require.GreaterOrEqual(t, got.StatusCode, 400, target)
		require.Equal(t, "no-store", got.Header.Get("Cache-Control"), target)
		require.NotContains(t, got.body+fmt.Sprint(got.Header), token, target)
	}
	got := a.get("/me", token)
	require.Equal(t, 200, got.StatusCode)
	require.Empty(t, got.Header.Values("Cache-Control"))
	require.NotContains(t, got.body+fmt.Sprint(got.Header), token)
}

// TestConformanceIntrospectionRequest: what a request for introspection may add changes
// nothing.
func TestConformanceIntrospectionRequest(t *testing.T) {
	a := newSessionApp(t)
	p := a.login("client_id=backend&client_secret=backend-secret")
	backend := basic("backend", "backend-secret")
	t.Run("88_hint", func(t *testing.T) {
		for _, hint := range []string{"access_token", "refresh_token", "unknown", ""} {
			for _, token := range []string{p.access, p.refresh} {
				got := a.do("POST", "/introspect", "token="+token+"&token_type_hint="+hint, formType, backend)
				require.Equal(t, true, got.json["active"], got.body)
			}
		}
	})
	t.Run("89_json_that_no_cache_stores", func(t *testing.T) {
		for _, accept := range []string{"application/jwt", "application/token-introspection+jwt", "text/html"} {
			for token, active := range map[string]bool{p.access: true, "x": false} {
				got := a.introspect(token, backend, "Accept: "+accept)
				require.Equal(t, 200, got.StatusCode)
				require.Equal(t, active, got.json["active"])
				require.Equal(t, "application/json", got.Header.Get("Content-Type"))
				require.Equal(t, "no-store", got.Header.Get("Cache-Control"))
				require.Equal(t, "no-cache", got.Header.Get("Pragma"))
			}
		}
	})
}

// TestConformance129: each attempt is an event, which says when, from where, whose, with
// which outcome, and why.
func TestConformance129(t *testing.T) {
	a := newSessionApp(t, func(c *oauth2pw.Config) { c.ThrottleLimit = 3 })
	send := func(form string) answer { return a.serve(post(form, from(home))) }
	event := func(kind oauth2pw.EventKind, reason oauth2pw.EventReason, do func()) oauth2pw.Event {
		t.Helper()
		a.takeEvents()
		do()
		events := a.takeEvents()
		for _, e := range events {
			require.Equal(t, a.clock.Now().UTC(), e.Time)
			require.Equal(t, time.UTC, e.Time.Location())
			require.Equal(t, netip.MustParseAddr(home), e.Address)
		}
		require.NotEmpty(t, events)
		last := events[len(events)-1] // before it come what the attempt has ended
		require.Equal(t, []any{kind, reason}, []any{last.Kind, last.Reason})
		return last
	}
	var p pair
	e := event(oauth2pw.EventLogin, "", func() { p = pairOf(send(right("johndoe") + "&client_id=webapp")) })
	require.Equal(t, []string{"password", "u1", "webapp", sessionID(t, p.access)}, []string{e.Grant, e.UserID, e.ClientID, e.SessionID})

	for form, want := range map[string]oauth2pw.Event{
		wrong("johndoe", 1):                    {Reason: "wrong_password", UserID: "u1"},
		wrong("nobody", 1):                     {Reason: "unknown_user"},
		wrong("alice", 1):                      {Reason: "user_disabled", UserID: "u2"},
		wrong("nopassword", 1):                 {Reason: "no_password", UserID: "u5"},
		wrong("broken", 1):                     {Reason: "unreadable_hash", UserID: "u4"},
		right("johndoe") + "&scope=admin":      {Kind: oauth2pw.EventScopeRefused, UserID: "u1"},
		login + "&client_id=x&client_secret=x": {Kind: oauth2pw.EventClientFailed, Reason: "unknown_client"},
		login + "&client_id=backend":           {Kind: oauth2pw.EventClientFailed, Reason: "wrong_secret"},
		"grant_type=foo":                       {Kind: oauth2pw.EventRequestRefused, Code: "unsupported_grant_type"},
		"username=x":                           {Kind: oauth2pw.EventRequestRefused, Code: "invalid_request"},
	} {
		if want.Kind == "" {
			want.Kind = oauth2pw.EventLoginFailed
		}
		e := event(want.Kind, want.Reason, func() { require.GreaterOrEqual(t, send(form).StatusCode, 400, form) })
		require.Equal(t, want.UserID, e.UserID, form)
		if want.Code != "" {
			require.Equal(t, want.Code, e.Code)
		}
		require.Equal(t, want.Reason == "unknown_user", e.NameTag != "", form)
		require.NotContains(t, fmt.Sprintf("%+v", e), "nobody")
	}
	for i := range 3 {
		send(wrong("old", i)).isError(t, 400, "invalid_grant")
	}
	e = event(oauth2pw.EventThrottled, "password", func() { send(right("old")).isThrottled(t) })
	require.Equal(t, "u3", e.UserID)

	use := func(target, token string, status int) func() {
		return func() {
			require.Equal(t, status, a.serve(get(target, from(home), with(bearer(token)))).StatusCode)
		}
	}
	event(oauth2pw.EventTokenRefused, "malformed", use("/me", "a,b", 401))
	event(oauth2pw.EventTokenRefused, "invalid", use("/me", "x", 401))
	require.Equal(t, "insufficient_scope", event(oauth2pw.EventTokenRefused, "", use("/items", p.access, 403)).Code)

	refresh := func(status int) func() {
		return func() { require.Equal(t, status, send(refreshForm(p.refresh)+"&client_id=webapp").StatusCode) }
	}
	e = event(oauth2pw.EventRefresh, "", refresh(200))
	require.Equal(t, []string{"refresh_token", "u1", "webapp", sessionID(t, p.access)}, []string{e.Grant, e.UserID, e.ClientID, e.SessionID})
	event(oauth2pw.EventRefreshRepeat, "same_place", refresh(200))
	a.clock.Advance(time.Minute)
	e = event(oauth2pw.EventRefreshReuse, "same_place", refresh(400))
	require.Equal(t, sessionID(t, p.access), e.SessionID)
	event(oauth2pw.EventRefreshFailed, "ended", refresh(400))
}
