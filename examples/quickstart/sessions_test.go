package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// do sends a request and returns its status and its body, decoded if it is JSON.
func (p *process) do(method, path, token, contentType, body string) (int, any) {
	p.Helper()
	r, err := http.NewRequest(method, p.url+path, strings.NewReader(body))
	require.NoError(p, err)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(r)
	require.NoError(p, err)
	status, text := readBody(p.T, resp)
	var v any
	if json.Unmarshal([]byte(text), &v) != nil {
		return status, text
	}
	return status, v
}

func (p *process) form(path string, pairs ...string) (int, map[string]any) {
	p.Helper()
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	status, v := p.do("POST", path, "", "application/x-www-form-urlencoded", form.Encode())
	m, _ := v.(map[string]any)
	return status, m
}

func (p *process) tokens(client ...string) (access, refresh string) {
	p.Helper()
	status, got := p.form("/token", append([]string{"grant_type", "password", "username", "johndoe", "password", "secret"}, client...)...)
	require.Equal(p, 200, status, got)
	return got["access_token"].(string), got["refresh_token"].(string)
}

func (p *process) refresh(token string) (int, string) {
	p.Helper()
	status, got := p.form("/token", "grant_type", "refresh_token", "refresh_token", token)
	next, _ := got["refresh_token"].(string)
	return status, next
}

func TestSessions(t *testing.T) {
	p := start(t, cheapHash, "-db=:memory:")
	phone, phoneRefresh := p.tokens("client_id", "webapp")
	laptop, laptopRefresh := p.tokens()

	status, list := p.do("GET", "/sessions", laptop, "", "")
	require.Equal(t, 200, status)
	sessions := list.([]any)
	require.Len(t, sessions, 2)
	newest, oldest := sessions[0].(map[string]any), sessions[1].(map[string]any)
	require.Equal(t, true, newest["current"])
	require.Nil(t, newest["client_id"])
	require.Equal(t, "webapp", oldest["client_id"])
	require.Equal(t, false, oldest["current"])
	for _, s := range sessions {
		m := s.(map[string]any)
		require.Len(t, m, 6)
		created, err := time.Parse(time.RFC3339, m["created_at"].(string))
		require.NoError(t, err)
		require.True(t, strings.HasSuffix(m["created_at"].(string), "Z"))
		require.Equal(t, m["created_at"], m["last_used_at"])
		expires, err := time.Parse(time.RFC3339, m["expires_at"].(string))
		require.NoError(t, err)
		require.Equal(t, 336*time.Hour, expires.Sub(created))
	}

	status, _ = p.do("DELETE", "/sessions/nonsense", laptop, "", "")
	require.Equal(t, 404, status)
	status, _ = p.do("DELETE", "/sessions/"+oldest["id"].(string), laptop, "", "")
	require.Equal(t, 204, status)
	status, _ = p.do("DELETE", "/sessions/"+oldest["id"].(string), laptop, "", "")
	require.Equal(t, 404, status)
	status, _ = p.get("/status", phone)
	require.Equal(t, 401, status)
	status, _ = p.form("/token", "grant_type", "refresh_token", "refresh_token", phoneRefresh, "client_id", "webapp")
	require.Equal(t, 400, status)
	status, laptopRefresh = p.refresh(laptopRefresh)
	require.Equal(t, 200, status)

	status, _ = p.do("DELETE", "/sessions", laptop, "", "")
	require.Equal(t, 204, status)
	status, _ = p.get("/status", laptop)
	require.Equal(t, 401, status)
	status, _ = p.refresh(laptopRefresh)
	require.Equal(t, 400, status)
	for _, path := range []string{"/sessions", "/sessions/x", "/password"} {
		method := map[string]string{"/password": "POST"}[path]
		if method == "" {
			method = "DELETE"
		}
		status, _ = p.do(method, path, "", "", "")
		require.Equal(t, 401, status)
	}
}

