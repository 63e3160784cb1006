package oauth2pw_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/tokens"
)

var errFire = errors.New("the disk is on fire")

// TestConformance30Faults: a plug that fails anywhere is 503, never 400, 401 or 200; a plug
// that panics is 500; the next request works.
func TestConformance30Faults(t *testing.T) {
	for _, fault := range []struct {
		name   string
		step   step
		status int
		code   string
		event  oauth2pw.EventKind
	}{
		{"error", fails(errFire), 503, "temporarily_unavailable", oauth2pw.EventUnavailable},
		{"context", fails(context.DeadlineExceeded), 503, "temporarily_unavailable", oauth2pw.EventUnavailable},
		{"panic", panics(errFire), 500, "server_error", oauth2pw.EventPanic},
	} {
		for _, call := range []string{
			"UserStore.UserByName", "UserStore.UserByID", "ClientStore.ClientByID", "TokenVerifier.Verify", "TokenIssuer.Issue", "PasswordHasher.Verify",
		} {
			t.Run(call+"/"+fault.name, func(t *testing.T) {
				s := new(script)
				a := newApp(t, s.wrap)
				token := a.token("")
				request := func() answer {
					if call == "UserStore.UserByID" || call == "TokenVerifier.Verify" {
						return a.get("/me", token)
					}
					return a.post(login, basic("backend", "backend-secret"))
				}
				require.Equal(t, 200, request().StatusCode)
				a.takeEvents()
				s.before(call, fault.step)
				got := request()
				got.isError(t, fault.status, fault.code)
				require.NotContains(t, got.body, "fire")
				require.Empty(t, got.Header.Get("WWW-Authenticate"))
				events := a.takeEvents()
				require.Len(t, events, 1)
				require.Equal(t, fault.event, events[0].Kind)
				require.Error(t, events[0].Err)
				if fault.event == oauth2pw.EventUnavailable {
					require.Equal(t, call, events[0].Plug)
				}
				s.end()
				require.Equal(t, 200, request().StatusCode)
			})
		}
	}

	t.Run("120_busy", func(t *testing.T) {
		s := new(script)
		a := newApp(t, s.wrap)
		s.before("PasswordHasher.Verify", fails(fmt.Errorf("no room: %w", oauth2pw.ErrBusy)))
		got := a.post(login)
		got.isError(t, 503, "temporarily_unavailable")
		require.Equal(t, "1", got.Header.Get("Retry-After"))
		require.Equal(t, oauth2pw.EventOverload, a.event().Kind)
	})

	t.Run("optional middleware too", func(t *testing.T) {
		s := new(script)
		a := newApp(t, s.wrap)
		token := a.token("")
		s.before("UserStore.UserByID", fails(errFire))
		a.get("/optional", token).isError(t, 503, "temporarily_unavailable")
	})

	t.Run("nil and no error is a failure", func(t *testing.T) {
		a := newApp(t, func(c *oauth2pw.Config) { c.Users = nilUsers{} })
		a.post(login).isError(t, 503, "temporarily_unavailable")
	})

	t.Run("hooks that panic", func(t *testing.T) {
		for name, edit := range map[string]func(*oauth2pw.Config){
			"OnEvent":     func(c *oauth2pw.Config) { c.OnEvent = func(context.Context, oauth2pw.Event) { panic("secret") } },
			"ErrorBody":   func(c *oauth2pw.Config) { c.ErrorBody = func(context.Context, *oauth2pw.Error) any { panic("secret") } },
			"GrantScopes": func(c *oauth2pw.Config) { c.GrantScopes = grantPanics },
		} {
			t.Run(name, func(t *testing.T) {
				a := newApp(t, edit)
				if name != "GrantScopes" {
					a.post("grant_type=password&username=johndoe&password=wrong").isError(t, 500, "server_error")
					a.get("/me", "bad").isError(t, 500, "server_error")
				}
				if name != "ErrorBody" {
					a.post(login).isError(t, 500, "server_error")
				}
			})
		}
	})

	t.Run("the app's handler keeps its panic", func(t *testing.T) {
		a := newApp(t)
		h := a.auth.RequireBearer()(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
		r := get("/", with(bearer(a.token(""))))
		require.PanicsWithValue(t, http.ErrAbortHandler, func() { h.ServeHTTP(httptest.NewRecorder(), r) })
	})
}

func grantPanics(context.Context, *oauth2pw.User, *oauth2pw.Client, []string) ([]string, error) {
	panic("secret")
}

// nilUsers returns nothing for a miss.
type nilUsers struct{}

func (nilUsers) UserByName(context.Context, string) (*oauth2pw.User, error) { return nil, nil }
func (nilUsers) UserByID(context.Context, string) (*oauth2pw.User, error)   { return nil, nil }

// TestParseFormBefore: an outer middleware that has called ParseForm changes
// nothing.
func TestParseFormBefore(t *testing.T) {
	a := newApp(t)
	parsed := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		a.mux.ServeHTTP(w, r)
	}))
	defer parsed.Close()
	direct := a.url
	for _, test := range []struct{ target, body, contentType string }{
		{"/token", login, "application/x-www-form-urlencoded"},
		{"/token", login + "&scope=me+items&foo=1&foo=2", "application/x-www-form-urlencoded"},
		{"/token", login + "&username=johndoe", "application/x-www-form-urlencoded"},
		{"/token", "grant_type=password&username=johndoe&password=wrong", "application/x-www-form-urlencoded"},
		{"/token", "grant_type=password&username=johndoe&password=%ff", "application/x-www-form-urlencoded"},
		{"/token", "grant_type=password&username=johndoe&password=%zz", "application/x-www-form-urlencoded"},
		{"/token?password=secret", "grant_type=password&username=johndoe", "application/x-www-form-urlencoded"},
		{"/token?" + login, "", "application/x-www-form-urlencoded"},
		{"/token", login, "application/json"},
		{"/token", login + "&x=" + strings.Repeat("x", 65<<10), "application/x-www-form-urlencoded"},
		{"/token", login + strings.Repeat("&x=1", 300), "application/x-www-form-urlencoded"},
	} {
		a.url = direct
		want := a.do("POST", test.target, test.body, "Content-Type: "+test.contentType)
		a.url = parsed.URL
		got := a.do("POST", test.target, test.body, "Content-Type: "+test.contentType)
		require.Equal(t, want.StatusCode, got.StatusCode, "%.99s", test.body)
		require.Equal(t, want.code(), got.code())
	}

	// Too large, and no Content-Length says so.
	r := post("")
	r.ContentLength, r.PostForm = -1, url.Values{"x": {strings.Repeat("x", 65<<10)}}
	_, err := oauth2pw.ParsePasswordRequestForm(r)
	var e *oauth2pw.Error
	require.ErrorAs(t, err, &e)
	require.Contains(t, e.Description, "64 KiB")
}

