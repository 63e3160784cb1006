package oauth2pw_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http/httptest"
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
var appReasons = []oauth2pw.EventReason{"logout", "tidy", "one", "all"}

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
