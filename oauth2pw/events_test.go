package oauth2pw_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// seen are the events of all tests.
var seen = struct {
	sync.Mutex
	reasons map[oauth2pw.EventKind]map[oauth2pw.EventReason]bool
}{reasons: make(map[oauth2pw.EventKind]map[oauth2pw.EventReason]bool)}

// note notes an event of any test.
func note(e oauth2pw.Event) {
	seen.Lock()
	defer seen.Unlock()
	if seen.reasons[e.Kind] == nil {
		seen.reasons[e.Kind] = make(map[oauth2pw.EventReason]bool)
	}
	seen.reasons[e.Kind][e.Reason] = true
}

// appReasons are reasons that tests give to EndSession and the like.
var appReasons = []oauth2pw.EventReason{"logout", "tidy", "one", "all", "test"}

// TestMain compares the events of all tests with the table: every event has a kind and a
// reason of the table, and the table has none that no test has seen.
func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if code == 0 {
		code = checkSeen(flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == "" && !testing.Short() &&
			flag.Lookup("test.fuzz").Value.String() == "" && flag.Lookup("test.list").Value.String() == "")
	}
	os.Exit(code)
}

func checkSeen(all bool) (code int) {
	complain := func(format string, args ...any) {
		fmt.Printf("line 143: "+format+"\n", args...)
		code = 1
	}
	for kind, reasons := range seen.reasons {
		table := kind.Reasons()
		for reason := range reasons {
			switch {
			case kind == "" || table == nil:
				complain("the kind %q is not in the table", kind)
			case kind == oauth2pw.EventSessionEnded && slices.Contains(appReasons, reason):
			case !slices.Contains(table, reason) && (reason != "" || len(table) > 0):
				complain("%s has the reason %q, which is not in the table", kind, reason)
			}
		}
	}
	if !all {
		return code
	}
	for _, kind := range oauth2pw.EventKinds() {
		if seen.reasons[kind] == nil {
			complain("no test has seen %s", kind)
			continue
		}
		var unseen []string
		for _, reason := range kind.Reasons() {
			if !seen.reasons[kind][reason] {
				unseen = append(unseen, fmt.Sprintf("%q", reason))
			}
		}
		if unseen != nil {
			complain("no test has seen %s with the reason %s", kind, strings.Join(unseen, ", "))
		}
	}
	return code
}