func TestWiringMistakes(t *testing.T) {
	users, err := store.NewUsers()
	require.NoError(t, err)
	key, _, err := tokens.NewKey("")
	require.NoError(t, err)
	ring, err := tokens.New(tokens.Config{Keys: []tokens.Key{key}, Issuer: issuer, Audience: audience})
	require.NoError(t, err)
	for _, test := range []struct {
		names string
		edit  func(*oauth2pw.Config)
	}{
		{"Config.Users", func(c *oauth2pw.Config) { c.Users = nil }},
		{"Config.Users", func(c *oauth2pw.Config) { c.Users = (*store.Users)(nil) }},
		{"Config.Hasher", func(c *oauth2pw.Config) { c.Hasher = nil }},
		{"Config.Authenticate", func(c *oauth2pw.Config) {
			c.Authenticate = func(context.Context, string, string) (*oauth2pw.User, error) { return nil, nil }
		}},
		{"Config.Issuer", func(c *oauth2pw.Config) { c.Issuer = nil }},
		{"Config.Issuer", func(c *oauth2pw.Config) { c.Issuer = (*tokens.Ring)(nil) }},
		{"Config.Verifier", func(c *oauth2pw.Config) { c.Issuer = onlyIssuer{ring} }},
		{"Config.LoadUser", func(c *oauth2pw.Config) { c.Issuer, c.Verifier, c.LoadUser = onlyIssuer{ring}, ring, true }},
		{"Config.Clients", func(c *oauth2pw.Config) { c.Clients = (*store.Clients)(nil) }},
		{"Config.Scopes", func(c *oauth2pw.Config) { c.Scopes = map[string]string{"a b": ""} }},
		{"Config.DefaultScopes", func(c *oauth2pw.Config) { c.Scopes, c.DefaultScopes = map[string]string{"a": ""}, []string{"b"} }},
		{"Config.Realm", func(c *oauth2pw.Config) { c.Realm = "a\nb" }},
		{"Config.Grants", func(c *oauth2pw.Config) { c.Grants = grantsNamed("password") }},
		{"Config.Grants", func(c *oauth2pw.Config) { c.Grants = grantsNamed("refresh_token") }},
		{"Config.Grants", func(c *oauth2pw.Config) { c.Grants = grantsNamed("") }},
	} {
		c := oauth2pw.Config{Users: users, Hasher: hasher.Default(), Issuer: ring}
		_, err := oauth2pw.New(c)
		require.NoError(t, err)
		test.edit(&c)
		_, err = oauth2pw.New(c)
		require.ErrorContains(t, err, test.names)
	}

	auth, err := oauth2pw.New(oauth2pw.Config{Users: users, Hasher: hasher.Default(), Issuer: ring, DefaultScopes: []string{"me"}})
	require.NoError(t, err)
	require.PanicsWithValue(t, `oauth2pw: RequireBearer: Config.Scopes does not name "items"`, func() { auth.RequireBearer("me", "items") })
	require.Panics(t, func() { oauth2pw.RequireBearer(nil) })
	require.Panics(t, func() { oauth2pw.RequireBearer(ring, "a b") })
}

