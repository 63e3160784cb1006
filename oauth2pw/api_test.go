package oauth2pw_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
)

// TestAuthWriteError: the realm, the error body and the events are those of the Config.
func TestAuthWriteError(t *testing.T) {
	a := newApp(t, func(c *oauth2pw.Config) {
		c.Realm = "shop"
		c.ErrorBody = func(_ context.Context, e *oauth2pw.Error) any {
			return map[string]any{"problem": e.Code, "status": e.Status, "text": e.Description}
		}
	})
	answer := func(err error) (*http.Response, string) {
		w := httptest.NewRecorder()
		a.auth.WriteError(w, httptest.NewRequest("GET", "/", nil), err)
		return w.Result(), w.Body.String()
	}
	resp, body := answer(&oauth2pw.Error{Code: "invalid_token"})
	require.Equal(t, 401, resp.StatusCode)
	require.Contains(t, resp.Header.Get("WWW-Authenticate"), `Bearer realm="shop"`)
	require.Contains(t, body, `"problem":"invalid_token"`)
	require.Equal(t, "invalid_token", a.event().Code)

	resp, body = answer(errors.New("the disk is on fire"))
	require.Equal(t, 503, resp.StatusCode)
	require.NotContains(t, body, "fire")
	e := a.event()
	require.Equal(t, oauth2pw.EventUnavailable, e.Kind)
	require.ErrorContains(t, e.Err, "fire")

	// The hook sees the app's text whatever RFC 6749 says of error_description, and the status.
	resp, body = answer(&oauth2pw.Error{Code: "invalid_request", Status: 422, Description: "Zu kurz für ein Paßwort."})
	require.Equal(t, 422, resp.StatusCode)
	require.JSONEq(t, `{"problem":"invalid_request","status":422,"text":"Zu kurz für ein Paßwort."}`, body)
}

// TestErrorStatus: 4xx and 5xx are answered; any other status is that of the code.
func TestErrorStatus(t *testing.T) {
	for status, want := range map[int]int{0: 400, 422: 422, 599: 599, 400: 400, 200: 400, 302: 400, 600: 400, -1: 400, 1: 400} {
		w := httptest.NewRecorder()
		oauth2pw.WriteError(w, httptest.NewRequest("GET", "/", nil), &oauth2pw.Error{Code: "invalid_request", Status: status})
		require.Equal(t, want, w.Code, status)
	}
}

// TestErrorText: a text that RFC 6749 does not allow in error_description stands in
// message, in the challenge too.
func TestErrorText(t *testing.T) {
	for code, standard := range map[string]string{
		"invalid_token": "The token is malformed, expired, revoked or not meant for this service.", "mfa_required": "The request was refused.",
	} {
		for _, text := range []string{"Der Schlüssel ist ungültig.", `say "please"`, "a\r\nX-Evil: 1", "back\\slash"} {
			w := httptest.NewRecorder()
			oauth2pw.WriteError(w, httptest.NewRequest("GET", "/", nil), &oauth2pw.Error{Code: code, Description: text, Extra: map[string]any{"more": 1}})
			var body map[string]any
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
			require.Equal(t, map[string]any{"error": code, "error_description": standard, "message": text, "more": 1.0}, body)
			if code == "invalid_token" {
				require.Equal(t, `Bearer realm="api", error="invalid_token", error_description="`+standard+`"`, w.Header().Get("WWW-Authenticate"))
			}
		}
	}
}

// TestCheckBearer decides as the middleware does, and answers nothing.
func TestCheckBearer(t *testing.T) {
	a := newApp(t)
	request := func(token string) *http.Request {
		if token == "" {
			return get("/", from(home))
		}
		return get("/", from(home), with(bearer(token)))
	}
	token := a.token("me")
	a.takeEvents()
	r, err := a.auth.CheckBearer(request(token), "me")
	require.NoError(t, err)
	p, ok := oauth2pw.PrincipalFrom(r.Context())
	require.True(t, ok)
	require.Equal(t, "u1", p.Subject)
	require.Equal(t, []string{"me"}, oauth2pw.RequiredScopes(r.Context()))
	require.Equal(t, home, oauth2pw.ClientAddress(r.Context()).String())
	require.Empty(t, a.takeEvents())

	for _, test := range []struct {
		name, token, scope string
		status             int
		code, header       string
		events             int
	}{
		{"no token", "", "me", 401, "unauthorized", `Bearer realm="api"`, 0},
		{"a bad token", "x.y.z", "me", 401, "invalid_token", `Bearer realm="api", error="invalid_token"`, 1},
		{"a scope is missing", token, "items", 403, "insufficient_scope", `scope="items"`, 1},
		{"no such scope", token, "itmes", 500, "server_error", "", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := request(test.token)
			r, err := a.auth.CheckBearer(in, test.scope)
			require.Nil(t, r, "no handler can run on it")
			w := httptest.NewRecorder()
			a.auth.WriteError(w, in, err)
			read(t, w.Result()).isError(t, test.status, test.code)
			require.Contains(t, w.Header().Get("WWW-Authenticate"), test.header)
			events := a.takeEvents()
			require.Len(t, events, test.events, "told once")
			for _, e := range events {
				require.Equal(t, test.code, e.Code)
				require.Equal(t, "192.0.2.1", e.Address.String())
			}
		})
	}
	r, err = a.auth.CheckBearer(request(token))
	require.NoError(t, err)
	inner := a.auth.RequireBearer("me")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) }))
	require.Equal(t, 204, serve(t, inner, r).StatusCode)
}

