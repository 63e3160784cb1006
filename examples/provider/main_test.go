package main

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/tokens"
)

const audience = "https://api.example.com"

// provider is an OpenID provider that has nothing in common with package tokens.
type provider struct {
	*testing.T
	*httptest.Server
	key  ed25519.PrivateKey
	down atomic.Bool
}

func encode(v any) string {
	data, ok := v.([]byte)
	if !ok {
		data, _ = json.Marshal(v)
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

func startProvider(t *testing.T) *provider {
	t.Helper()
	public, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	p := &provider{T: t, key: key}
	answer := func(w http.ResponseWriter, v any) {
		if p.down.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_ = json.NewEncoder(w).Encode(v) // an error means that the client has disconnected
	}
	mux := http.NewServeMux()
	p.Server = httptest.NewTLSServer(mux)
	t.Cleanup(p.Close)
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"issuer": p.URL, "jwks_uri": p.URL + "/keys"})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"keys": []any{map[string]any{
			"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": "p1", "x": encode([]byte(public)),
		}}})
	})
	return p
}

// token is an access token of user 1 of the provider; changes replace claims, and nil removes one.
func (p *provider) token(changes map[string]any) string { return p.typed("at+jwt", changes) }

func (p *provider) typed(typ string, changes map[string]any) string {
	claims := map[string]any{
		"iss": p.URL, "sub": "1", "aud": []string{audience, "https://other.example.com"},
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(), "scope": "openid read:items admin profile",
	}
	for name, value := range changes {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	signed := encode(map[string]any{"alg": "EdDSA", "kid": "p1", "typ": typ}) + "." + encode(claims)
	return signed + "." + encode(ed25519.Sign(p.key, []byte(signed)))
}

// app is the app, with its store of users.
type app struct {
	*testing.T
	url   string
	users *store.Users
	// restart makes the app again, with the same stores.
	restart func(noPasswords bool)
}

func startApp(t *testing.T, p *provider) *app {
	t.Helper()
	h, err := hasher.New(hasher.Config{Params: hasher.Params{Memory: 64, Time: 1, Threads: 1}, InsecureParams: true})
	require.NoError(t, err)
	hash, err := h.Hash(t.Context(), "secret")
	require.NoError(t, err)
	users, err := store.NewUsers(oauth2pw.User{
		ID: "1", Username: "johndoe", PasswordHash: oauth2pw.Secret(hash), Scopes: []string{"me", "items"},
	})
	require.NoError(t, err)
	var handler atomic.Pointer[http.Handler]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*handler.Load()).ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	key, _, err := tokens.NewKey("")
	require.NoError(t, err)
	jwt, err := tokens.New(tokens.Config{Keys: []tokens.Key{key}, Issuer: server.URL, Audience: "api"})
	require.NoError(t, err)
	sessions, secrets := new(store.Sessions), []oauth2pw.Secret{oauth2pw.NewSecret()}
	roots := x509.NewCertPool()
	roots.AddCert(p.Certificate())
	a := &app{T: t, url: server.URL, users: users}
	a.restart = func(noPasswords bool) {
		t.Helper()
		routed, err := routes(oauth2pw.Config{
			Users: users, Hasher: h, Issuer: jwt, Sessions: sessions, Secrets: secrets, DisablePasswordGrant: noPasswords,
		}, jwt, tokens.RemoteConfig{Issuer: p.URL, Audience: audience, RootCAs: roots})
		require.NoError(t, err)
		handler.Store(&routed)
	}
	a.restart(false)
	return a
}

func (a *app) get(path, token string) (int, string) {
	a.Helper()
	r, err := http.NewRequestWithContext(a.Context(), "GET", a.url+path, nil)
	require.NoError(a, err)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return a.read(http.DefaultClient.Do(r))
}

func (a *app) post(path string, form url.Values) (int, string) {
	a.Helper()
	return a.read(http.PostForm(a.url+path, form))
}

func (a *app) read(resp *http.Response, err error) (int, string) {
	a.Helper()
	require.NoError(a, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(a, err)
	return resp.StatusCode, string(body)
}

type answer struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Error   string `json:"error"`
}

func (a *app) tokens(status int, form url.Values) (got answer) {
	a.Helper()
	code, body := a.post("/token", form)
	require.Equal(a, status, code, body)
	require.NoError(a, json.Unmarshal([]byte(body), &got))
	return got
}

func login(password string) url.Values {
	return url.Values{"grant_type": {"password"}, "username": {"johndoe"}, "password": {password}, "scope": {"me items"}}
}

func refresh(token string) url.Values {
	return url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}
}

// TestBoth: both kinds of tokens open the same handlers, and the scopes of the provider are
// mapped. User 1 of the provider is another user than user 1 of the app.
func TestBoth(t *testing.T) {
	p := startProvider(t)
	a := startApp(t, p)
	own, foreign := a.tokens(200, login("secret")).Access, p.token(nil)
	for _, test := range []struct {
		name, path, token string
		status            int
		body              string
	}{
		{"own", "/me", own, 200, `johndoe, with the scopes "me items"`},
		{"own", "/items", own, 200, "johndoe"},
		{"own", "/admin", own, 403, `"error":"insufficient_scope"`},
		{"of the provider", "/me", foreign, 200, "user 1 of " + p.URL + `, with the scopes "me items"`},
		{"of the provider", "/items", foreign, 200, "user 1 of " + p.URL},
		{"of the provider, with a scope of the same name", "/admin", foreign, 403, `"error":"insufficient_scope"`},
		{"without known scopes", "/me", p.token(map[string]any{"scope": "me items"}), 403, `"error":"insufficient_scope"`},
		{"scopes as a list", "/items", p.token(map[string]any{"scope": nil, "scp": []string{"read:items"}}), 200, `with the scopes "items"`},
		{"no scopes", "/items", p.token(map[string]any{"scope": nil}), 403, `"error":"insufficient_scope"`},
		{"no token", "/me", "", 401, `"error":"unauthorized"`},
	} {
		status, body := a.get(test.path, test.token)
		require.Equal(t, test.status, status, "%s: %s", test.name, body)
		require.Contains(t, body, test.body, test.name)
	}
	require.Equal(t, "invalid_grant", a.tokens(400, login("wrong")).Error)
}