type onlyIssuer struct{ oauth2pw.TokenIssuer }

func grantsNamed(name string) map[string]oauth2pw.GrantFunc {
	return map[string]oauth2pw.GrantFunc{
		name: func(context.Context, *oauth2pw.TokenRequest) (*oauth2pw.User, error) { return nil, nil },
	}
}

func TestCustomGrant(t *testing.T) {
	var users oauth2pw.UserStore
	a := newApp(t, func(c *oauth2pw.Config) {
		users = c.Users
		c.Grants = map[string]oauth2pw.GrantFunc{
			"otp": func(ctx context.Context, r *oauth2pw.TokenRequest) (*oauth2pw.User, error) {
				switch code := r.Param("code"); code {
				case "":
					return nil, &oauth2pw.Error{Code: "mfa_required", Description: "Send a code.", Extra: map[string]any{"mfa_token": "m1", "error": "x"}}
				case "down":
					return nil, errors.New("the code service is down")
				case "quote":
					return nil, &oauth2pw.Error{Code: "a\"b", Description: "x"}
				case "line":
					return nil, &oauth2pw.Error{Code: "invalid_grant", Description: "a\r\nb"}
				case "wrong":
					return nil, oauth2pw.ErrNotFound
				default:
					return users.UserByID(ctx, code)
				}
			},
		}
	})
	require.Equal(t, 200, a.post("grant_type=otp&code=u1").StatusCode)
	a.post("grant_type=otp&code=u2").isError(t, 400, "invalid_grant") // disabled
	a.post("grant_type=otp&code=wrong").isError(t, 400, "invalid_grant")
	a.post("grant_type=otp&code=down").isError(t, 503, "temporarily_unavailable")
	a.post("grant_type=otp&code=quote").isError(t, 500, "server_error")
	// Another text than RFC 6749 allows in error_description stands in message.
	line := a.post("grant_type=otp&code=line")
	line.isError(t, 400, "invalid_grant")
	require.Equal(t, "The credentials are wrong.", line.json["error_description"])
	require.Equal(t, "a\r\nb", line.json["message"])
	got := a.post("grant_type=otp&code=u1&code=u1") // sent twice: none
	got.isError(t, 400, "mfa_required")
	require.Equal(t, "m1", got.json["mfa_token"])
	a.post("grant_type=otp&code=u1", basic("reports", "reports-secret")).isError(t, 400, "unauthorized_client")
}

func TestAuthenticate(t *testing.T) {
	a := newApp(t, func(c *oauth2pw.Config) {
		c.Hasher = nil
		c.Authenticate = func(_ context.Context, username, password string) (*oauth2pw.User, error) {
			switch {
			case password == "down":
				return nil, errors.New("no LDAP server answers")
			case username != "johndoe" || password != "ldap":
				return nil, oauth2pw.ErrNotFound
			}
			return &oauth2pw.User{ID: "u1", Username: username}, nil
		}
	})
	require.Equal(t, 200, a.post("grant_type=password&username=johndoe&password=ldap").StatusCode)
	a.post("grant_type=password&username=johndoe&password=x").isError(t, 400, "invalid_grant")
	a.post("grant_type=password&username=johndoe&password=down").isError(t, 503, "temporarily_unavailable")
}

