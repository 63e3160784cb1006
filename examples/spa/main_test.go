package main

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/examples/internal/readme"
)

// TestServer: the page and its API. internal/clients opens the page with a browser.
func TestServer(t *testing.T) {
	o, err := parseFlags([]string{"-db=:memory:", "-hash=m=64,t=1,p=1", "-issuer=http://127.0.0.1"}, io.Discard)
	require.NoError(t, err)
	auth, err := newAuth(t.Context(), o, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	server := httptest.NewServer(routes(auth))
	defer server.Close()
	for path, contentType := range map[string]string{"/": "text/html", "/app.js": "text/javascript", "/session.js": "text/javascript"} {
		resp, err := http.Get(server.URL + path)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, 200, resp.StatusCode, path)
		require.Contains(t, resp.Header.Get("Content-Type"), contentType)
		require.Contains(t, resp.Header.Get("Content-Security-Policy"), "script-src 'self'")
	}
	resp, err := http.Get(server.URL + "/sessions")
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, 401, resp.StatusCode)
	for password, status := range map[string]int{"secret": 200, "wrong": 400} {
		resp, err := http.PostForm(server.URL+"/token", url.Values{"grant_type": {"password"}, "username": {"johndoe"}, "password": {password}})
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, status, resp.StatusCode)
	}
}

// TestModule: the page has the client of docs/clients.md, to the letter.
func TestModule(t *testing.T) {
	module, err := os.ReadFile("web/session.js")
	require.NoError(t, err)
	require.Equal(t, readme.BlocksOf(t, "../../docs/clients.md", "js")[0], string(module))
}