// TestRefused: a token that the provider did not make for this app is refused.
func TestRefused(t *testing.T) {
	p := startProvider(t)
	a := startApp(t, p)
	forger := &provider{T: t, Server: p.Server}
	_, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	forger.key = key
	for name, token := range map[string]string{
		"a forger's key":                     forger.token(nil),
		"another audience":                   p.token(map[string]any{"aud": "https://other.example.com"}),
		"an unknown issuer":                  p.token(map[string]any{"iss": "https://evil.example.com"}),
		"the provider as the app itself":     p.token(map[string]any{"iss": a.url, "aud": "api"}),
		"expired":                            p.token(map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}),
		"an ID token":                        p.typed("JWT", nil),
		"bound to a key":                     p.token(map[string]any{"cnf": map[string]any{"jkt": "x"}}),
		"no subject":                         p.token(map[string]any{"sub": ""}),
		"alg none":                           encode(map[string]any{"alg": "none", "typ": "at+jwt"}) + strings.TrimLeft(p.token(nil), "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"),
		"the own ring, as the provider says": issueAs(t, a, p.URL),
	} {
		status, body := a.get("/me", token)
		require.Equal(t, 401, status, "%s: %s", name, body)
		require.Contains(t, body, `"error":"invalid_token"`, name)
	}
	status, _ := a.get("/me", p.token(nil))
	require.Equal(t, 200, status)
}

// issueAs returns a token of a key that is neither of the app nor of the provider.
func issueAs(t *testing.T, a *app, issuer string) string {
	t.Helper()
	key, _, err := tokens.NewKey("")
	require.NoError(t, err)
	ring, err := tokens.New(tokens.Config{Keys: []tokens.Key{key}, Issuer: issuer, Audience: audience})
	require.NoError(t, err)
	token, _, err := ring.Issue(a.Context(), oauth2pw.Principal{Subject: "1", Scope: "openid"})
	require.NoError(t, err)
	return token
}

// TestUsers: only an own token has a user of the app. Users and sessions of the app do not
// matter for a token of the provider, even if the names are equal.
func TestUsers(t *testing.T) {
	p := startProvider(t)
	a := startApp(t, p)
	got := a.tokens(200, login("secret"))
	claims := map[string]any{}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(got.Access, ".")[1])
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(payload, &claims))
	foreign := p.token(map[string]any{"sid": claims["sid"]})

	// The endpoint for revocation takes own tokens only: the session stays live.
	status, body := a.post("/revoke", url.Values{"token": {foreign}})
	require.Equal(t, 200, status, body)
	status, _ = a.get("/me", got.Access)
	require.Equal(t, 200, status)

	status, body = a.post("/revoke", url.Values{"token": {got.Access}})
	require.Equal(t, 200, status, body)
	status, body = a.get("/me", got.Access)
	require.Equal(t, 401, status, body)

	// A disabled user: LoadUser refuses own tokens at once.
	own := a.tokens(200, login("secret")).Access
	require.NoError(t, a.users.Update(t.Context(), "1", func(u *oauth2pw.User) error { u.Disabled = true; return nil }))
	status, body = a.get("/me", own)
	require.Equal(t, 401, status, body)
	status, body = a.get("/me", foreign)
	require.Equal(t, 200, status, body)
}

// TestNoPasswords: the switch turns only the password grant off. Sessions continue.
func TestNoPasswords(t *testing.T) {
	p := startProvider(t)
	a := startApp(t, p)
	before := a.tokens(200, login("secret"))
	_, body := a.get("/.well-known/oauth-authorization-server", "")
	require.Contains(t, body, `"grant_types_supported":["password","refresh_token"]`)

	a.restart(true)
	for _, password := range []string{"secret", "wrong"} {
		require.Equal(t, "unsupported_grant_type", a.tokens(400, login(password)).Error)
	}
	_, body = a.get("/.well-known/oauth-authorization-server", "")
	require.Contains(t, body, `"grant_types_supported":["refresh_token"]`)
	status, body := a.get("/me", p.token(nil))
	require.Equal(t, 200, status, body)
	status, body = a.get("/me", before.Access)
	require.Equal(t, 200, status, body)
	after := a.tokens(200, refresh(before.Refresh))
	status, body = a.get("/items", after.Access)
	require.Equal(t, 200, status, body)
	status, body = a.post("/revoke", url.Values{"token": {after.Refresh}})
	require.Equal(t, 200, status, body)
	require.Equal(t, "invalid_grant", a.tokens(400, refresh(after.Refresh)).Error)
	status, body = a.get("/me", after.Access)
	require.Equal(t, 401, status, body)
}

// TestProviderDown: a provider without an answer means a 503 for its own users, and nothing for the users of the app.
func TestProviderDown(t *testing.T) {
	p := startProvider(t)
	a := startApp(t, p)
	p.down.Store(true)
	status, body := a.get("/me", p.token(nil))
	require.Equal(t, 503, status, body)
	require.NotContains(t, body, p.URL)
	status, body = a.get("/me", a.tokens(200, login("secret")).Access)
	require.Equal(t, 200, status, body)
}
