// Package check runs the apps of examples/adding over HTTP, before and after the login.
package check

import (
	"database/sql"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/examples/internal/readme"
	"github.com/oauth2pw/passwordflow/hasher"
)

// Before checks that an app without a login serves its handlers without a token.
func Before(t *testing.T, newApp func(*sql.DB) http.Handler) {
	a := start(t, newApp)
	a.open("/hello")
	a.items("")
	resp, _ := a.do(http.MethodPost, "/token", "", login("secret"))
	require.Contains(t, []int{404, 405}, resp.StatusCode)
}

// After checks that GET /items is open only to a token of the app's own login, that the rest of
// the app is unchanged, and that the commands of docs/adding-login.md print the shown output.
func After(t *testing.T, newApp func(*sql.DB) http.Handler) {
	commands := readme.BlocksOf(t, "../../../../docs/adding-login.md", "console")
	a := start(t, newApp)
	a.open("/hello")
	for _, test := range []struct{ token, challenge string }{
		{"", `Bearer realm="api"`},
		{"x.y.z", `error="invalid_token"`},
	} {
		resp, body := a.do(http.MethodGet, "/items", test.token, nil)
		require.Equal(t, 401, resp.StatusCode, body)
		require.Contains(t, resp.Header.Get("WWW-Authenticate"), test.challenge)
		require.NotContains(t, body, "Foo", "the handler ran after the refusal")
		require.True(t, json.Valid([]byte(body)), body)
	}
	resp, body := a.do(http.MethodPost, "/token", "", login("wrong"))
	require.Equal(t, 400, resp.StatusCode, body)
	require.Contains(t, body, `"error":"invalid_grant"`)
	resp, body = a.do(http.MethodGet, "/token", "", nil)
	require.Equal(t, 405, resp.StatusCode, body)
	require.Contains(t, body, `"error":"invalid_request"`)

	resp, body = a.do(http.MethodPost, "/token", "", login("secret"))
	require.Equal(t, 200, resp.StatusCode, body)
	var answer struct {
		AccessToken string `json:"access_token"`
		Scope       string `json:"scope"`
	}
	require.NoError(t, json.Unmarshal([]byte(body), &answer))
	require.Equal(t, "me", answer.Scope)
	a.items(answer.AccessToken)

	require.Len(t, commands, 1)
	readme.Run(t, commands[0], a.url, t.TempDir())
}

func login(password string) url.Values {
	return url.Values{"grant_type": {"password"}, "username": {"jane@example.com"}, "password": {password}}
}

type app struct {
	t   *testing.T
	url string
}

// start serves an app over a database with one user and two items.
func start(t *testing.T, newApp func(*sql.DB) http.Handler) app {
	t.Chdir(t.TempDir()) // the key is made where the program runs
	db, err := sql.Open("sqlite", "file:shop.db")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	hash, err := hasher.Default().Hash(t.Context(), "secret")
	require.NoError(t, err)
	for _, statement := range []string{
		"CREATE TABLE accounts (id INTEGER PRIMARY KEY, email TEXT UNIQUE, password TEXT)",
		"CREATE TABLE items (name TEXT)",
		"INSERT INTO items VALUES ('Foo'), ('Bar')",
	} {
		_, err := db.ExecContext(t.Context(), statement)
		require.NoError(t, err)
	}
	_, err = db.ExecContext(t.Context(), "INSERT INTO accounts VALUES (7, 'jane@example.com', ?)", hash)
	require.NoError(t, err)
	server := httptest.NewServer(newApp(db))
	t.Cleanup(server.Close)
	return app{t, server.URL}
}

func (a app) open(path string) {
	resp, body := a.do(http.MethodGet, path, "", nil)
	require.Equal(a.t, 200, resp.StatusCode, body)
	require.Contains(a.t, body, "hello")
}

func (a app) items(token string) {
	resp, body := a.do(http.MethodGet, "/items", token, nil)
	require.Equal(a.t, 200, resp.StatusCode, body)
	require.JSONEq(a.t, `["Foo", "Bar"]`, body)
}

// do sends a request and returns the answer with its body.
func (a app) do(method, path, token string, form url.Values) (*http.Response, string) {
	r, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path, strings.NewReader(form.Encode()))
	require.NoError(a.t, err)
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	require.NoError(a.t, err)
	defer func() { require.NoError(a.t, resp.Body.Close()) }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(a.t, err)
	return resp, string(body)
}