func TestPassword(t *testing.T) {
	p := start(t, cheapHash, "-db=:memory:")
	mine, mineRefresh := p.tokens()
	other, otherRefresh := p.tokens()
	change := func(body string) (int, any) { return p.do("POST", "/password", mine, "application/json", body) }
	for body, want := range map[string][2]any{
		`{"old_password":"secret","new_password":"1234567"}`:                           {422, "invalid_request"},
		`{"old_password":"secret","new_password":"ééééééé"}`:                           {422, "invalid_request"}, // 7 code points
		`{"old_password":"secret","new_password":"` + strings.Repeat("x", 1025) + `"}`: {422, "invalid_request"},
		`{"old_password":"secret","new_password":"Password1"}`:                         {422, "invalid_request"}, // on the deny-list
		`{"old_password":"secret","new_password":""}`:                                  {422, "invalid_request"},
		`{"old_password":"wrong","new_password":"1"}`:                                  {403, "invalid_grant"},
		`{"old_password":"","new_password":"long enough"}`:                             {403, "invalid_grant"},
		`{"old_password":"secret"}`:                                                    {400, "invalid_request"},
		`{"old_password":null,"new_password":"long enough"}`:                           {400, "invalid_request"},
		`{"old_password":1,"new_password":"long enough"}`:                              {400, "invalid_request"},
		`{"old_password":"secret","new_password":"long enough"} x`:                     {400, "invalid_request"},
		`[]`: {400, "invalid_request"},
		`old_password=secret&new_password=long+enough`: {400, "invalid_request"},
		``: {400, "invalid_request"},
		`{"old_password":"secret","new_password":"` + strings.Repeat("x", 100_000) + `"}`: {400, "invalid_request"},
	} {
		status, got := change(body)
		require.Equal(t, want[0], status, "%.80s: %v", body, got)
		m := got.(map[string]any)
		require.Equal(t, want[1], m["error"], "%.80s", body)
		require.NotEmpty(t, m["error_description"])
	}
	status, got := change(`{"old_password":"secret","new_password":"ééé éééé"}`) // 8 code points
	require.Equal(t, 200, status)
	now := got.(map[string]any)
	require.Equal(t, "bearer", now["token_type"])
	require.Equal(t, 900.0, now["expires_in"])
	status, _ = p.get("/status", mine)
	require.Equal(t, 401, status, "the caller's token from before")
	status, _ = p.refresh(mineRefresh)
	require.Equal(t, 400, status)
	status, list := p.do("GET", "/sessions", now["access_token"].(string), "", "")
	require.Equal(t, 200, status)
	require.Len(t, list, 1)
	require.Equal(t, true, list.([]any)[0].(map[string]any)["current"])
	status, _ = p.refresh(now["refresh_token"].(string))
	require.Equal(t, 200, status)
	status, _ = p.get("/status", other)
	require.Equal(t, 401, status)
	status, _ = p.refresh(otherRefresh)
	require.Equal(t, 400, status)
	status, _ = p.login("johndoe", "secret", "")
	require.Equal(t, 400, status)
	status, _ = p.login("johndoe", "ééé éééé", "")
	require.Equal(t, 200, status)
	p.stop()
	require.NotContains(t, p.log(), "long enough")
}

// TestOAuthEndpoints: revocation, introspection and metadata, from outside.
func TestOAuthEndpoints(t *testing.T) {
	p := start(t, cheapHash, "-db=:memory:")
	access, refresh := p.tokens()
	introspect := func(token string) map[string]any {
		status, got := p.form("/introspect", "token", token, "client_id", "reports", "client_secret", "reports-secret")
		require.Equal(t, 200, status)
		return got
	}
	got := introspect(access)
	require.Equal(t, true, got["active"])
	require.Equal(t, "johndoe", got["username"])
	require.Equal(t, p.url, got["iss"])
	require.Equal(t, map[string]any{"active": false}, introspect(refresh))
	status, got := p.form("/revoke", "token", refresh)
	require.Equal(t, 200, status)
	require.Empty(t, got)
	require.Equal(t, map[string]any{"active": false}, introspect(access))
	status, _ = p.get("/status", access)
	require.Equal(t, 401, status)

	status, doc := p.do("GET", "/.well-known/oauth-authorization-server", "", "", "")
	require.Equal(t, 200, status)
	m := doc.(map[string]any)
	require.Equal(t, p.url, m["issuer"])
	require.Equal(t, p.url+"/token", m["token_endpoint"])
	require.Equal(t, []any{"password", "refresh_token"}, m["grant_types_supported"])
	require.Equal(t, p.url+"/.well-known/jwks.json", m["jwks_uri"])
	status, doc = p.do("GET", "/.well-known/jwks.json", "", "", "")
	require.Equal(t, 200, status)
	keys := doc.(map[string]any)["keys"].([]any)
	require.Len(t, keys, 1)
	require.Equal(t, "OKP", keys[0].(map[string]any)["kty"])
	require.NotContains(t, keys[0], "d")
	status, _ = p.do("GET", "/.well-known/oauth-authorization-server/t1", "", "", "")
	require.Equal(t, 404, status)

	q := start(t, cheapHash, "-db=:memory:", "-issuer=https://api.example.com/t1")
	for _, path := range []string{"", "/t1"} {
		status, doc := q.do("GET", "/.well-known/oauth-authorization-server"+path, "", "", "")
		require.Equal(t, 200, status)
		require.Equal(t, "https://api.example.com/t1/token", doc.(map[string]any)["token_endpoint"])
	}
}