func TestGrantScopes(t *testing.T) {
	grant := []string{"me", "admin", "me"}
	a := newApp(t, func(c *oauth2pw.Config) {
		c.GrantScopes = func(_ context.Context, u *oauth2pw.User, _ *oauth2pw.Client, asked []string) ([]string, error) {
			if len(asked) > 0 && asked[0] == "items" {
				return nil, &oauth2pw.Error{Code: "invalid_scope"}
			}
			return grant, nil
		}
	})
	require.Equal(t, "me admin", a.post(login).json["scope"])
	a.post(login+"&scope=items").isError(t, 400, "invalid_scope")
	a.post(login+"&client_id=narrow").isError(t, 400, "invalid_scope") // the client's limit holds
	grant = []string{"unknown"}
	a.post(login).isError(t, 500, "server_error")
}

// TestConformance112: a user whose ID is that of the client gets no token, whose sub
// would be taken for the client's (RFC 9068, section 5).
func TestConformance112(t *testing.T) {
	a := newApp(t)
	require.NoError(t, a.users.Add(t.Context(), oauth2pw.User{ID: "webapp", Username: "sly", PasswordHash: "new:secret"}))
	got := a.post("grant_type=password&username=sly&password=secret&client_id=webapp")
	got.isError(t, 503, "temporarily_unavailable")
	require.ErrorContains(t, a.event().Err, "that of the client")
	require.Equal(t, 200, a.post("grant_type=password&username=sly&password=secret").StatusCode)
	a.takeEvents()
	_, err := a.auth.Login(post(""), "webapp", "webapp")
	require.Error(t, err)
	require.ErrorContains(t, a.event().Err, "that of the client")
}

// TestHashUpgrade: a login replaces an outdated hash, once.
//
// Conformance 117.
func TestHashUpgrade(t *testing.T) {
	a := newApp(t)
	a.post("grant_type=password&username=old&password=wrong").isError(t, 400, "invalid_grant")
	hash := func() string {
		u, err := a.users.UserByName(t.Context(), "old")
		require.NoError(t, err)
		return string(u.PasswordHash)
	}
	require.Equal(t, "old:secret", hash())
	for range 2 {
		require.Equal(t, 200, a.post("grant_type=password&username=old&password=secret").StatusCode)
		require.Equal(t, "new:secret", hash())
	}
	upgrades := 0
	for _, e := range a.takeEvents() {
		if e.Kind == oauth2pw.EventHashUpgraded {
			upgrades++
		}
	}
	require.Equal(t, 1, upgrades)
}

// TestHashUpgradeFails: a login works although the store cannot replace its outdated hash.
//
// Conformance 117.
func TestHashUpgradeFails(t *testing.T) {
	errReadOnly := errors.New("the database is read-only")
	s := new(script)
	a := newApp(t, s.wrap)
	s.before("PasswordUpdater.UpdatePasswordHash", fails(errReadOnly))
	for range 2 {
		a.hasher.take()
		require.Equal(t, 200, a.post("grant_type=password&username=old&password=secret").StatusCode)
		require.Equal(t, 1, a.hasher.take(), "the stored hash is the one that was verified")
		events := a.takeEvents()
		require.Len(t, events, 2)
		require.Equal(t, oauth2pw.EventUpgradeFailed, events[0].Kind)
		require.ErrorIs(t, events[0].Err, errReadOnly)
		require.Equal(t, "u3", events[0].UserID)
		require.Equal(t, oauth2pw.EventLogin, events[1].Kind)
	}
}

func TestErrorBody(t *testing.T) {
	var body func(e *oauth2pw.Error) any
	a := newApp(t, func(c *oauth2pw.Config) {
		c.ErrorBody = func(_ context.Context, e *oauth2pw.Error) any { return body(e) }
	})
	wrong := "grant_type=password&username=johndoe&password=wrong"
	body = func(e *oauth2pw.Error) any {
		code := e.Code
		e.Code, e.RetryAfter = "server_error", time.Hour // of no effect
		return map[string]string{"error": code, "error_description": "Nope.", "hint": "x"}
	}
	got := a.post(wrong)
	got.isError(t, 400, "invalid_grant")
	require.Equal(t, "x", got.json["hint"])
	require.Empty(t, got.Header.Get("Retry-After"))
	body = func(*oauth2pw.Error) any { return nil }
	a.post(wrong).isError(t, 400, "invalid_grant")
	body = func(*oauth2pw.Error) any { return func() {} } // not JSON
	a.post(wrong).isError(t, 400, "invalid_grant")
}

