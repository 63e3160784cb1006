package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/tokens"
)

// fake is a directory that can be down or silent. Like LDAP servers, it compares names without
// case and without spaces at the ends, and accepts an empty password.
type fake struct {
	mu     sync.Mutex
	people map[string]person // by name and password
	down   error             // the error of every call
	silent bool              // every call waits for the end of its context
	calls  []string          // the names of all calls
}

func (f *fake) bind(ctx context.Context, name, password string) (*person, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, name)
	switch p, ok := f.people[strings.TrimSpace(strings.ToLower(name))+" "+password]; {
	case f.silent:
		<-ctx.Done()
		return nil, ctx.Err()
	case f.down != nil:
		return nil, f.down
	case password == "":
		return &person{uuid: "anonymous"}, nil
	case !ok:
		return nil, fmt.Errorf("result 49 for %q: %w", name, errCredentials)
	default:
		return &p, nil
	}
}

func (f *fake) set(down error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
}

type app struct {
	*testing.T
	*fake
	url string
}

func start(t *testing.T, limit time.Duration) *app {
	t.Helper()
	f := &fake{people: map[string]person{
		"johndoe secret": {uuid: "uuid-1", groups: []string{"reports", "staff", "reports"}},
		"alice wonder":   {uuid: "uuid-2", groups: []string{"staff"}},
		"bob builder":    {uuid: "uuid-3", groups: []string{"reports"}, locked: true},
	}}
	return startWith(t, f, f, limit)
}

func startWith(t *testing.T, d directory, f *fake, limit time.Duration) *app {
	t.Helper()
	key, _, err := tokens.NewKey("")
	require.NoError(t, err)
	jwt, err := tokens.New(tokens.Config{Keys: []tokens.Key{key}, Issuer: "https://api.example.com", Audience: "api"})
	require.NoError(t, err)
	handler, err := routes(d, limit, jwt)
	require.NoError(t, err)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return &app{t, f, server.URL}
}