// TestRefreshForgive: -refresh-forgive. The token just replaced gets another successor once the
// grace period has passed, and the first successor is reuse.
func TestRefreshForgive(t *testing.T) {
	p := start(t, cheapHash, "-db=:memory:", "-refresh-grace=1ms", "-refresh-forgive=1h")
	_, got := p.form("/token", "grant_type", "password", "username", "johndoe", "password", "secret")
	lost := got["refresh_token"].(string)
	status, unused := p.refresh(lost)
	require.Equal(t, 200, status)
	next := unused
	require.Eventually(t, func() bool {
		if status, next = p.refresh(lost); status != 200 {
			return true
		}
		return next != unused
	}, time.Minute, time.Millisecond, "the grace period passes")
	require.Equal(t, 200, status)
	status, _ = p.refresh(unused)
	require.Equal(t, 400, status)
	status, _ = p.refresh(next)
	require.Equal(t, 400, status, "the reuse has ended the session")
}

// TestRefreshFlags: -refresh-grace, -refresh-idle, -refresh-max and -secret.
func TestRefreshFlags(t *testing.T) {
	p := start(t, cheapHash, "-db=:memory:", "-refresh-grace=0", "-refresh-idle=90s", "-refresh-max=120s")
	status, got := p.form("/token", "grant_type", "password", "username", "johndoe", "password", "secret")
	require.Equal(t, 200, status)
	require.LessOrEqual(t, got["expires_in"], 90.0, "an access token does not outlive its session")
	first := got["refresh_token"].(string)
	status, second := p.refresh(first)
	require.Equal(t, 200, status)
	status, _ = p.refresh(first)
	require.Equal(t, 400, status)
	status, _ = p.refresh(second)
	require.Equal(t, 400, status)

	dir := t.TempDir()
	file := func(name string, secrets ...string) string {
		path := filepath.Join(dir, name)
		text := ""
		for _, s := range secrets {
			text += base64.StdEncoding.EncodeToString([]byte(strings.Repeat(s, 32))) + "\r\n"
		}
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	db := "-db=" + filepath.Join(dir, "test.db")
	p = start(t, cheapHash, db, "-issuer=https://api.example.com", "-secret="+file("old", "a"))
	_, token := p.tokens()
	p.stop()
	p = start(t, cheapHash, db, "-issuer=https://api.example.com", "-secret="+file("both", "b", "a"))
	status, next := p.refresh(token)
	require.Equal(t, 200, status)
	p.stop()
	p = start(t, cheapHash, db, "-issuer=https://api.example.com", "-secret="+file("new", "b"))
	status, _ = p.refresh(next)
	require.Equal(t, 400, status)
	require.NoFileExists(t, filepath.Join(dir, "test.db.secret"))
}

// TestAdministrationEndsSessions: -disable and -delete end sessions for good,
// beside a running server.
func TestAdministrationEndsSessions(t *testing.T) {
	db := filepath.Join(t.TempDir(), "test.db")
	p := start(t, cheapHash, "-db="+db)
	access, refresh := p.tokens()
	for _, verb := range []string{"disable", "enable"} {
		out, err := exec.Command(binary, "-db="+db, fmt.Sprintf("-%s=johndoe", verb)).CombinedOutput()
		require.NoError(t, err, string(out))
	}
	status, _ := p.get("/status", access)
	require.Equal(t, 401, status)
	status, _ = p.refresh(refresh)
	require.Equal(t, 400, status)
	access, _ = p.tokens()
	status, _ = p.get("/status", access)
	require.Equal(t, 200, status)
}
