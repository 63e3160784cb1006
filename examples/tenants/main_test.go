package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/hasher"
)

const blue, green = "blue.example.com", "green.example.com"

type app struct {
	*testing.T
	url string
}

func start(t *testing.T) *app {
	t.Helper()
	t.Chdir(t.TempDir()) // the keys are made where the program runs
	h, err := hasher.New(hasher.Config{Params: hasher.Params{Memory: 64, Time: 1, Threads: 1}, InsecureParams: true})
	require.NoError(t, err)
	b, err := demoUsers(h, "blue secret")
	require.NoError(t, err)
	g, err := demoUsers(h, "green secret")
	require.NoError(t, err)
	handler, err := routes(h, tenant{"blue", blue, b}, tenant{"green", green, g})
	require.NoError(t, err)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return &app{t, server.URL}
}

// do sends a request to a host, and returns the status, the body and WWW-Authenticate.
func (a *app) do(host, method, path, token string, form url.Values) (int, string, string) {
	a.Helper()
	r, err := http.NewRequestWithContext(a.Context(), method, a.url+path, strings.NewReader(form.Encode()))
	require.NoError(a, err)
	r.Host = host
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	require.NoError(a, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(a, err)
	return resp.StatusCode, string(body), resp.Header.Get("WWW-Authenticate")
}

type answer struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Error   string `json:"error"`
}

func (a *app) tokens(status int, host string, form url.Values) (got answer) {
	a.Helper()
	code, body, _ := a.do(host, "POST", "/token", "", form)
	require.Equal(a, status, code, body)
	require.NoError(a, json.Unmarshal([]byte(body), &got))
	return got
}

func login(password string) url.Values {
	return url.Values{"grant_type": {"password"}, "username": {"johndoe"}, "password": {password}}
}

func refresh(token string) url.Values {
	return url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}
}

// TestTenants: a user of one tenant is nobody at the other, with every kind of token. Both users
// have the same name and the same ID.
func TestTenants(t *testing.T) {
	a := start(t)
	at := map[string]answer{blue: a.tokens(200, blue, login("blue secret")), green: a.tokens(200, green, login("green secret"))}
	for host, other := range map[string]string{blue: green, green: blue} {
		name, _, _ := strings.Cut(host, ".")
		status, body, _ := a.do(host, "GET", "/hello", at[host].Access, nil)
		require.Equal(t, 200, status, body)
		require.Equal(t, "hello, user 1 of "+name+"\n", body)
		payload, err := base64.RawURLEncoding.DecodeString(strings.Split(at[host].Access, ".")[1])
		require.NoError(t, err)
		require.Contains(t, string(payload), fmt.Sprintf(`"iss":"https://%s"`, host))
		status, body, _ = a.do(host+":443", "GET", "/hello", at[host].Access, nil)
		require.Equal(t, 200, status, body)

		status, body, challenge := a.do(host, "GET", "/hello", at[other].Access, nil)
		require.Equal(t, 401, status, body)
		require.Equal(t, fmt.Sprintf(`Bearer realm=%q`, name), strings.Split(challenge, ",")[0])
		require.Contains(t, challenge, `error="invalid_token"`)
		require.Equal(t, "invalid_grant", a.tokens(400, host, refresh(at[other].Refresh)).Error)
		status, _, _ = a.do(host, "GET", "/hello", "", nil)
		require.Equal(t, 401, status)

		// The other tenant cannot end the session either, and its password is wrong here.
		status, body, _ = a.do(host, "POST", "/revoke", "", url.Values{"token": {at[other].Refresh}})
		require.Equal(t, 200, status, body)
		status, body, _ = a.do(host, "POST", "/revoke", "", url.Values{"token": {at[other].Access}})
		require.Equal(t, 200, status, body)
		otherName, _, _ := strings.Cut(other, ".")
		require.Equal(t, "invalid_grant", a.tokens(400, host, login(otherName+" secret")).Error)
	}
	for host, got := range at {
		require.NotEmpty(t, a.tokens(200, host, refresh(got.Refresh)).Access, "the sessions are still live")
	}
	for _, host := range []string{"red.example.com", "example.com", "blue.example.com.evil.example", "127.0.0.1"} {
		status, _, _ := a.do(host, "POST", "/token", "", login("blue secret"))
		require.Equal(t, 404, status, host)
	}
}

// TestThrottle: wrong passwords at one tenant do not block the user with the same name of the
// other tenant.
func TestThrottle(t *testing.T) {
	a := start(t)
	for i := range 10 {
		require.Equal(t, "invalid_grant", a.tokens(400, blue, login(fmt.Sprint("guess", i))).Error)
	}
	require.Equal(t, "slow_down", a.tokens(429, blue, login("blue secret")).Error)
	require.NotEmpty(t, a.tokens(200, green, login("green secret")).Access)
	require.Equal(t, "slow_down", a.tokens(429, blue, login("blue secret")).Error)
}

// TestRestart: the keys of the tenants are kept, each in a folder of its own.
func TestRestart(t *testing.T) {
	a := start(t)
	before := a.tokens(200, blue, login("blue secret")).Access
	h, err := hasher.New(hasher.Config{Params: hasher.Params{Memory: 64, Time: 1, Threads: 1}, InsecureParams: true})
	require.NoError(t, err)
	users, err := demoUsers(h, "blue secret")
	require.NoError(t, err)
	handler, err := routes(h, tenant{"blue", blue, users}, tenant{"green", green, users})
	require.NoError(t, err)
	server := httptest.NewServer(handler)
	defer server.Close()
	a.url = server.URL
	// Sessions are in memory here: the token is genuine, and its session has ended with the
	// process.
	status, _, challenge := a.do(blue, "GET", "/hello", before, nil)
	require.Equal(t, 401, status)
	require.Contains(t, challenge, "invalid_token")
	after := a.tokens(200, blue, login("blue secret")).Access
	status, body, _ := a.do(blue, "GET", "/hello", after, nil)
	require.Equal(t, 200, status, body)
	kid := func(token string) string { header, _, _ := strings.Cut(token, "."); return header }
	require.Equal(t, kid(before), kid(after), "the same key")
	require.NotEqual(t, kid(after), kid(a.tokens(200, green, login("blue secret")).Access), "another key")
}
