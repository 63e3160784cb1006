package oauth2pw_test

import (
	"context"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/tokens"
)

// A hurried developer finds a mistake early: New and the other constructors refuse it, the
// wiring panics, as net/http's own, or the first request opens nothing and an event names the
// setting. docs/slips.md has the same table.

// TestSlips: New refuses a Config, and names the setting.
//
// Conformance 153.
func TestSlips(t *testing.T) {
	base := newSessionApp(t)
	for _, test := range []struct {
		slip, told string
		edit       func(c *oauth2pw.Config)
	}{
		{"no users", "Config.Users", func(c *oauth2pw.Config) { c.Users = nil }},
		{"a typed nil of users", "Config.Users", func(c *oauth2pw.Config) { c.Users = (*store.Users)(nil) }},
		{"no hasher", "Config.Hasher", func(c *oauth2pw.Config) { c.Hasher = nil }},
		{"a typed nil of a hasher", "Config.Hasher", func(c *oauth2pw.Config) { c.Hasher = (*hasher.Hasher)(nil) }},
		{"a zero Hasher", "zero Hasher", func(c *oauth2pw.Config) { c.Hasher = new(hasher.Hasher) }},
		{"a hasher and Authenticate", "one of Config.Hasher and Config.Authenticate", func(c *oauth2pw.Config) {
			c.Authenticate = func(context.Context, string, string) (*oauth2pw.User, error) { return nil, nil }
		}},
		{"no issuer", "Config.Issuer", func(c *oauth2pw.Config) { c.Issuer = nil }},
		{"a typed nil of an issuer", "Config.Issuer", func(c *oauth2pw.Config) { c.Issuer = (*tokens.Ring)(nil) }},
		{"a zero Ring", "zero Ring", func(c *oauth2pw.Config) { c.Issuer = new(tokens.Ring) }},
		{"a zero Remote", "zero Remote", func(c *oauth2pw.Config) { c.Verifier = new(tokens.Remote) }},
		{"a typed nil of clients", "Config.Clients", func(c *oauth2pw.Config) { c.Clients = (*store.Clients)(nil) }},
		{"a typed nil of sessions", "Config.Sessions", func(c *oauth2pw.Config) { c.Sessions = (*store.Sessions)(nil) }},
		{"a typed nil of a throttle", "Config.Throttle", func(c *oauth2pw.Config) { c.Throttle = (*recorder)(nil) }},
		{"sessions without secrets", "Config.Secrets", func(c *oauth2pw.Config) { c.Secrets = nil }},
		{"a password as a secret", "Config.Secrets[0]", func(c *oauth2pw.Config) { c.Secrets = []oauth2pw.Secret{"hunter2"} }},
		{"RefreshIdle without sessions", "need Config.Sessions", func(c *oauth2pw.Config) {
			c.Sessions, c.Secrets, c.RefreshIdle = nil, nil, 14
		}},
		{"a header that is none", "Config.ProxyHeader", func(c *oauth2pw.Config) { c.ProxyHeader = "not a header" }},
		{"Host as the header", "Config.ProxyHeader", func(c *oauth2pw.Config) { c.ProxyHeader = "host" }},
		{"RefreshIdle: 14", "Config.RefreshIdle", func(c *oauth2pw.Config) { c.RefreshIdle = 14 }},
		{"RefreshMax: 90", "Config.RefreshMax", func(c *oauth2pw.Config) { c.RefreshMax = 90 }},
		{"RefreshGrace: 30", "Config.RefreshGrace", func(c *oauth2pw.Config) { c.RefreshGrace = 30 }},
		{"a grace of an hour", "Config.RefreshGrace", func(c *oauth2pw.Config) { c.RefreshGrace = time.Hour }},
		{"SessionCache: 10", "Config.SessionCache", func(c *oauth2pw.Config) { c.SessionCache = 10 }},
		{"a negative SessionCache", "Config.SessionCache", func(c *oauth2pw.Config) { c.SessionCache = -time.Minute }},
		{"stateless tokens with a session cache", "Config.StatelessTokens", func(c *oauth2pw.Config) { c.SessionCache, c.StatelessTokens = time.Minute, true }},
		{"stateless tokens without sessions", "Config.SessionCache and StatelessTokens", func(c *oauth2pw.Config) {
			c.Sessions, c.Secrets, c.StatelessTokens = nil, nil, true
		}},
		{"StoreTimeout: 5", "Config.StoreTimeout", func(c *oauth2pw.Config) { c.StoreTimeout = 5 }},
		{"ThrottleWindow: 15", "Config.ThrottleWindow", func(c *oauth2pw.Config) { c.ThrottleWindow = 15 }},
		{"a throttle and none", "Config.InsecureNoThrottle", func(c *oauth2pw.Config) { c.Throttle, c.InsecureNoThrottle = new(recorder), true }},
		{"a scope with a space", "Config.Scopes", func(c *oauth2pw.Config) { c.Scopes = map[string]string{"me items": ""} }},
		{"a default scope that is misspelt", "Config.DefaultScopes", func(c *oauth2pw.Config) { c.DefaultScopes = []string{"mee"} }},
		{"a grant of the app's own by a built-in name", "Config.Grants", func(c *oauth2pw.Config) { c.Grants = grantsNamed("password") }},
		{"a nil grant", "Config.Grants", func(c *oauth2pw.Config) {
			c.Grants = map[string]oauth2pw.GrantFunc{"x": nil}
		}},
		{"everybody is a trusted proxy", "Config.TrustedProxies", func(c *oauth2pw.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} }},
		{"a zero prefix", "Config.TrustedProxies", func(c *oauth2pw.Config) { c.TrustedProxies = []netip.Prefix{{}} }},
		{"an origin with a path", "Config.TrustedOrigins", func(c *oauth2pw.Config) { c.TrustedOrigins = []string{"https://app.example.com/"} }},
		{"a default client and none", "Config.DefaultClientID", func(c *oauth2pw.Config) { c.DefaultClientID, c.AllowNoClient = "app", true }},
		{"a line end in the realm", "Config.Realm", func(c *oauth2pw.Config) { c.Realm = "a\nb" }},
	} {
		c := base.config
		test.edit(&c)
		_, err := oauth2pw.New(c)
		require.ErrorContains(t, err, test.told, test.slip)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

// TestSlipsOfConstructors: the other constructors refuse their settings.
//
// Conformance 153.
func TestSlipsOfConstructors(t *testing.T) {
	base := newSessionApp(t)
	key, _, err := tokens.NewKey("")
	require.NoError(t, err)
	ring := tokens.Config{Keys: []tokens.Key{key}, Issuer: issuer, Audience: audience}
	for _, test := range []struct {
		slip, told string
		err        func() error
	}{
		{"Params{64, 1, 1}", "Config.InsecureParams", func() error {
			_, err := hasher.New(hasher.Config{Params: hasher.Params{Memory: 64, Time: 1, Threads: 1}})
			return err
		}},
		{"memory in bytes", "Config.Params", func() error {
			_, err := hasher.New(hasher.Config{Params: hasher.Params{Memory: 64 << 20, Time: 3, Threads: 4}})
			return err
		}},
		{"Params without lanes", "Config.Params", func() error {
			_, err := hasher.New(hasher.Config{Params: hasher.Params{Memory: 64 << 10, Time: 3}})
			return err
		}},
		{"TTL: 15", "TTL", func() error { c := ring; c.TTL = 15; _, err := tokens.New(c); return err }},
		{"no keys", "Keys", func() error { c := ring; c.Keys = nil; _, err := tokens.New(c); return err }},
		{"a zero Key", "Key", func() error { c := ring; c.Keys = []tokens.Key{{}}; _, err := tokens.New(c); return err }},
		{"no audience", "Audience", func() error { c := ring; c.Audience = ""; _, err := tokens.New(c); return err }},
		{"a word as a key", "no key", func() error { _, err := tokens.ParseKeys([]byte("secret")); return err }},
		{"MaxStale: 24", "MaxStale", func() error {
			_, err := tokens.NewRemote(tokens.RemoteConfig{Issuer: "https://x.example", Audience: "a", MaxStale: 24})
			return err
		}},
		{"SweepSessions(ctx, 60)", "under a second", func() error { return base.auth.SweepSessions(t.Context(), 60) }},
		{"two users of one name", "exists already", func() error {
			_, err := store.NewUsers(oauth2pw.User{ID: "1", Username: "a"}, oauth2pw.User{ID: "2", Username: "a"})
			return err
		}},
		{"the secret itself as its digest", "SecretSHA256", func() error {
			_, err := store.NewClients(oauth2pw.Client{ID: "a", SecretSHA256: []byte("s3cret")})
			return err
		}},
		{"log-out of a token without a session", "id is empty", func() error { _, err := base.auth.EndSession(t.Context(), "u1", "", "x"); return err }},
	} {
		require.ErrorContains(t, test.err(), test.told, test.slip)
	}
}

// TestSlipsOfWiring: the middleware and the handlers panic where they are made.
//
// Conformance 153.
func TestSlipsOfWiring(t *testing.T) {
	base := newSessionApp(t)
	for _, test := range []struct {
		slip, told string
		do         func()
	}{
		{"a scope that there is not", "does not name", func() { base.auth.RequireBearer("mee") }},
		{"two scopes in one string", "no scope", func() { base.auth.RequireBearer("me items") }},
		{"a nil handler", "handler is nil", func() { base.auth.RequireBearer("me")(nil) }},
		{"a nil HandlerFunc", "handler is nil", func() { base.auth.RequireBearer("me")(http.HandlerFunc(nil)) }},
		{"a nil verifier", "verifier is nil", func() { oauth2pw.RequireBearer(nil) }},
		{"a typed nil of an Auth", "verifier is nil", func() { oauth2pw.RequireBearer((*oauth2pw.Auth)(nil)) }},
		{"a zero Ring", "zero Ring", func() { oauth2pw.RequireBearer(new(tokens.Ring)) }},
		{"a nil check", "check is nil", func() { oauth2pw.PasswordBearer{}.Require(nil) }},
		{"metadata without a URL", "TokenEndpoint", func() { base.auth.MetadataHandler(oauth2pw.Metadata{}) }},
		{"metadata of another issuer", "Issuer", func() {
			base.auth.MetadataHandler(oauth2pw.Metadata{Issuer: "https://x.example", TokenEndpoint: "https://x.example/token"})
		}},
	} {
		require.Contains(t, panicOf(test.do), test.told, test.slip)
	}
}

// panicOf returns the value of the panic of a function; nil: it does not panic.
func panicOf(do func()) (value any) {
	defer func() { value = recover() }()
	do()
	return nil
}

// TestSlipsAtTheFirstRequest: the answer opens nothing, and an event names the mistake.
//
// Conformance 153.
func TestSlipsAtTheFirstRequest(t *testing.T) {
	base := newSessionApp(t)
	oneUser := func(u oauth2pw.User) func(*oauth2pw.Config) {
		return func(c *oauth2pw.Config) { c.Users = oneUserOf{u} }
	}
	for _, test := range []struct {
		slip   string
		edit   func(*oauth2pw.Config)
		status int
		code   any // of the error
		kind   oauth2pw.EventKind
		reason oauth2pw.EventReason // or the plug
	}{
		{
			slip: "a store whose miss is not ErrNotFound",
			edit: func(c *oauth2pw.Config) {
				s := new(script)
				s.wrap(c)
				s.before("UserStore.UserByName", fails(http.ErrNoCookie))
			},
			status: 503, code: "temporarily_unavailable", kind: oauth2pw.EventUnavailable, reason: "UserStore.UserByName",
		},
		{
			slip: "a store that returns nil for a miss", edit: func(c *oauth2pw.Config) { c.Users = nilUsers{} },
			status: 503, code: "temporarily_unavailable", kind: oauth2pw.EventUnavailable, reason: "UserStore.UserByName",
		},
		{
			slip:   "ID and Username swapped in the table: the user whose ID is johndoe",
			edit:   oneUser(oauth2pw.User{ID: "johndoe", Username: "u1", PasswordHash: "new:secret"}),
			status: 200, kind: oauth2pw.EventNameFolding,
		},
		{
			slip:   "a user without an ID",
			edit:   oneUser(oauth2pw.User{Username: "johndoe", PasswordHash: "new:secret"}),
			status: 503, code: "temporarily_unavailable", kind: oauth2pw.EventUnavailable, reason: "UserStore.UserByName",
		},
		{
			slip:   "a password in the clear in the column of the hash",
			edit:   oneUser(oauth2pw.User{ID: "u1", Username: "johndoe", PasswordHash: "secret"}),
			status: 400, code: "invalid_grant", kind: oauth2pw.EventLoginFailed, reason: "unreadable_hash",
		},
	} {
		t.Run(test.slip, func(t *testing.T) {
			a := newSessionApp(t, test.edit)
			got := a.post(login)
			require.Equal(t, test.status, got.StatusCode, got.body)
			require.Equal(t, test.code, got.code())
			a.saw(test.kind, test.reason)
		})
	}

	// A handler that was never wrapped: nobody is in its context.
	_, ok := oauth2pw.PrincipalFrom(post("").Context())
	require.False(t, ok)
	_, err := base.auth.ChangePassword(post(""), "secret", "new")
	require.ErrorContains(t, err, "access_denied")
	// ParseForm of a framework in front, a token of another audience: told by the event.
	other, err := tokens.New(tokens.Config{Keys: mustKeys(t), Issuer: issuer, Audience: "account", Now: base.clock.Now})
	require.NoError(t, err)
	token, _, err := other.Issue(t.Context(), oauth2pw.Principal{Subject: "u1"})
	require.NoError(t, err)
	base.takeEvents()
	base.get("/status", token).isError(t, 401, "invalid_token")
	e := base.saw(oauth2pw.EventTokenRefused, "invalid")
	require.ErrorContains(t, e.Err, `has audience account, want api`)
}

// TestForeignTokenWithoutIssuer: where the issuer of own tokens is not known, and another
// verifier is set, no token is taken for an own one.
func TestForeignTokenWithoutIssuer(t *testing.T) {
	other, err := tokens.New(tokens.Config{Keys: mustKeys(t), Issuer: "https://other.example", Audience: audience})
	require.NoError(t, err)
	a := newApp(t, func(c *oauth2pw.Config) {
		c.LoadUser, c.Issuer, c.Verifier = false, onlyIssuer{c.Issuer}, other
	})
	token, _, err := other.Issue(t.Context(), oauth2pw.Principal{Subject: "u1", Scope: "me"})
	require.NoError(t, err)
	require.Equal(t, 200, a.get("/me", token).StatusCode)
	got := a.introspect(token)
	require.Equal(t, `{"active":false}`, got.body)
	require.Equal(t, 200, a.revoke("token="+token).StatusCode)
	a.change(token, "secret", "new").isError(t, 403, "access_denied")
}

func mustKeys(t *testing.T) []tokens.Key {
	t.Helper()
	keys, err := tokens.ParseKeys([]byte(testKey))
	require.NoError(t, err)
	return keys
}