// TestPasswordBearerOptions: a service that only consumes tokens has a realm, events and
// an error body too.
func TestPasswordBearerOptions(t *testing.T) {
	a := newApp(t)
	var events []oauth2pw.Event
	b := oauth2pw.PasswordBearer{
		Realm:     "consumer",
		OnEvent:   func(_ context.Context, e oauth2pw.Event) { events = append(events, e) },
		ErrorBody: func(_ context.Context, e *oauth2pw.Error) any { return map[string]string{"code": e.Code} },
	}
	h := b.Require(a.ring.Verify, "items")(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	got := serve(t, h, get("/", with(bearer(a.token("me")))))
	require.Equal(t, 403, got.StatusCode)
	require.Contains(t, got.Header.Get("WWW-Authenticate"), `realm="consumer"`)
	require.JSONEq(t, `{"code":"insufficient_scope"}`, got.body)
	require.Len(t, events, 1)
	require.Equal(t, oauth2pw.EventTokenRefused, events[0].Kind)
}

// TestNewTokenRequest: a grant of the app's own can be tested without an Auth.
func TestNewTokenRequest(t *testing.T) {
	grant := oauth2pw.GrantFunc(func(ctx context.Context, r *oauth2pw.TokenRequest) (*oauth2pw.User, error) {
		if err := r.Guess(ctx, "u1"); err != nil {
			return nil, err
		}
		if r.Param("code") != "123456" {
			return nil, oauth2pw.ErrNotFound
		}
		return &oauth2pw.User{ID: "u1"}, nil
	})
	u, err := grant(t.Context(), oauth2pw.NewTokenRequest("code", url.Values{"code": {"123456"}}))
	require.NoError(t, err)
	require.Equal(t, "u1", u.ID)
	for _, form := range []url.Values{nil, {}, {"code": {""}}, {"code": {"123456", "123456"}}, {"code": {}}} {
		_, err = grant(t.Context(), oauth2pw.NewTokenRequest("code", form))
		require.ErrorIs(t, err, oauth2pw.ErrNotFound)
	}
	require.Empty(t, (&oauth2pw.TokenRequest{}).Param("code"))
	require.NoError(t, (&oauth2pw.TokenRequest{}).Guess(t.Context(), "u1"))
}

// TestWithoutUsers: Config.Authenticate alone knows the users.
func TestWithoutUsers(t *testing.T) {
	a := newApp(t, func(c *oauth2pw.Config) {
		c.Users, c.Hasher, c.LoadUser = nil, nil, false
		c.Authenticate = func(_ context.Context, name, password string) (*oauth2pw.User, error) {
			if name != "johndoe" || password != "secret" {
				return nil, oauth2pw.ErrNotFound
			}
			return &oauth2pw.User{ID: "uid=johndoe,dc=example", Username: name}, nil
		}
	})
	token := a.token("me")
	require.Contains(t, a.get("/me", token).body, "uid=johndoe,dc=example")
	a.post("grant_type=password&username=johndoe&password=wrong").isError(t, 400, "invalid_grant")
	got := a.introspect(token)
	require.Equal(t, true, got.json["active"])
	require.Equal(t, "uid=johndoe,dc=example", got.json["sub"])
}

// TestAuthenticateWithSessions: users that Config.Users does not find by ID are a mistake
// of the wiring, and no wrong password.
func TestAuthenticateWithSessions(t *testing.T) {
	a := newSessionApp(t, func(c *oauth2pw.Config) {
		c.Hasher = nil
		c.Authenticate = func(context.Context, string, string) (*oauth2pw.User, error) {
			return &oauth2pw.User{ID: "ldap-1", Username: "johndoe"}, nil
		}
	})
	a.post(login).isError(t, 503, "temporarily_unavailable")
	e := a.saw(oauth2pw.EventUnavailable, "UserStore.UserByID")
	require.ErrorContains(t, e.Err, "Config.Authenticate")
}

// TestClientAddressOfAnyRequest: handlers without the middleware know the client too.
func TestClientAddressOfAnyRequest(t *testing.T) {
	a := newApp(t)
	require.Equal(t, home, a.auth.ClientAddress(get("/", from(home))).String())
}

// TestClaims: a principal without claims says so.
func TestClaims(t *testing.T) {
	var claims struct{ Name string }
	require.ErrorContains(t, oauth2pw.Principal{}.Claims(&claims), "Payload is empty")
	require.NoError(t, oauth2pw.Principal{Payload: `{"name":"x"}`}.Claims(&claims))
	require.Equal(t, "x", claims.Name)
}

// TestRefreshDescription: the answer to a dead refresh token speaks of no credentials.
func TestRefreshDescription(t *testing.T) {
	a := newSessionApp(t)
	got := a.refresh("rt1.x")
	got.isError(t, 400, "invalid_grant")
	require.Equal(t, "The refresh token is invalid, expired or revoked.", got.json["error_description"])
}

// TestScopeRefusalsExplain: the event says which scope, and why.
func TestScopeRefusalsExplain(t *testing.T) {
	for _, test := range []struct {
		scope, says string
		edit        func(*oauth2pw.Config)
	}{
		{"mee", "Config.Scopes does not name a scope of the request", nil},
		{"admin", `lacks "admin"`, nil},
		{"me", "User.Scopes and Config.DefaultScopes are nil", func(c *oauth2pw.Config) {
			c.DefaultScopes = nil
			users, err := store.NewUsers(oauth2pw.User{ID: "u1", Username: "johndoe", PasswordHash: "new:secret"})
			require.NoError(t, err)
			c.Users = users
		}},
	} {
		edit := func(*oauth2pw.Config) {}
		if test.edit != nil {
			edit = test.edit
		}
		a := newApp(t, edit)
		a.post(login+"&scope="+test.scope).isError(t, 400, "invalid_scope")
		e := a.event()
		require.Equal(t, oauth2pw.EventScopeRefused, e.Kind)
		require.ErrorContains(t, e.Err, test.says)
	}
	a := newApp(t)
	token := a.token("me")
	a.takeEvents()
	a.get("/items", token).isError(t, 403, "insufficient_scope")
	require.ErrorContains(t, a.event().Err, `the token of "u1" has the scope "me", and not "items"`)
}

// TestNilError: a plug that returns a nil *Error as an error has failed, and is told so.
func TestNilError(t *testing.T) {
	a := newApp(t, func(c *oauth2pw.Config) {
		c.CheckLogin = func(context.Context, *oauth2pw.User, *oauth2pw.TokenRequest) error {
			var e *oauth2pw.Error
			return e
		}
	})
	a.post(login).isError(t, 503, "temporarily_unavailable")
	e := a.event()
	require.Equal(t, "Config.CheckLogin", e.Plug)
	require.ErrorContains(t, e.Err, "nil *oauth2pw.Error")
	w := httptest.NewRecorder()
	a.auth.WriteError(w, nil, &oauth2pw.Error{Code: "invalid_token"}) // CheckBearer returned no request
	require.Equal(t, 401, w.Code)
}

// TestCheckLoginNotFound: ErrNotFound is a wrong code, as it is for a grant.
func TestCheckLoginNotFound(t *testing.T) {
	a := newApp(t, func(c *oauth2pw.Config) {
		c.CheckLogin = func(context.Context, *oauth2pw.User, *oauth2pw.TokenRequest) error { return oauth2pw.ErrNotFound }
	})
	for range 9 {
		a.serve(post(right("johndoe"), from(home))).isError(t, 400, "invalid_grant")
	}
	a.serve(post(right("johndoe"), from(home))).isError(t, 429, "slow_down")
}

// TestTicketNeedsAnUpdater: a reset that could not work is refused before its mail is sent.
func TestTicketNeedsAnUpdater(t *testing.T) {
	a := newSessionApp(t, func(c *oauth2pw.Config) { c.Users = struct{ oauth2pw.UserStore }{c.Users} })
	_, err := a.auth.NewTicket(t.Context(), oauth2pw.Ticket{UserID: "u1", Purpose: oauth2pw.PurposeReset, ExpiresAt: a.clock.Now().Add(time.Hour)})
	require.ErrorContains(t, err, "PasswordUpdater")
}
