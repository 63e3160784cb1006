package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

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

// dial opens a connection and sends the beginning of a request.
func (p *process) dial(begin string) net.Conn {
	p.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(p, err)
	p.Cleanup(func() { conn.Close() })
	_, err = io.WriteString(conn, begin)
	require.NoError(p, err)
	return conn
}

// many is how many connections are opened: 10,000, if the machine allows as many
// open files.
func many(t *testing.T) int {
	t.Helper()
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	require.Greater(t, limit.Max, uint64(4096), "too few open files to show anything")
	n := int(min(limit.Max-2000, 10_000))
	t.Logf("%d connections", n)
	return n
}

// TestAbuse: slow clients, idle ones, and requests that are too large. An honest
// login still gets through, and the process stays small.
func TestAbuse(t *testing.T) {
	p := start(t, cheapHash)
	const headers = "POST /token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: "
	honest := func(during string) {
		t.Helper()
		status, body := p.login("johndoe", "secret", "")
		require.Equal(t, 200, status, "%s: %v", during, body)
	}
	var slow []net.Conn
	for range 500 {
		slow = append(slow, p.dial("POST /token HTTP/1.1\r\nHost: x\r\nX-Slow: "), p.dial(headers+"100\r\n\r\ngrant_type=pass"))
	}
	honest("slow headers and bodies")

	t.Run("a body of 1 GiB", func(t *testing.T) {
		for _, size := range []string{"1073741824\r\n\r\n", "1073741824\r\nExpect: 100-continue\r\n\r\n"} {
			conn := p.dial(headers + size)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			status, _ := readBody(t, resp)
			require.Equal(t, 413, status)
		}
		// Chunked, it does not say how long it is: it is cut off.
		resp, err := http.Post(p.url+"/token", "application/x-www-form-urlencoded", io.MultiReader(strings.NewReader("grant_type=password&x="), io.LimitReader(endless{}, 1<<30)))
		if err == nil {
			status, _ := readBody(t, resp)
			require.Equal(t, 413, status)
		}
	})
	t.Run("100,000 parameters", func(t *testing.T) {
		resp, err := http.Post(p.url+"/token", "application/x-www-form-urlencoded", strings.NewReader(strings.Repeat("a&", 30_000)))
		require.NoError(t, err)
		status, _ := readBody(t, resp)
		require.Equal(t, 400, status)
		resp, err = http.Post(p.url+"/token", "application/x-www-form-urlencoded", strings.NewReader(strings.Repeat("a&", 100_000)))
		require.NoError(t, err)
		status, _ = readBody(t, resp)
		require.Equal(t, 413, status)
		resp, err = http.PostForm(p.url+"/token?"+strings.Repeat("a&", 20_000), url.Values{"grant_type": {"password"}, "username": {"johndoe"}, "password": {"secret"}})
		require.NoError(t, err)
		status, _ = readBody(t, resp)
		require.Equal(t, 200, status, "in the URL they mean nothing")
	})
	t.Run("a header of 1 MiB", func(t *testing.T) {
		conn := p.dial("")
		go func() {
			_, _ = io.WriteString(conn, "GET /status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+strings.Repeat("a", 1<<20)+"\r\n\r\n")
		}()
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		require.Equal(t, 431, resp.StatusCode)
	})
	t.Run("10,000 idle connections", func(t *testing.T) {
		conns := make([]net.Conn, many(t))
		var wg sync.WaitGroup
		for worker := range 10 {
			wg.Go(func() {
				for i := worker; i < len(conns); i += 10 {
					conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
					if err != nil {
						t.Error(err)
						return
					}
					conns[i] = conn
					if _, err := io.WriteString(conn, "GET /status HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
						t.Error(err)
						return
					}
					line := make([]byte, 12)
					if _, err := io.ReadFull(conn, line); err != nil || !bytes.Equal(line, []byte("HTTP/1.1 401")) {
						t.Errorf("%s %v", line, err)
						return
					}
				}
			})
		}
		wg.Wait()
		defer func() {
			for _, conn := range conns {
				if conn != nil {
					conn.Close()
				}
			}
		}()
		honest("idle connections")
	})
	t.Run("10,000 silent connections", func(t *testing.T) {
		for range many(t) - len(slow) {
			p.dial("")
		}
		honest("silent connections")
	})
	// Whoever is slow with the headers is cut off after 10 seconds.
	require.NoError(t, slow[0].SetReadDeadline(time.Now().Add(time.Minute)))
	_, err := io.Copy(io.Discard, slow[0])
	require.NoError(t, err, "closed by the server")
	peak := p.peak()
	t.Logf("VmHWM %d MiB", peak)
	require.Less(t, peak, 200)
	honest("afterwards")
	p.stop()
}

// endless is a body without an end.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}