type answer struct {
	Access      string `json:"access_token"`
	Refresh     string `json:"refresh_token"`
	Scope       string `json:"scope"`
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

func (a *app) login(name, password, scope string) (status int, got answer, body string) {
	a.Helper()
	form := url.Values{"grant_type": {"password"}, "username": {name}, "password": {password}}
	if scope != "" {
		form.Set("scope", scope)
	}
	resp, err := http.PostForm(a.url+"/token", form)
	require.NoError(a, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	require.NoError(a, err)
	require.NoError(a, json.Unmarshal(data, &got), string(data))
	return resp.StatusCode, got, string(data)
}

func (a *app) get(path, token string) (int, string) {
	a.Helper()
	r, err := http.NewRequestWithContext(a.Context(), "GET", a.url+path, nil)
	require.NoError(a, err)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	require.NoError(a, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(a, err)
	return resp.StatusCode, string(body)
}

// TestLogin: the directory decides about the password, and its groups about the scopes.
func TestLogin(t *testing.T) {
	a := start(t, time.Minute)
	for _, test := range []struct {
		name, user, password, scope string
		status                      int
		want                        string // the scopes or the error
	}{
		{"the password", "johndoe", "secret", "", 200, "me"},
		{"another spelling", "JohnDoe", "secret", "", 200, "me"},
		{"a scope of a group", "johndoe", "secret", "me reports", 200, "me reports"},
		{"a scope of no group", "alice", "wonder", "reports", 400, "invalid_scope"},
		{"a group that is no scope", "alice", "wonder", "staff", 400, "invalid_scope"},
		{"a wrong password", "johndoe", "Secret", "", 400, "invalid_grant"},
		{"another person's password", "johndoe", "wonder", "", 400, "invalid_grant"},
		{"an unknown name", "nobody", "secret", "", 400, "invalid_grant"},
		{"a locked account", "bob", "builder", "", 400, "invalid_grant"},
		{"no password", "johndoe", "", "", 400, "invalid_request"},
		{"no name", "", "secret", "", 400, "invalid_request"},
	} {
		status, got, body := a.login(test.user, test.password, test.scope)
		require.Equal(t, test.status, status, "%s: %s", test.name, body)
		require.Equal(t, test.want, got.Scope+got.Error, test.name)
		require.Equal(t, test.status == 200, got.Access != "", test.name)
		require.Empty(t, got.Refresh, test.name)
	}
	_, wrong, _ := a.login("johndoe", "Secret", "")
	_, unknown, _ := a.login("nobody", "secret", "")
	_, locked, _ := a.login("bob", "builder", "")
	require.Equal(t, wrong, unknown)
	require.Equal(t, wrong, locked)

	_, got, _ := a.login("JOHNDOE", "secret", "me")
	status, body := a.get("/me", got.Access)
	require.Equal(t, 200, status)
	require.Equal(t, "hello, uuid-1\n", body)
	status, body = a.get("/reports", got.Access)
	require.Equal(t, 403, status, body)
	status, body = a.get("/me", "")
	require.Equal(t, 401, status, body)
}

// TestDown: a directory without an answer is a 503 and no wrong password: the attempt is not
// counted, and the answer has nothing of the error.
func TestDown(t *testing.T) {
	a := start(t, time.Minute)
	a.set(errors.New("dial tcp ldap.internal:636: connection refused"))
	for range 40 {
		status, got, body := a.login("johndoe", "secret", "")
		require.Equal(t, 503, status, body)
		require.NotContains(t, body, "ldap")
		require.Empty(t, got.Access)
	}
	a.set(nil)
	status, _, body := a.login("johndoe", "secret", "")
	require.Equal(t, 200, status, body)
}

// TestSilent: a directory that does not answer at all is a 503 after the time limit.
func TestSilent(t *testing.T) {
	a := start(t, time.Millisecond)
	a.silent = true
	status, _, body := a.login("johndoe", "secret", "")
	require.Equal(t, 503, status, body)
}

// TestGuessing: wrong passwords are counted for all spellings of a name together. A blocked
// attempt does not reach the directory, which may lock accounts by itself.
func TestGuessing(t *testing.T) {
	a := start(t, time.Minute)
	for i := range 10 {
		name := []string{"johndoe", "JohnDoe", "JOHNDOE"}[i%3]
		status, got, _ := a.login(name, fmt.Sprint("guess", i), "")
		require.Equal(t, 400, status)
		require.Equal(t, "invalid_grant", got.Error)
	}
	require.Len(t, a.calls, 10)
	for _, password := range []string{"guess", "secret"} {
		status, got, body := a.login("johnDOE", password, "")
		require.Equal(t, 429, status, body)
		require.Equal(t, "slow_down", got.Error)
	}
	require.Len(t, a.calls, 10)
	status, _, body := a.login("alice", "wonder", "")
	require.Equal(t, 200, status, body)
}

// TestDemo: the program works as it is.
func TestDemo(t *testing.T) {
	a := startWith(t, demo{}, nil, time.Minute)
	status, got, body := a.login("johndoe", "secret", "reports")
	require.Equal(t, 200, status, body)
	status, body = a.get("/reports", got.Access)
	require.Equal(t, 200, status, body)
	status, _, body = a.login("johndoe", "wrong", "")
	require.Equal(t, 400, status, body)
}

// TestSpellings: the directory takes many spellings for one name, and no spelling has guesses of
// its own.
func TestSpellings(t *testing.T) {
	a := start(t, time.Minute)
	for _, name := range []string{"johndoe ", " johndoe", "john\u200bdoe", "ｊohndoe", "johndoe\x00"} {
		status, got, _ := a.login(name, "secret", "")
		require.Equal(t, 400, status, "%q", name)
		require.Equal(t, "invalid_grant", got.Error, "%q", name)
	}
	require.Empty(t, a.calls, "the directory is not called")
	status, _, body := a.login("JohnDoe", "secret", "")
	require.Equal(t, 200, status, body)
	guesses := 0
	for i := range 60 {
		name := []string{"johndoe", "JOHNDOE", "johndoe ", " JohnDoe"}[i%4]
		_, _, _ = a.login(name, fmt.Sprint("wrong", i), "")
	}
	for _, name := range a.calls[1:] {
		require.Equal(t, "johndoe", name)
		guesses++
	}
	require.Equal(t, 10, guesses)
}