// TestEventReasons sees the reasons that no other test has a use for.
func TestEventReasons(t *testing.T) {
	t.Run("a password that is longer than its format allows", func(t *testing.T) {
		a := newSessionApp(t)
		p := a.login()
		a.hasher.tooLong = true
		a.post(login).isError(t, 400, "invalid_grant")
		a.saw(oauth2pw.EventLoginFailed, oauth2pw.ReasonTooLongForHash)
		a.change(p.access, "secret", "new").isError(t, 403, "invalid_grant")
		a.saw(oauth2pw.EventPasswordRefused, oauth2pw.ReasonTooLongForHash)
	})
	t.Run("a refresh token in another place", func(t *testing.T) {
		for _, place := range []struct {
			address, agent string
			want           oauth2pw.EventReason
		}{
			{"192.0.2.1", "phone", oauth2pw.ReasonSamePlace},
			{"192.0.2.2", "phone", oauth2pw.ReasonOtherAddress},
			{"192.0.2.1", "script", oauth2pw.ReasonOtherUserAgent},
			{"192.0.2.2", "script", oauth2pw.ReasonOtherAddressAndUserAgent},
		} {
			a := newSessionApp(t)
			p := pairOf(a.serve(post(login, from("192.0.2.1"), with("User-Agent: phone"))))
			refresh := "grant_type=refresh_token&refresh_token=" + p.refresh
			require.Equal(t, 200, a.serve(post(refresh, from("192.0.2.1"), with("User-Agent: phone"))).StatusCode)
			require.Equal(t, 200, a.serve(post(refresh, from(place.address), with("User-Agent: "+place.agent))).StatusCode)
			a.saw(oauth2pw.EventRefreshRepeat, place.want)
			a.clock.Advance(time.Minute)
			a.serve(post(refresh, from(place.address), with("User-Agent: "+place.agent))).isError(t, 400, "invalid_grant")
			a.saw(oauth2pw.EventRefreshReuse, place.want)
		}
	})
	t.Run("a forgiven refresh token in another place", func(t *testing.T) {
		for agent, wants := range map[string][2]oauth2pw.EventReason{
			"phone":  {oauth2pw.ReasonSamePlace, oauth2pw.ReasonOtherAddress},
			"script": {oauth2pw.ReasonOtherUserAgent, oauth2pw.ReasonOtherAddressAndUserAgent},
		} {
			for i, address := range []string{"192.0.2.1", "192.0.2.2"} {
				a := newSessionApp(t, func(c *oauth2pw.Config) { c.RefreshForgive = time.Hour })
				p := pairOf(a.serve(post(login, from("192.0.2.1"), with("User-Agent: phone"))))
				refresh := refreshForm(p.refresh)
				require.Equal(t, 200, a.serve(post(refresh, from("192.0.2.1"), with("User-Agent: phone"))).StatusCode)
				a.clock.Advance(time.Minute)
				require.Equal(t, 200, a.serve(post(refresh, from(address), with("User-Agent: "+agent))).StatusCode)
				a.saw(oauth2pw.EventRefreshForgiven, wants[i])
			}
		}
	})
	t.Run("a body that breaks off", func(t *testing.T) {
		a := newSessionApp(t)
		r := post("")
		r.ContentLength, r.Body = -1, io.NopCloser(iotest.ErrReader(errors.New("broken off")))
		a.serve(r).isError(t, 400, "invalid_request")
		require.ErrorContains(t, a.saw(oauth2pw.EventRequestRefused, oauth2pw.ReasonUnreadableBody).Err, "broken off")
	})
	t.Run("Login has the words of the endpoint", func(t *testing.T) {
		a := newSessionApp(t)
		for _, test := range []struct {
			user, client, scope string
			code                string
			kind                oauth2pw.EventKind
			reason              oauth2pw.EventReason
		}{
			{"nobody", "", "me", "invalid_grant", oauth2pw.EventLoginFailed, oauth2pw.ReasonUserDeleted},
			{"u2", "", "me", "invalid_grant", oauth2pw.EventLoginFailed, oauth2pw.ReasonUserDisabled},
			{"u1", "nobody", "me", "invalid_client", oauth2pw.EventClientFailed, oauth2pw.ReasonUnknownClient},
			{"u1", "", "me items", "invalid_scope", oauth2pw.EventRequestRefused, ""},
			{"u1", "", "admin", "invalid_scope", oauth2pw.EventScopeRefused, ""},
		} {
			_, err := a.auth.Login(post(""), test.user, test.client, test.scope)
			e := (*oauth2pw.Error)(nil)
			require.ErrorAs(t, err, &e)
			require.Equal(t, test.code, e.Code)
			event := a.saw(test.kind, test.reason)
			require.Equal(t, test.code, event.Code)
			w := httptest.NewRecorder()
			a.auth.WriteError(w, post(""), err)
			require.Empty(t, a.takeEvents(), "it was told already")
		}
	})
	t.Run("a grant of the app's own, and a scope policy, that say no", func(t *testing.T) {
		a := newSessionApp(t, func(c *oauth2pw.Config) {
			c.Grants = map[string]oauth2pw.GrantFunc{"otp": func(context.Context, *oauth2pw.TokenRequest) (*oauth2pw.User, error) {
				return nil, &oauth2pw.Error{Code: "invalid_grant", Description: "The code is wrong."}
			}}
			c.GrantScopes = func(context.Context, *oauth2pw.User, *oauth2pw.Client, []string) ([]string, error) {
				return nil, &oauth2pw.Error{Code: "invalid_scope", Description: "Not at night."}
			}
		})
		a.post("grant_type=otp").isError(t, 400, "invalid_grant")
		require.Equal(t, "Config.Grants: otp", a.saw(oauth2pw.EventLoginFailed, oauth2pw.ReasonRefused).Plug)
		a.post(login).isError(t, 400, "invalid_scope")
		require.Equal(t, "Config.GrantScopes", a.saw(oauth2pw.EventScopeRefused, "").Plug)
	})
}

// TestConformance129: each attempt is an event with its time, address, user, outcome and reason.
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
		last := events[len(events)-1] // those before it are of sessions that the attempt has ended
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