// TestNothingLeaks: no event, log line, answer or printed value holds a secret.
//
// Conformance 129, 130.
func TestNothingLeaks(t *testing.T) {
	const canary = "CANARY"
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	var printed strings.Builder
	show := func(v any) {
		fmt.Fprintf(&printed, "%v %+v %#v %s %q %x\n", v, v, v, v, v, v)
		logger.Info("value", "v", v)
	}
	var shown []oauth2pw.Event
	a := newApp(t, func(c *oauth2pw.Config) {
		log := oauth2pw.LogEvents(logger)
		c.OnEvent = func(ctx context.Context, e oauth2pw.Event) {
			log(ctx, e)
			shown = append(shown, e)
		}
		c.Grants = map[string]oauth2pw.GrantFunc{
			"otp": func(_ context.Context, r *oauth2pw.TokenRequest) (*oauth2pw.User, error) {
				show(r)
				show(*r)
				panic("code " + r.Param("code"))
			},
		}
	})
	require.NoError(t, a.users.Add(t.Context(), oauth2pw.User{ID: "c", Username: "c", PasswordHash: "new:" + canary}))
	ok := a.post("grant_type=password&username=c&password=" + canary)
	require.Equal(t, 200, ok.StatusCode)
	token := ok.json["access_token"].(string)
	bodies := ""
	for _, got := range []answer{
		a.post("grant_type=password&username=" + canary + "&password=x"),
		a.post("grant_type=password&username=c&password=" + canary + "x"),
		a.post(login, basic("backend", canary)),
		a.post(login, basic(canary, "x")),
		a.post(login + "&client_id=" + canary),
		a.post("grant_type=" + canary),
		a.post(login + "&scope=" + canary),
		a.post("grant_type=otp&code=" + canary),
		a.get("/me", token+canary),
		a.get("/items", token),
	} {
		require.GreaterOrEqual(t, got.StatusCode, 400)
		bodies += got.body + fmt.Sprint(got.Header)
	}
	form, err := oauth2pw.ParsePasswordRequestForm(post("username=x&password=" + canary + "&client_secret=" + canary))
	require.NoError(t, err)
	require.Equal(t, canary, string(form.Password))
	require.Equal(t, canary, string(form.ClientSecret))
	show(form)
	show(*form)
	show(oauth2pw.User{PasswordHash: canary})
	show(&oauth2pw.User{PasswordHash: canary})
	show(oauth2pw.Secret(canary))
	for _, e := range shown {
		show(e)
	}
	show(a.auth)
	require.NotEmpty(t, shown)
	for what, text := range map[string]string{"a log line": log.String(), "a printed value": printed.String(), "an answer": bodies} {
		for _, secret := range []string{canary, fmt.Sprintf("%x", canary), token} {
			at := strings.Index(text, secret)
			require.Equal(t, -1, at, "%s holds a secret: %s", what, text[max(at-100, 0):max(min(at+20, len(text)), 0)])
		}
	}
}

func TestParsePasswordRequestForm(t *testing.T) {
	form, err := oauth2pw.ParsePasswordRequestForm(post("username=a&password=b&scope=x+y&client_id=c"))
	require.NoError(t, err)
	require.Equal(t, "a", form.Username)
	require.Equal(t, []string{"x", "y"}, form.Scopes)
	require.Equal(t, "c", form.ClientID)
	for body, code := range map[string]string{
		"username=a&password=b":                "invalid_request",
		"grant_type=foo&username=a&password=b": "unsupported_grant_type",
		"grant_type=password&username=a":       "invalid_request",
		login + "&scope=%22":                   "invalid_scope",
		login + "&password=x":                  "invalid_request",
	} {
		_, err := oauth2pw.ParsePasswordRequestFormStrict(post(body))
		var e *oauth2pw.Error
		require.ErrorAs(t, err, &e, body)
		require.Equal(t, code, e.Code, body)
	}
	_, err = oauth2pw.ParsePasswordRequestFormStrict(post(login))
	require.NoError(t, err)
}
