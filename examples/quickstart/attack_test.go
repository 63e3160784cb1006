package main

import (
	"bytes"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestThrottle: the flag, and the 429 of every route that guesses.
func TestThrottle(t *testing.T) {
	p := start(t, cheapHash, "-throttle=3/1h")
	status, body := p.login("johndoe", "secret", "")
	require.Equal(t, 200, status, body)
	token := body["access_token"].(string)
	change := func(old string) *http.Response {
		r, err := http.NewRequest("POST", p.url+"/password", strings.NewReader(fmt.Sprintf(`{"old_password":%q,"new_password":"correct horse"}`, old)))
		require.NoError(t, err)
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	require.Equal(t, 403, change("wrong").StatusCode)
	for i := range 2 {
		status, _ = p.login("johndoe", fmt.Sprint("wrong", i), "")
		require.Equal(t, 400, status)
	}
	status, body = p.login("johndoe", "secret", "")
	require.Equal(t, 429, status)
	require.Equal(t, "slow_down", body["error"])
	resp := change("secret")
	require.Equal(t, 429, resp.StatusCode)
	wait, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	require.NoError(t, err)
	require.InDelta(t, 3600, wait, 60)
	status, body = p.login("alice", "wrong", "") // another account
	require.Equal(t, 400, status, body)
	p.stop()
	require.Contains(t, p.log(), "throttled")
	require.NotContains(t, p.log(), "wrong0")

	p = start(t, cheapHash, "-throttle=off")
	for range 150 {
		status, _ = p.login("johndoe", "wrong", "")
		require.Equal(t, 400, status)
	}
}

// TestCORS: scripts of the listed origins may call every route, and others may not.
//
// Conformance 74.
func TestCORS(t *testing.T) {
	const origin = "https://app.example.com"
	p := start(t, cheapHash, "-cors="+origin+",http://localhost:3000,capacitor://localhost")
	send := func(method, path, origin string, headers ...string) *http.Response {
		r, err := http.NewRequest(method, p.url+path, nil)
		require.NoError(t, err)
		r.Header.Set("Origin", origin)
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		resp, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		resp.Body.Close()
		return resp
	}
	for path, method := range map[string]string{"/token": "POST", "/revoke": "POST", "/users/me": "GET", "/sessions": "DELETE", "/sessions/x": "DELETE", "/password": "POST"} {
		resp := send("OPTIONS", path, origin, "Access-Control-Request-Method", method, "Access-Control-Request-Headers", "authorization,content-type,x-requested-with")
		require.Less(t, resp.StatusCode, 300, path)
		require.Equal(t, origin, resp.Header.Get("Access-Control-Allow-Origin"))
		require.Contains(t, resp.Header.Get("Access-Control-Allow-Methods"), method)
		require.Equal(t, "authorization,content-type,x-requested-with", resp.Header.Get("Access-Control-Allow-Headers"))
		require.Empty(t, resp.Header.Get("Access-Control-Allow-Credentials"))
		require.Contains(t, strings.Join(resp.Header.Values("Vary"), ","), "Origin")
		for _, other := range []string{"https://evil.example", "https://app.example.com.evil.example", "http://app.example.com", "null", "https://APP.example.com:443"} {
			resp := send("OPTIONS", path, other, "Access-Control-Request-Method", method)
			require.Empty(t, resp.Header.Get("Access-Control-Allow-Origin"), other)
		}
	}
	resp := send("GET", "/users/me", "http://localhost:3000")
	require.Equal(t, 401, resp.StatusCode)
	require.Equal(t, "http://localhost:3000", resp.Header.Get("Access-Control-Allow-Origin"), "a script may read errors too")
	require.Contains(t, resp.Header.Get("Access-Control-Expose-Headers"), "Www-Authenticate")

	// A page that is not listed cannot make a browser guess passwords either.
	post := func(origin string) int {
		r, err := http.NewRequest("POST", p.url+"/token", strings.NewReader("grant_type=password&username=johndoe&password=wrong"))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		r.Header.Set("Origin", origin)
		resp, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		resp.Body.Close()
		return resp.StatusCode
	}
	for range 20 {
		require.Equal(t, 403, post("https://evil.example"))
	}
	require.Equal(t, 400, post(origin))
	require.Equal(t, 400, post("capacitor://localhost"))

	p = start(t, cheapHash) // off: nobody may
	resp = send("OPTIONS", "/token", origin, "Access-Control-Request-Method", "POST")
	require.Equal(t, 405, resp.StatusCode)
	require.Empty(t, resp.Header.Get("Access-Control-Allow-Origin"))
}

// TestLaxForm: what FastAPI's front ends send, with -lax-form and without.
func TestLaxForm(t *testing.T) {
	for _, lax := range []bool{false, true} {
		args := []string{cheapHash, "-db=:memory:"}
		want := 400
		if lax {
			args, want = append(args, "-lax-form"), 200
		}
		p := start(t, args...)
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		require.NoError(t, w.WriteField("username", "johndoe"))
		require.NoError(t, w.WriteField("password", "secret"))
		require.NoError(t, w.Close())
		resp, err := http.Post(p.url+"/token", w.FormDataContentType(), &b)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, want, resp.StatusCode)
		resp, err = http.PostForm(p.url+"/token", url.Values{"username": {"johndoe"}, "password": {"secret"}})
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, want, resp.StatusCode)
	}
}

// TestWarnings: what weakens the app is said on stderr, and taken.
func TestWarnings(t *testing.T) {
	p := start(t, cheapHash, "-db=:memory:", "-throttle=off")
	require.Contains(t, p.log(), "-hash is weaker")
	require.Contains(t, p.log(), "-throttle=off")
	p = start(t, cheapHash, "-db=:memory:", "-proxy-header=X-Real-IP", "-refresh-idle=100h", "-refresh-max=1h")
	require.Contains(t, p.log(), "-proxy-header does nothing")
	require.Contains(t, p.log(), "-refresh-idle does nothing")
	p = start(t, "-hash=m=19456,t=2,p=1", "-db=:memory:")
	require.NotContains(t, p.log(), "-hash")
	require.NotContains(t, p.log(), "-throttle")
}

// peak is the process's peak resident memory, in MiB.
func (p *process) peak() int {
	p.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	require.NoError(p, err)
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			require.NoError(p, err)
			return kib / 1024
		}
	}
	p.Fatal("no VmHWM")
	return 0
}
